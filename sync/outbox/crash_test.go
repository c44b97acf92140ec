package outbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
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

// childEnv makes the test binary a process to be killed, or one with a disk of
// its own; its value says which, and where.
const childEnv = "OUTBOX_TEST_CHILD"

func TestMain(m *testing.M) {
	if path, ok := strings.CutPrefix(os.Getenv(childEnv), "append:"); ok {
		appendForever(path)
	}
	if path, ok := strings.CutPrefix(os.Getenv(childEnv), "work:"); ok {
		worker(path)
	}
	os.Exit(m.Run())
}

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
	for n := uint64(1); ; {
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

// appendForever appends from two goroutines and prints each sequence once it
// was accepted.
func appendForever(path string) {
	o := New(Options{Path: path, Stream: "visits", Log: quiet(),
		NewEpoch: newEpoch()})
	go o.Run(context.Background())
	<-o.Opened()
	var mu sync.Mutex
	for range 2 {
		go func() {
			for {
				p, err := o.Append(context.Background(), []byte("x"))
				if err != nil {
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(p.Seq)
				mu.Unlock()
			}
		}()
	}
	select {}
}

func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	for round := range 4 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childEnv+"=append:"+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		var accepted uint64
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			seq, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			accepted = max(accepted, seq)
			if n == 100+37*round {
				child.Process.Kill() // and read on: what was printed was accepted
			}
		}
		child.Wait()
		o, stop := startStop(t, Options{Path: path})
		if last := o.Status().Last; last < accepted {
			t.Fatalf("round %d: %d was accepted, the store ends at %d", round, accepted, last)
		}
		balance(t, o)
		stop()
	}
}

// A power cut may leave any of the pages of a commit that was not over, and half
// a meta page. The store then holds what it did before that commit, or after it,
// and never anything between: marks belong to the last record. Half a meta page
// may also be one that rotted later, so a new epoch begins with it.
func TestTornCommit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "visits.db")
	random := rand.New(rand.NewPCG(1, 2))
	o := start(t, Options{Path: path, MaxSize: 6000})
	snapshot := func() []byte { // nobody writes now
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	value := func(n uint64) []byte { return bytes.Repeat([]byte{byte('a' + n%26)}, int(n%300)) }
	before, page := snapshot(), os.Getpagesize()
	salvaged := 0
	for round := range uint64(60) {
		_, err := o.Append(t.Context(), value(round+1), Mark{"total", binary.BigEndian.AppendUint64(nil, round+1)})
		if err != nil {
			t.Fatal(err)
		}
		after := snapshot()
		last := round
		torn := bytes.Clone(after)
		for at := 0; at+page <= len(before); at += page { // which pages reached the disk
			if at < 2*page || random.IntN(2) == 0 {
				copy(torn[at:at+page], before[at:])
			}
		}
		if round%3 == 0 { // all data pages did, and part of the meta page
			torn = bytes.Clone(after)
			for at := 0; at < 2*page; at += page {
				cut := at + random.IntN(100)
				copy(torn[cut:at+page], before[cut:])
			}
		}
		before = after
		if round == 0 {
			continue
		}
		copied := filepath.Join(dir, fmt.Sprintf("torn-%d.db", round))
		if err := os.WriteFile(copied, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		epochs := newEpoch()
		epochs() // that of the store
		again, stop := startStop(t, Options{Path: copied, MaxSize: 6000, NewEpoch: epochs})
		s := again.Status()
		records := all(t, again)
		if s.Begun == Salvaged {
			salvaged++
			end := records[len(records)-1]
			if g := end.Gap; g == nil || g.Reason != ReasonSalvage || g.Open || end.Seq != 1 || g.From != g.To+1 {
				t.Fatalf("round %d: the new epoch begins with %+v", round, end)
			}
			records, s.Last = records[:len(records)-1], end.Gap.To
		}
		if s.Last != last && s.Last != last+1 {
			t.Fatalf("round %d: the store ends at %d", round, s.Last)
		}
		mark, err := again.Mark("total")
		if err != nil || binary.BigEndian.Uint64(mark) != s.Last {
			t.Fatalf("round %d: last record %d, its mark %v, %v", round, s.Last, mark, err)
		}
		for _, r := range records {
			if r.Gap == nil && !bytes.Equal(r.Value, value(r.Seq)) {
				t.Fatalf("round %d: record %d holds %q", round, r.Seq, r.Value)
			}
		}
		if end := records[len(records)-1]; end.Seq != s.Last || s.Dropped[ReasonCorruption] != 0 {
			t.Fatalf("round %d: the last record is %d: %+v", round, end.Seq, s)
		}
		balance(t, again)
		stop()
	}
	if salvaged == 0 {
		t.Error("no meta page was torn")
	}
}
