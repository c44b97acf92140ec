package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// start runs an outbox in a folder of its own, or at o.Path, for as long as the
// test lives, and waits until it is open.
func start(t testing.TB, o Options) *Outbox {
	t.Helper()
	box, _ := startStop(t, o)
	return box
}

func startStop(t testing.TB, o Options) (*Outbox, func()) {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "visits.db")
	}
	if o.Stream == "" {
		o.Stream = "visits"
	}
	if o.NewEpoch == nil {
		o.NewEpoch = newEpoch()
	}
	if o.Log == nil {
		o.Log = quiet()
	}
	box := New(o)
	if _, measured := t.(*testing.B); !measured {
		box.retry = 10 * time.Millisecond
	}
	stop := run(t, box)
	select {
	case <-box.Opened():
	case <-time.After(10 * time.Second):
		t.Fatalf("not open: %+v", box.Status())
	}
	return box, stop
}

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newEpoch gives 000001-9f3a77c2, then 000002-9f3a77c2, and so on.
func newEpoch() func(string) (epoch, before string, err error) {
	var n atomic.Uint32
	return func(string) (string, string, error) { return fmt.Sprintf("%06d-9f3a77c2", n.Add(1)), "", nil }
}

// run runs box until stop is called or the test ends.
func run(t testing.TB, box *Outbox) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- box.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// until waits for the status to be as ok wants it.
func until(t *testing.T, o *Outbox, what string, ok func(Status) bool) Status {
	t.Helper()
	for deadline := time.After(10 * time.Second); ; {
		if s := o.Status(); ok(s) {
			return s
		}
		select {
		case <-deadline:
			t.Fatalf("not %s: %+v", what, o.Status())
		case <-time.After(time.Millisecond):
		}
	}
}

