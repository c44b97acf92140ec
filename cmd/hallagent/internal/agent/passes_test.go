package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/counter/occupancy"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/wire"
)

var testSettings = occupancy.Settings{
	Capacity: 100, Location: time.UTC,
	Doors: []occupancy.Door{{ID: "D1", Role: occupancy.Visitor, Counters: []string{"gate-1"}}},
}

// openPasses runs a store in a directory and the passes on it.
func openPasses(t *testing.T, dir string) (p *passes, stop func()) {
	t.Helper()
	box := outbox.New(outbox.Options{
		Path: filepath.Join(dir, "visits.db"), Stream: visits,
		NewEpoch: (&boot{path: filepath.Join(dir, "boot")}).epoch, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { box.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	select {
	case <-box.Opened():
	case <-time.After(10 * time.Second):
		t.Fatal("the store does not open")
	}
	return &passes{
		hall: wire.Hall{Area: "371003", ID: "test"}, settings: testSettings,
		outbox: box, clock: newClock(), log: slog.New(slog.DiscardHandler), changed: make(chan struct{}, 1),
	}, stop
}

func update(at time.Time, in, out uint64) counter.Update {
	return counter.Update{
		Pass: counter.Pass{Device: "gate-1", Door: "D1", In: in, Out: out, From: at.Add(-time.Second), To: at},
		Mark: []byte(at.Format(time.RFC3339)),
	}
}

// TestPassesSurviveRestart gives the same numbers after a restart in mid-day,
// and the mark of the last pass.
func TestPassesSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	heard := []counter.Status{{ID: "gate-1", Door: "D1", LastReading: noon.Add(5 * time.Second)}}
	p, stop := openPasses(t, dir)
	for i := range 5 {
		if err := p.take(t.Context(), update(noon.Add(time.Duration(i)*time.Second), 3, 1)); err != nil {
			t.Fatal(err)
		}
	}
	before := p.snapshot(noon.Add(6*time.Second), heard)
	if before.People == nil || *before.People != 10 || before.In != 15 {
		t.Fatalf("snapshot %+v", before)
	}
	stop()
	p, _ = openPasses(t, dir)
	if after := p.snapshot(noon.Add(6*time.Second), heard); !reflect.DeepEqual(before, after) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if mark, err := p.mark("gate-1"); err != nil || string(mark) != "2026-11-23T12:00:04Z" {
		t.Errorf("mark %q, %v", mark, err)
	}
	p, _ = openPasses(t, t.TempDir())
	if s := p.snapshot(noon, nil); s.People != nil || s.Trust != "unknown" {
		t.Errorf("nothing was heard, and yet %+v", s)
	}
}

// TestPassesWithoutStore refuses what it cannot keep, counts it in no number, and
// takes it once the store is back.
func TestPassesWithoutStore(t *testing.T) {
	dir := t.TempDir()
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	heard := []counter.Status{{ID: "gate-1", Door: "D1", LastReading: noon}}
	p, stop := openPasses(t, dir)
	if err := p.take(t.Context(), update(noon, 2, 0)); err != nil {
		t.Fatal(err)
	}
	stop()
	for range 3 {
		if err := p.take(t.Context(), update(noon, 5, 0)); err == nil {
			t.Fatal("accepted without a store")
		}
	}
	again, _ := openPasses(t, dir)
	p.outbox = again.outbox
	if s := p.snapshot(noon, heard); s.In != 2 {
		t.Errorf("%d in, of which 2 are on disk", s.In)
	}
	if err := p.take(t.Context(), update(noon, 5, 0)); err != nil {
		t.Fatal(err)
	}
	if s := p.snapshot(noon, heard); s.In != 7 {
		t.Errorf("%d in, want 7", s.In)
	}
}

// TestSnapshotWhileStoring: a disk that takes its time holds up neither the page
// nor the metrics, and what is not on it yet is in no number.
func TestSnapshotWhileStoring(t *testing.T) {
	p, _ := openPasses(t, t.TempDir())
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	if err := p.take(t.Context(), update(noon, 2, 0)); err != nil {
		t.Fatal(err)
	}
	p.storing.Lock()
	stored := make(chan error, 1)
	go func() { stored <- p.take(t.Context(), update(noon, 5, 0)) }()
	if s := p.snapshot(noon, nil); s.In != 2 {
		t.Errorf("%d in, of which 2 are on disk", s.In)
	}
	p.storing.Unlock()
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	if s := p.snapshot(noon, nil); s.In != 7 {
		t.Errorf("%d in, want 7", s.In)
	}
}

// TestPassWithoutPeople moves the mark and no record.
func TestPassWithoutPeople(t *testing.T) {
	p, _ := openPasses(t, t.TempDir())
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	if err := p.take(t.Context(), update(noon, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if s := p.outbox.Status(); s.Accepted != 0 {
		t.Errorf("%d records", s.Accepted)
	}
	if mark, err := p.mark("gate-1"); err != nil || mark == nil {
		t.Errorf("mark %q, %v", mark, err)
	}
}

// TestPassesUnseen stores that a counter missed people with its mark, with a
// record and without one, and not when the store is away.
func TestPassesUnseen(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	heard := []counter.Status{{ID: "gate-1", Door: "D1", LastReading: noon.Add(time.Minute)}}
	calibrated := testSettings
	calibrated.Scale = 1
	for _, test := range []struct {
		note    counter.Note
		reason  occupancy.Reason
		records uint64
	}{
		{"", "", 0},
		{counter.Gap, "", 0},
		{counter.First, "unseen", 0},
		{counter.Rebased, "unseen", 1},
	} {
		t.Run(string(test.note), func(t *testing.T) {
			dir := t.TempDir()
			p, stop := openPasses(t, dir)
			p.settings = calibrated
			if err := p.take(t.Context(), update(noon, 5, 0)); err != nil {
				t.Fatal(err)
			}
			u := update(noon.Add(time.Minute), 0, 0)
			u.Note, u.Pass.Uncertain = test.note, test.note == counter.Rebased
			stop()
			if err := p.take(t.Context(), u); err == nil {
				t.Fatal("accepted without a store")
			}
			if s := p.snapshot(noon.Add(time.Minute), heard); s.Reason != "" {
				t.Errorf("%s before it is on disk", s.Reason)
			}
			p, stop = openPasses(t, dir)
			p.settings = calibrated
			if err := p.take(t.Context(), u); err != nil {
				t.Fatal(err)
			}
			if n := p.outbox.Status().Accepted; n != 1+test.records {
				t.Errorf("%d records, want one and %d", n, test.records)
			}
			stop()
			p, _ = openPasses(t, dir)
			p.settings = calibrated
			s := p.snapshot(noon.Add(time.Minute), heard)
			if s.Reason != test.reason || s.People == nil || *s.People != 5 {
				t.Errorf("after a restart %+v, want reason %q", s, test.reason)
			}
			if mark, err := p.mark("gate-1"); err != nil || string(mark) != "2026-11-23T12:01:00Z" {
				t.Errorf("mark %q, %v", mark, err)
			}
		})
	}
}
