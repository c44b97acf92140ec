package occupancy

import (
	"slices"
	"testing"
	"time"
)

// TestRewired finds a door whose directions are mixed up, and forgets it once they
// are set the other way: then a head count is enough for a number, on the same day.
func TestRewired(t *testing.T) {
	s := hall(1)
	s.Doors = []Door{{ID: "D1", Role: Visitor, Counters: []string{"gate-1"}, Sensor: "gate", Wiring: "as found"}}
	e := New(s)
	now := at(8, 30)
	visitors := func(e *Estimator, minutes int, turned bool) {
		for range minutes {
			now = now.Add(time.Minute)
			p := pass("1", now, 2, 0)
			if now.Sub(at(8, 30)) > 40*time.Minute {
				p.Out = 2
			}
			if turned {
				p.In, p.Out = p.Out, p.In
			}
			e.Apply(p)
		}
	}
	visitors(e, 180, true)
	if got := e.Snapshot(now); got.Trust != Unknown || got.Reason != Turned || !slices.Contains(got.Findings, Finding{Direction, "D1"}) {
		t.Fatalf("not found: %+v", got)
	}
	d := disk{}
	d.store(e)

	s.Doors[0].Wiring = "as found"
	same := New(s)
	d.load(t, same)
	same.Reading("gate-1", now)
	if got := same.Snapshot(now); got.Reason != Turned {
		t.Errorf("a restart alone makes it %s", got.Reason)
	}

	s.Doors[0].Wiring = "turned"
	e = New(s)
	d.load(t, e)
	e.Reading("gate-1", now)
	if got := e.Snapshot(now); got.Trust == Good || got.Reason == Turned || len(got.Findings) != 0 {
		t.Errorf("set the other way: %+v", got)
	}
	e.Correct(80, now)
	visitors(e, 60, false)
	got := e.Snapshot(now)
	if got.Trust != Good || people(t, got) < 70 || people(t, got) > 90 {
		t.Errorf("after a head count: %+v", got)
	}
}

// TestTurnedDoorIsGone forgets a mixed up door that is no visitors' door any more.
func TestTurnedDoorIsGone(t *testing.T) {
	e := New(hall(1))
	e.Apply(pass("1", at(9, 0), 3, 0))
	e.state.Turned = []string{"D1"}
	d := disk{}
	d.store(e)
	s := hall(1)
	s.Doors[0].Role = Staff
	e = New(s)
	d.load(t, e)
	read(e, at(9, 1))
	if got := e.Snapshot(at(9, 1)); got.Reason == Turned {
		t.Errorf("%+v", got)
	}
}

// TestLate takes what a device had kept: of this day it counts, of another one it
// does not, and neither is taken for a clock that was set back.
func TestLate(t *testing.T) {
	e := New(hall(1))
	e.Apply(pass("1", at(9, 0), 40, 0))
	e.Apply(pass("1", at(12, 0), 0, 10))
	old := pass("2", at(9, 55), 7, 2)
	e.Late(old, at(12, 1))
	e.Late(pass("2", at(-14, 0), 50, 0), at(12, 2)) // of the day before
	read(e, at(12, 2))
	s := e.Snapshot(at(12, 2))
	if s.In != 47 || s.Out != 12 || s.Day != "2026-03-02" || s.Reason == Unseen {
		t.Errorf("%+v", s)
	}
	day, ok := e.At(at(12, 10)).Day("2026-03-02")
	in := uint64(0)
	for _, step := range day.Steps {
		if step.Minute == 350 { // 9:50 to 9:55
			in = step.In
		}
	}
	if !ok || in != 7 {
		t.Errorf("%d in at 9:50", in)
	}
}

// TestConfiguredStay goes on after a restart with any stay that may be configured.
func TestConfiguredStay(t *testing.T) {
	for _, stay := range []time.Duration{time.Second, 8 * time.Hour} {
		s := hall(1)
		s.Stay = stay
		e := New(s)
		e.Apply(pass("1", at(9, 0), 3, 0))
		d := disk{}
		d.store(e)
		d.load(t, New(s))
	}
}
