package outbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// childEnv makes the test binary a process to be killed, or one with a disk of
// its own; its value says which, and where.
const childEnv = "OUTBOX_TEST_CHILD"

func TestMain(m *testing.M) {
	if path, ok := strings.CutPrefix(os.Getenv(childEnv), "work:"); ok {
		worker(path)
	}
	os.Exit(m.Run())
}

// TestKilled kills the process that uses a store, again and again, at random
// moments: what was accepted is there, once and in order, with its mark.
func TestKilled(t *testing.T) { kills(t, 10) }

func TestTortureKilled(t *testing.T) {
	if os.Getenv("HALLAGENT_TORTURE") == "" {
		t.Skip("in make torture")
	}
	kills(t, 300)
}

func kills(t *testing.T, kills int) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(17, 19))
	var slowest time.Duration
	for i := range kills {
		l, stop := work(t, dir)
		more := uint64(random.IntN(60))
		first := uint64(0)
		l.until(t, 30*time.Second, "going on", func(accepted, _ uint64) bool {
			if first == 0 {
				first = accepted
			}
			return first > 0 && accepted >= first+more
		})
		stop()
		accepted, acknowledged, _, _ := l.now()
		began := time.Now()
		if how := inspect(t, fmt.Sprintf("kill %d", i), dir, accepted, acknowledged); how != "" {
			t.Fatalf("kill %d: the store is %s", i, how)
		}
		slowest = max(slowest, time.Since(began))
	}
	v, err := Verify(filepath.Join(dir, "visits.db"))
	if err != nil || len(v.Problems) > 0 {
		t.Errorf("verify: %+v, %v", v, err)
	}
	t.Logf("%d kills; slowest start with all its checks %v", kills, slowest)
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
		epochs("") // that of the store
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
