package outbox

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ledger is what a worker has said.
type ledger struct {
	mu           sync.Mutex
	accepted     uint64
	acknowledged uint64
	refused      uint64
	why          string
	changed      chan struct{}
}

func (l *ledger) read(r io.Reader) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		what, rest, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.ParseUint(rest, 10, 64)
		l.mu.Lock()
		switch what {
		case "+":
			l.accepted = n
		case "-":
			l.acknowledged = n
		case "!":
			l.refused++
			l.why = rest
		}
		close(l.changed)
		l.changed = make(chan struct{})
		l.mu.Unlock()
	}
}

func (l *ledger) now() (accepted, acknowledged, refused uint64, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted, l.acknowledged, l.refused, l.why
}

// until waits for the worker to have said what ok wants.
func (l *ledger) until(t *testing.T, limit time.Duration, what string, ok func(accepted, refused uint64) bool) {
	t.Helper()
	for deadline := time.After(limit); ; {
		l.mu.Lock()
		done, changed := ok(l.accepted, l.refused), l.changed
		l.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("not %s within %v: %d accepted, %d refused, last: %s", what, limit, l.accepted, l.refused, l.why)
		}
	}
}

// work starts a worker on a disk; it is killed when the test ends, or by stop.
func work(t *testing.T, dir string) (l *ledger, stop func()) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=work:"+filepath.Join(dir, "visits.db"))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	l = &ledger{changed: make(chan struct{})}
	var reading sync.WaitGroup
	reading.Go(func() { l.read(out) })
	stop = sync.OnceFunc(func() {
		child.Process.Kill()
		reading.Wait()
		child.Wait()
	})
	t.Cleanup(stop)
	return l, stop
}

