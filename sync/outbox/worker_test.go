package outbox

import (
	"bufio"
	"bytes"
	"context"
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
	"testing"
	"time"
)

// powerValue of the nth record: no two neighbours alike, of all lengths.
func powerValue(n uint64) []byte {
	random := rand.New(rand.NewPCG(n, 5))
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, n), 1+random.IntN(20)+random.IntN(2)*random.IntN(400))
}

// worker is the process that uses a disk: it appends one record after the other,
// acknowledges some, compacts at times, and prints "+ n" when record n was
// accepted, "- n" when n was acknowledged, "! why" when a record was refused.
func worker(path string) {
	o := New(Options{Path: path, Stream: "visits", Log: quiet(), NewEpoch: newEpoch()})
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	go o.Run(context.Background())
	go func() {
		for round := 1; ; round++ {
			s := o.Status()
			if s.Pending > 40 {
				to := Position{s.Epoch, s.Acknowledged + (s.Last-s.Acknowledged)/2}
				if o.Acknowledge(context.Background(), to) == nil {
					say("- %d", to.Seq)
				}
			}
			if round%10 == 0 {
				o.Compact(context.Background())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	for open := false; !open; {
		select {
		case <-o.Opened():
			open = true
		case <-time.After(10 * time.Millisecond):
			if err := o.SetMarks(context.Background(), Mark{"early", nil}); err != nil {
				say("! %v", err)
			}
		}
	}
	for n := o.Status().Last + 1; ; {
		_, err := o.Append(context.Background(), powerValue(n), Mark{"total", binary.BigEndian.AppendUint64(nil, n)})
		if err != nil {
			say("! %v", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		say("+ %d", n)
		n++
	}
}

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

// inspect opens the store that a worker left in a folder, after a kill or a power
// cut, and looks for what it had said.
func inspect(t *testing.T, name, dir string, accepted, acknowledged uint64) (how Beginning) {
	t.Helper()
	epochs := newEpoch()
	old, _, _ := epochs("")
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
