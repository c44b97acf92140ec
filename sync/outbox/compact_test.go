package outbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// fill appends n records of size bytes from many goroutines.
func fill(t testing.TB, o *Outbox, n, size int) {
	t.Helper()
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(n))
	value := []byte(strings.Repeat("v", size))
	for range 64 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := o.Append(context.Background(), value); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// drainAll reads and acknowledges everything but the newest record.
func drainAll(t testing.TB, o *Outbox) {
	t.Helper()
	var after Position
	for {
		records, err := o.Read(after, 512, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			break
		}
		after = records[len(records)-1].Position
	}
	after.Seq--
	if err := o.Acknowledge(context.Background(), after); err != nil {
		t.Fatal(err)
	}
}

func TestCompact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	o, stop := startStop(t, Options{Path: path})
	fill(t, o, 6000, 3000)
	for i := range 5 {
		add(t, o, "marked", Mark{"total", fmt.Append(nil, i)}, Mark{"estimate", []byte(strings.Repeat("e", 9000))})
	}
	before := fileSize(t, path)
	if before < compactFrom {
		t.Fatalf("file of %d bytes", before)
	}
	drainAll(t, o)
	s := until(t, o, "compacted", func(s Status) bool { return s.Compactions == 1 })
	if after := fileSize(t, path); after >= before/20 || s.FileBytes > after || s.Pause == 0 {
		t.Errorf("%d bytes before, %d after: %+v", before, after, s)
	}
	balance(t, o)
	p := add(t, o, "next")
	if p.Seq != 6006 {
		t.Errorf("the next record is %v", p)
	}
	stop()
	o = start(t, Options{Path: path})
	if s := o.Status(); s.Pending != 2 || s.Accepted != 6006 || s.Begun != "" {
		t.Errorf("after a restart: %+v", s)
	}
	if mark, err := o.Mark("total"); string(mark) != "4" || err != nil {
		t.Errorf("mark %q, %v", mark, err)
	}
	balance(t, o)
}

// Whatever goes on meanwhile, appends, acknowledgements, marks, records that
// turn out damaged: nothing is lost, doubled or out of order, and who asked for a
// compaction is answered.
func TestCompactWhileInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	o, stop := startStop(t, Options{Path: path})
	fill(t, o, 2000, 500)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var appended, acknowledged uint64
	wg.Go(func() {
		for ctx.Err() == nil {
			p, err := o.Append(context.Background(), []byte(fmt.Sprint(appended)), Mark{"total", fmt.Append(nil, o.Status().Last)})
			if err != nil {
				t.Error(err)
				return
			}
			if p.Seq != 2001+appended {
				t.Errorf("record %d is %v", appended, p)
			}
			appended++
		}
	})
	wg.Go(func() {
		for next := uint64(1); ctx.Err() == nil; {
			records, err := o.Read(Position{Epoch: o.Status().Epoch, Seq: next - 1}, 20, 1<<20)
			if err != nil {
				if !errors.Is(err, ErrUnavailable) { // the files change
					t.Error(err)
				}
				continue
			}
			for _, r := range records {
				if r.Seq != next {
					t.Errorf("expected %d, got %v", next, r.Position)
				}
				next++
			}
			if len(records) > 0 {
				if err := o.Acknowledge(context.Background(), records[len(records)-1].Position); err != nil {
					t.Error(err)
				}
				acknowledged = next - 1
			}
		}
	})
	for range 20 {
		if err := o.Compact(t.Context()); err != nil {
			t.Errorf("compact: %v", err)
		}
	}
	cancel()
	wg.Wait()
	s := o.Status()
	if s.Last != 2000+appended || s.Acknowledged != acknowledged || s.Compactions != 20 {
		t.Errorf("%d appended, %d acknowledged: %+v", appended, acknowledged, s)
	}
	balance(t, o)
	stop()
	v, err := Verify(path)
	if err != nil || len(v.Problems) > 0 {
		t.Errorf("verify: %v, %v", v, err)
	}
	t.Logf("20 compactions, %d appended meanwhile, %d acknowledged; longest pause %v", appended, acknowledged, s.Pause)
}

// The file stays within MaxSize whatever the records look like, and there is
// always room to drop and to acknowledge.
func TestFileWithinMaxSize(t *testing.T) {
	for _, size := range []int{200, 1600, 2100, 9000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			const most = 2 << 20
			path := filepath.Join(t.TempDir(), "visits.db")
			o, stop := startStop(t, Options{Path: path, MaxSize: most})
			largest := int64(0)
			for range 6 {
				fill(t, o, 1+most/2/(size+40), size)
				largest = max(largest, fileSize(t, path))
			}
			s := o.Status()
			if n := s.Dropped[ReasonCorruption]; n > 0 {
				t.Errorf("%d records were written damaged", n)
			}
			if largest > most || s.Dropped[ReasonSize] == 0 || s.PendingBytes < most/4 {
				t.Errorf("the file had %d bytes: %+v", largest, s)
			}
			balance(t, o)
			drainAll(t, o)
			if s := o.Status(); s.Pending != 1 {
				t.Errorf("not drained: %+v", s)
			}
			fill(t, o, 100, size)
			balance(t, o)
			stop()
			if v, err := Verify(path); err != nil || len(v.Problems) > 0 {
				t.Errorf("verify: %v, %v", v, err)
			}
		})
	}
}

// TestTortureBacklog drains a backlog of 1 GiB while records come in.
func TestTortureBacklog(t *testing.T) {
	if os.Getenv("HALLAGENT_TORTURE") == "" {
		t.Skip("in make torture")
	}
	const most = 1 << 30
	path := filepath.Join(t.TempDir(), "visits.db")
	o := start(t, Options{Path: path})
	for o.Status().FileBytes < most {
		fill(t, o, 100_000, 1600)
	}
	before := o.Status()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var longest time.Duration
	wg.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			if _, err := o.Append(context.Background(), make([]byte, 300)); err != nil {
				t.Error(err)
				return
			}
			longest = max(longest, time.Since(began))
		}
	})
	began := time.Now()
	for next := (Position{}); next.Seq < before.Last; {
		records, err := o.Read(next, 512, 1<<20)
		if errors.Is(err, ErrUnavailable) {
			continue
		}
		if err != nil || len(records) == 0 {
			t.Fatal(len(records), err)
		}
		next = records[len(records)-1].Position
		if err := o.Acknowledge(context.Background(), next); err != nil {
			t.Fatal(err)
		}
	}
	drained := time.Since(began)
	for o.Status().FileBytes >= 64<<20 && time.Since(began) < 10*time.Minute {
		time.Sleep(100 * time.Millisecond)
		drainAll(t, o)
	}
	small := time.Since(began)
	cancel()
	wg.Wait()
	s := o.Status()
	t.Logf("%d MiB drained in %v, below 64 MiB after %v: %d MiB after %d compactions; longest append %v, longest pause %v",
		before.FileBytes>>20, drained, small, fileSize(t, path)>>20, s.Compactions, longest, s.Pause)
	if fileSize(t, path) >= 64<<20 || longest > 200*time.Millisecond {
		t.Errorf("%d bytes, longest append %v", fileSize(t, path), longest)
	}
	balance(t, o)
}