// inspect opens what a disk holds after its power was cut.
func inspect(t *testing.T, name string, image map[string][]byte, accepted, acknowledged uint64) (how Beginning) {
	t.Helper()
	dir := t.TempDir()
	defer os.RemoveAll(dir)
	for file, b := range image {
		if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	epochs := newEpoch()
	old, _, _ := epochs()
	o, stop := startStop(t, Options{Path: filepath.Join(dir, "visits.db"), NewEpoch: epochs})
	defer stop()
	records := all(t, o)
	s := o.Status()
	first, next := uint64(0), uint64(0)
	for _, r := range records {
		if r.Epoch != old {
			if r.Gap == nil || r.Gap.Open || r.Gap.From != r.Gap.To+1 {
				t.Fatalf("%s: the new epoch begins with %+v", name, r.Gap)
			}
			continue
		}
		if r.Gap != nil {
			t.Fatalf("%s: lost %+v", name, r.Gap)
		}
		if next == 0 {
			first, next = r.Seq, r.Seq
		}
		if r.Seq != next || !bytes.Equal(r.Value, powerValue(r.Seq)) {
			t.Fatalf("%s: record %d where %d was to come", name, r.Seq, next)
		}
		next++
	}
	if next == 0 { // all of it is acknowledged
		first, next = acknowledged+1, accepted+1
	}
	if next-1 < accepted || first <= acknowledged && acknowledged > 0 {
		t.Fatalf("%s: %d to %d are there, %d were accepted and %d acknowledged", name, first, next-1, accepted, acknowledged)
	}
	mark, err := o.Mark("total")
	if err != nil || len(mark) != 8 && accepted > 0 {
		t.Fatalf("%s: mark %x, %v", name, mark, err)
	}
	if last := next - 1; len(records) > 0 && len(mark) == 8 && binary.BigEndian.Uint64(mark) != last {
		t.Fatalf("%s: the last record is %d, its mark %d", name, last, binary.BigEndian.Uint64(mark))
	}
	if s.Dropped[ReasonCorruption] > 0 {
		t.Fatalf("%s: %+v", name, s)
	}
	balance(t, o)
	return s.Begun
}

// TestPowerCut cuts the power of a disk at random moments of a store's life, also
// in the midst of compactions.
func TestPowerCut(t *testing.T) { powerCuts(t, 25) }

func TestTorturePowerCut(t *testing.T) {
	if os.Getenv("HALLAGENT_TORTURE") == "" {
		t.Skip("in make torture")
	}
	powerCuts(t, 300)
}

func powerCuts(t *testing.T, cuts int) {
	d, dir := mountDisk(t)
	l, stop := work(t, dir)
	random := rand.New(rand.NewPCG(11, 13))
	how := map[Beginning]int{}
	l.until(t, 30*time.Second, "started", func(accepted, _ uint64) bool { return accepted > 0 })
	_, _, early, _ := l.now() // before the store was open
	for i := range cuts {
		before, _, _, _ := l.now()
		more := uint64(random.IntN(40))
		l.until(t, 30*time.Second, "going on", func(accepted, _ uint64) bool { return accepted > before+more })
		accepted, acknowledged, _, _ := l.now() // before the cut: at least that much must be there
		how[inspect(t, fmt.Sprintf("cut %d", i), d.cut(random), accepted, acknowledged)]++
	}
	stop()
	accepted, acknowledged, refused, why := l.now()
	t.Logf("%d cuts, %d accepted, %d acknowledged, %d refused; stores that began: %v", cuts, accepted, acknowledged, refused, how)
	if refused > early {
		t.Errorf("%d records were refused: %s", refused, why)
	}
}

// TestDiskFaults fills a disk, makes it fail and makes it read-only, under a
// store that is in use; each time it comes back by itself, and nothing that was
// accepted is lost.
func TestDiskFaults(t *testing.T) {
	d, dir := mountDisk(t)
	d.set(func() { d.capacity = 64 << 20 })
	l, stop := work(t, dir)
	running := func(what string, limit time.Duration) time.Duration {
		before, _, _, _ := l.now()
		began := time.Now()
		l.until(t, limit, what, func(accepted, _ uint64) bool { return accepted > before+5 })
		return time.Since(began)
	}
	refusing := func(what string) {
		_, _, before, _ := l.now()
		l.until(t, 30*time.Second, what, func(_, refused uint64) bool { return refused > before+3 })
	}
	running("started", 10*time.Second)
	whole := func() (used int) {
		d.set(func() {
			for _, f := range d.names {
				used += len(f.data)
			}
		})
		return used
	}
	for _, f := range []struct {
		what      string
		fail, end func()
	}{
		{"full", func() { d.capacity = 1 }, func() { d.capacity = 64 << 20 }},
		{"failing", func() { d.fault = syscall.EIO }, func() { d.fault = 0 }},
		{"read-only", func() { d.fault = syscall.EROFS }, func() { d.fault = 0 }},
	} {
		d.set(f.fail)
		if f.what == "full" { // while pages are free in the file, it goes on
			select {
			case <-time.After(time.Second):
			case <-t.Context().Done():
			}
			t.Logf("full at %d bytes", whole())
		} else {
			refusing(f.what)
		}
		_, _, refused, why := l.now()
		d.set(f.end)
		t.Logf("%s: %d refused so far (%s); taking records again after %v", f.what, refused, why, running("back", 30*time.Second))
	}
	stop()
	accepted, acknowledged, _, _ := l.now()
	var image map[string][]byte
	d.set(func() {
		image = map[string][]byte{}
		for name, f := range d.names {
			image[name] = f.data
		}
	})
	if how := inspect(t, "at the end", image, accepted, acknowledged); how != "" {
		t.Errorf("the store is %s", how)
	}
}

// TestDiskFromTheStart starts on a disk that takes nothing, and goes on by itself
// when it does.
func TestDiskFromTheStart(t *testing.T) {
	d, dir := mountDisk(t)
	d.set(func() { d.fault = syscall.EROFS })
	l, _ := work(t, dir)
	l.until(t, 10*time.Second, "refusing", func(_, refused uint64) bool { return refused > 3 })
	if accepted, _, _, why := l.now(); accepted > 0 || why != ErrUnavailable.Error() {
		t.Errorf("%d accepted, refused because of %q", accepted, why)
	}
	began := time.Now()
	d.set(func() { d.fault = 0 })
	l.until(t, 30*time.Second, "back", func(accepted, _ uint64) bool { return accepted > 3 })
	t.Logf("taking records after %v", time.Since(began))
}