func add(t *testing.T, o *Outbox, value string, marks ...Mark) Position {
	t.Helper()
	p, err := o.Append(t.Context(), []byte(value), marks...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// all reads everything that is pending, in small steps.
func all(t *testing.T, o *Outbox) []Record {
	t.Helper()
	var records []Record
	var after Position
	for {
		next, err := o.Read(after, 7, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(next) == 0 {
			return records
		}
		records = append(records, next...)
		after = next[len(next)-1].Position
	}
}

// settled waits until what is too much was dropped, which is after the append.
func settled(t *testing.T, o *Outbox) {
	t.Helper()
	until(t, o, "within its size", func(s Status) bool {
		return !(&state{Pending: s.Pending, PendingBytes: s.PendingBytes}).over(o.opts.MaxSize)
	})
}

// balance checks the books against what is on disk.
func balance(t *testing.T, o *Outbox) {
	t.Helper()
	settled(t, o)
	all(t, o) // finds damage, replaces it by gaps and joins those
	records := all(t, o)
	s := o.Status()
	var dropped, pending, gaps uint64
	for _, n := range s.Dropped {
		dropped += n
	}
	if s.Accepted != s.AcknowledgedCount+s.Pending+dropped {
		t.Fatalf("books: %d accepted, %d acknowledged, %d pending, %d dropped", s.Accepted, s.AcknowledgedCount, s.Pending, dropped)
	}
	var bytes int64
	for _, r := range records {
		if r.Gap != nil {
			gaps++
			continue
		}
		pending++
		bytes += int64(len(r.Value)) + headerSize + 8
	}
	if s.Pending != pending || s.Gaps != gaps || s.PendingBytes != bytes && s.Dropped[ReasonCorruption] == 0 {
		t.Fatalf("books say %d records of %d bytes and %d gaps, the disk holds %d of %d and %d",
			s.Pending, s.PendingBytes, s.Gaps, pending, bytes, gaps)
	}
}

func TestOrderAndAcknowledge(t *testing.T) {
	o := start(t, Options{})
	for i := range 50 {
		p := add(t, o, fmt.Sprint(i))
		if p != (Position{"000001-9f3a77c2", uint64(i + 1)}) {
			t.Fatalf("record %d has position %v", i, p)
		}
	}
	records := all(t, o)
	for i, r := range records {
		if string(r.Value) != fmt.Sprint(i) || r.Seq != uint64(i+1) || time.Since(r.Recorded) > time.Minute || r.Recorded.Location() != time.UTC {
			t.Fatalf("record %d is %+v", i, r)
		}
	}
	if err := o.Acknowledge(t.Context(), records[19].Position); err != nil {
		t.Fatal(err)
	}
	if err := o.Acknowledge(t.Context(), records[4].Position); err != nil { // again, and lower
		t.Fatal(err)
	}
	if left := all(t, o); len(left) != 30 || left[0].Seq != 21 {
		t.Fatalf("%d records left, first %d", len(left), left[0].Seq)
	}
	for _, p := range []Position{{"000001-9f3a77c2", 51}, {"000002-00000000", 1}} {
		if err := o.Acknowledge(t.Context(), p); !errors.Is(err, ErrNoRecord) {
			t.Errorf("acknowledge %v: %v", p, err)
		}
	}
	s := o.Status()
	if s.Acknowledged != 20 || s.First != 21 || s.Last != 50 || s.AcknowledgedCount != 20 || s.Pending != 30 {
		t.Errorf("status %+v", s)
	}
	balance(t, o)
}

func TestReadLimits(t *testing.T) {
	o := start(t, Options{})
	for range 10 {
		add(t, o, strings.Repeat("x", 100))
	}
	for _, c := range []struct{ after, most, bytes, want int }{
		{0, 3, 1 << 20, 3}, {0, 100, 250, 2}, {0, 100, 1, 1}, {8, 100, 1 << 20, 2}, {10, 100, 1 << 20, 0},
	} {
		got, err := o.Read(Position{"000001-9f3a77c2", uint64(c.after)}, c.most, c.bytes)
		if err != nil || len(got) != c.want {
			t.Errorf("%+v: %d records, %v", c, len(got), err)
		}
	}
	if _, err := o.Append(t.Context(), make([]byte, MaxValue+1)); err == nil {
		t.Error("a value beyond MaxValue was taken")
	}
}

// Values of one caller keep their order, and each caller's position is its own.
func TestConcurrency(t *testing.T) {
	o := start(t, Options{})
	const callers, each = 32, 40
	var wg sync.WaitGroup
	positions := make([]map[uint64]string, callers)
	for c := range callers {
		positions[c] = map[uint64]string{}
		wg.Go(func() {
			for i := range each {
				value := fmt.Sprintf("%d/%d", c, i)
				p, err := o.Append(t.Context(), []byte(value))
				if err != nil {
					t.Error(err)
					return
				}
				positions[c][p.Seq] = value
			}
		})
	}
	wg.Go(func() { // the uplink meanwhile
		for upto := uint64(0); upto < callers*each/2; {
			woken := o.Appended()
			records, err := o.Read(Position{"000001-9f3a77c2", upto}, 100, 1<<20)
			if err != nil {
				t.Error(err)
				return
			}
			if len(records) == 0 {
				<-woken
				continue
			}
			upto = min(records[len(records)-1].Seq, callers*each/2)
			if err := o.Acknowledge(t.Context(), Position{"000001-9f3a77c2", upto}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	records := all(t, o)
	if len(records) != callers*each/2 {
		t.Fatalf("%d records left", len(records))
	}
	next := map[string]int{}
	for _, r := range records {
		caller, i, _ := strings.Cut(string(r.Value), "/")
		n, _ := strconv.Atoi(i)
		c, _ := strconv.Atoi(caller)
		if last, ok := next[caller]; ok && n != last {
			t.Fatalf("caller %s: value %d after %d", caller, n, last-1)
		}
		next[caller] = n + 1
		if positions[c][r.Seq] != string(r.Value) {
			t.Fatalf("record %d holds %s, its caller was told %q", r.Seq, r.Value, positions[c][r.Seq])
		}
	}
	if s := o.Status(); s.Commits >= callers*each {
		t.Errorf("%d commits: nothing was shared", s.Commits)
	}
	balance(t, o)
}

// An acknowledgement of many records takes several transactions, and who
// appends meanwhile does not wait for all of them.
func TestAcknowledgeMany(t *testing.T) {
	o := start(t, Options{})
	var wg sync.WaitGroup
	const n = perTransaction*2 + 100
	for range 128 {
		wg.Go(func() {
			for range n/128 + 1 {
				if _, err := o.Append(t.Context(), []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	before := o.Status()
	if err := o.Acknowledge(t.Context(), Position{before.Epoch, before.Last - 1}); err != nil {
		t.Fatal(err)
	}
	after := o.Status()
	if after.Commits-before.Commits < 3 || after.Pending != 1 || after.Acknowledged != before.Last-1 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	balance(t, o)
}

func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	o, stop := startStop(t, Options{Path: path})
	for i := range 10 {
		add(t, o, fmt.Sprint(i), Mark{"gate-1", []byte{byte(i)}})
	}
	if err := o.Acknowledge(t.Context(), Position{o.Status().Epoch, 10}); err != nil {
		t.Fatal(err)
	}
	before := o.Status()
	stop()
	if _, err := o.Append(t.Context(), nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("append after the end: %v", err)
	}
	if _, err := o.Read(Position{}, 1, 1); !errors.Is(err, ErrUnavailable) {
		t.Errorf("read after the end: %v", err)
	}

	o = start(t, Options{Path: path, NewEpoch: func(string) (string, string, error) { return "", "", errors.New("a new epoch in an old store") }})
	after := o.Status()
	if after.Last != 10 || after.Acknowledged != 10 || after.Epoch != before.Epoch || after.Accepted != 10 || after.AcknowledgedCount != 10 {
		t.Errorf("after the restart: %+v", after)
	}
	if mark, err := o.Mark("gate-1"); err != nil || !bytes.Equal(mark, []byte{9}) {
		t.Errorf("mark %v, %v", mark, err)
	}
	if mark, err := o.Mark("gate-2"); err != nil || mark != nil {
		t.Errorf("mark never set: %v, %v", mark, err)
	}
	if p := add(t, o, "next"); p.Seq != 11 {
		t.Errorf("next record is %v", p)
	}
	if err := o.SetMarks(t.Context(), Mark{"gate-2", []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if mark, _ := o.Mark("gate-2"); string(mark) != "x" || o.Status().Last != 11 {
		t.Errorf("mark %q, status %+v", mark, o.Status())
	}
	balance(t, o)
}
