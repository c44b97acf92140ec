package agent

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/counter/occupancy"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/wire"
)

// TestCorrection sets the number by a head count: it is there after a restart with
// who made it, and without a store neither is.
func TestCorrection(t *testing.T) {
	dir := t.TempDir()
	p, stop := openPasses(t, dir)
	now := time.Now()
	if err := p.take(t.Context(), update(now, 9, 1)); err != nil {
		t.Fatal(err)
	}
	heard := func() occupancy.Snapshot {
		now := time.Now()
		return p.snapshot(now, []counter.Status{{ID: "gate-1", Door: "D1", LastReading: now}})
	}
	c, err := p.correct(t.Context(), "ws-1", 23, "head count", heard)
	if err != nil || c.Old == nil || *c.Old != 8 || c.New != 23 || c.By != "ws-1" {
		t.Fatalf("%+v, %v", c, err)
	}
	if n := *heard().People; n != 23 {
		t.Errorf("%d people", n)
	}
	stop()
	if _, err := p.correct(t.Context(), "ws-1", 5, "head count", heard); err == nil {
		t.Error("accepted without a store")
	}
	p, _ = openPasses(t, dir)
	if n := *heard().People; n != 23 {
		t.Errorf("%d people after a restart", n)
	}
	all, err := p.corrections(time.Now())
	var event struct {
		Type string
		Data wire.Correction
	}
	if err != nil || len(all) != 1 || json.Unmarshal(all[0], &event) != nil || event.Type != wire.TypeCorrection || event.Data.Reason != "head count" {
		t.Errorf("%s, %v", all, err)
	}
	if old, err := p.corrections(time.Now().Add(correctionLife)); err != nil || len(old) != 0 {
		t.Errorf("after a week %s, %v", old, err)
	}
}

// TestDamagedEstimate begins the estimate anew, and says so, where its state
// cannot be understood; passes go on to the disk.
func TestDamagedEstimate(t *testing.T) {
	p, _ := openPasses(t, t.TempDir())
	now := time.Now()
	if err := p.take(t.Context(), update(now, 9, 1)); err != nil {
		t.Fatal(err)
	}
	if err := p.outbox.SetMarks(t.Context(), outbox.Mark{Name: occupancyMark + "state", Value: []byte("{")}); err != nil {
		t.Fatal(err)
	}
	p.loaded = false
	if err := p.take(t.Context(), update(now.Add(time.Second), 2, 0)); err != nil {
		t.Fatal(err)
	}
	if n := p.outbox.Status().Accepted; n != 2 {
		t.Errorf("%d records", n)
	}
	s := p.snapshot(now.Add(time.Second), []counter.Status{{ID: "gate-1", Door: "D1", LastReading: now}})
	if s.Trust == occupancy.Good {
		t.Errorf("%+v", s)
	}
}
