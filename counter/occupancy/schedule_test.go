package occupancy

import (
	"testing"
	"time"
)

// The first who come before a shift are its staff and no visitors, they leave when
// it is over, and on a closed day there are none.
func TestShifts(t *testing.T) {
	set := Settings{
		Capacity: 150, Location: shanghai, Scale: 1,
		Staff: []Shift{{8 * 60, 20}, {17 * 60, 0}},
		Hours: func(day time.Time) []Span {
			if day.In(shanghai).Weekday() == time.Sunday {
				return nil
			}
			return []Span{{8*60 + 30, 17 * 60}}
		},
		Doors: []Door{{ID: "D1", Role: Visitor, Counters: []string{"gate-1"}}},
	}
	e := New(set)
	visitors := func(now time.Time, least, most int) {
		t.Helper()
		e.Reading("gate-1", now)
		if n := people(t, e.Snapshot(now)); n < least || n > most {
			t.Errorf("at %s: %d visitors, want %d to %d", now.Format("15:04"), n, least, most)
		}
	}
	e.Apply(pass("1", at(6, 30), 2, 0)) // too early for the staff
	visitors(at(6, 30), 2, 2)
	e.Apply(pass("1", at(6, 50), 0, 2))
	for m := range 20 {
		e.Apply(pass("1", at(7, 35+m), 1, 0))
	}
	visitors(at(8, 10), 0, 1)
	e.Apply(pass("1", at(8, 40), 30, 0))
	visitors(at(8, 41), 28, 31)
	visitors(at(12, 0), 0, 12) // they are gone, whatever was counted
	e.Correct(10, at(16, 59))
	visitors(at(17, 0), 9, 11)
	for m := range 20 {
		e.Apply(pass("1", at(17, 1+m), 0, 1))
	}
	visitors(at(17, 21), 0, 11)
	e.Apply(pass("1", at(8+6*24, 0), 6, 0)) // a Sunday
	visitors(at(8+6*24, 0), 6, 6)
}

// A level sensor pulls the number, and repeats of the same figure do so no more
// than a few.
func TestMeasure(t *testing.T) {
	e := one(150, at(9, 0))
	e.Apply(pass("1", at(9, 0), 60, 0))
	before := people(t, e.Snapshot(at(9, 0)))
	e.Measure(40, at(9, 0))
	after := people(t, e.Snapshot(at(9, 0)))
	if after >= before || after <= 40 {
		t.Errorf("%d after 40 were measured and %d counted", after, before)
	}
	again := e.Clone()
	again.Measure(40, at(9, 0))
	if n := people(t, again.Snapshot(at(9, 0))); after-n > 2 {
		t.Errorf("from %d to %d by the same figure", after, n)
	}
	state := string(encode(e.state))
	e.Measure(-1, at(9, 0))
	e.Correct(-5, at(9, 0))
	if s := string(encode(e.state)); s != state {
		t.Errorf("fewer than nobody was taken:\n%s\n%s", state, s)
	}
}

// A counter that says its beam is blocked lowers the trust, until it says no more.
func TestBlocked(t *testing.T) {
	e := one(150, at(9, 0))
	e.Blocked("gate-1", true)
	is(t, e, at(9, 0), Approximate, Blocked)
	e.Blocked("gate-1", false)
	is(t, e, at(9, 0), Good, "")
}
