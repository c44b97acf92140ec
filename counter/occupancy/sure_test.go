package occupancy

import (
	"testing"
	"time"

	"github.com/hallagent/hallagent/counter"
)

// one is a hall with one visitors' door and one of the staff, the counters just
// read, and a scale: as sure as a hall can be.
func one(capacity int, now time.Time) *Estimator {
	e := New(Settings{
		Capacity: capacity, Location: shanghai, Scale: 1,
		Doors: []Door{{ID: "D1", Role: Visitor, Counters: []string{"gate-1"}}, {ID: "D3", Role: Staff, Counters: []string{"gate-3"}}},
	})
	e.Reading("gate-1", now)
	return e
}

// is checks what the number at now is worth, with the counter just read.
func is(t *testing.T, e *Estimator, now time.Time, trust Trust, why Reason) {
	t.Helper()
	e.Reading("gate-1", now)
	if s := e.Snapshot(now); s.Trust != trust || s.Reason != why {
		t.Errorf("at %s: %+v, want %s (%s)", now.Format("15:04"), s, trust, why)
	}
}

// Who is inside when a counter is read first, nobody knows: until heads are
// counted, or the next day begins.
func TestUnseen(t *testing.T) {
	e := one(150, at(12, 0))
	is(t, e, at(12, 0), Good, "")
	e.Unseen("gate-3", at(12, 0)) // the staff's
	e.Unseen("gate-9", at(12, 0)) // no such counter
	is(t, e, at(12, 0), Good, "")
	e.Unseen("gate-1", at(12, 0))
	is(t, e, at(12, 0), Approximate, Unseen)
	fresh, later := e.Snapshot(at(12, 0)), e.Snapshot(at(12, 40))
	if *fresh.High < *fresh.People+e.settings.Capacity/2 || *later.High >= *fresh.High-e.settings.Capacity/4 {
		t.Errorf("half a hall may have been inside: %d to %d, 40 minutes later %d to %d", *fresh.Low, *fresh.High, *later.Low, *later.High)
	}
	e.Apply(pass("1", at(13, 0), 20, 0))
	is(t, e, at(13, 0), Approximate, Unseen)
	disk := disk{}
	disk.store(e)
	again := one(150, at(13, 0))
	disk.load(t, again)
	is(t, again, at(13, 1), Approximate, Unseen)

	e.Correct(40, at(14, 0))
	is(t, e, at(14, 0), Good, "")
	e.Unseen("gate-1", at(13, 59)) // before the head count
	is(t, e, at(14, 0), Good, "")
	e.Unseen("gate-1", at(14, 1))
	is(t, e, at(27, 59), Approximate, Unseen)
	is(t, e, at(28, 0), Good, "")
	e.Unseen("gate-1", at(27, 59)) // yesterday's
	e.Unseen("gate-1", at(28, 15)) // nobody is there yet
	is(t, e, at(28, 15), Good, "")
	e.Unseen("gate-1", at(28, 16))
	is(t, e, at(28, 16), Approximate, Unseen)
}

// More went out than came in: there were people inside that nobody had counted,
// and those who come then are counted from zero.
func TestMoreOutThanIn(t *testing.T) {
	e := one(150, at(12, 0))
	e.Apply(pass("1", at(12, 0), 0, 5))
	is(t, e, at(12, 0), Good, "")
	e.Apply(pass("1", at(12, 1), 2, 0))
	e.Apply(pass("1", at(12, 2), 1, 4))
	is(t, e, at(12, 2), Approximate, Negative)
	e.Apply(pass("1", at(12, 3), 30, 0))
	is(t, e, at(12, 3), Approximate, Negative)
	s := e.Snapshot(at(12, 3))
	// 33 came within two minutes, so it may be a few more than were counted since.
	if n := people(t, s); n < 30 || n > 33 || *s.Low > 30 || *s.High < 36 || s.In != 33 || s.Out != 9 {
		t.Errorf("%d in %d..%d, %+v", *s.People, *s.Low, *s.High, s)
	}
	e.Correct(30, at(12, 4))
	is(t, e, at(12, 4), Good, "")
}

// The staff that is expected and has not come is no deficit, and no head count
// with fewer people than that is one.
func TestStaffIsNoDeficit(t *testing.T) {
	e := New(Settings{Capacity: 150, Location: shanghai, Scale: 1.5, Staff: []Shift{{0, 20}}, Doors: []Door{{ID: "D1", Role: Visitor, Counters: []string{"gate-1"}}}})
	e.Apply(pass("1", at(8, 0), 10, 0))
	is(t, e, at(8, 0), Good, "")
	e.Apply(pass("1", at(8, 0), 0, 10))
	e.Apply(pass("1", at(8, 0), 20, 0))
	is(t, e, at(8, 0), Good, "")
	if got := people(t, e.Snapshot(at(8, 0))); got != 10 {
		t.Errorf("%d visitors, want 1.5 × 20 − 20", got)
	}
	e.Correct(0, at(9, 0))
	e.Apply(pass("1", at(9, 0), 0, 12)) // 18 of the 20
	is(t, e, at(9, 0), Good, "")
	e.Apply(pass("1", at(9, 0), 12, 0))
	if got := people(t, e.Snapshot(at(9, 0))); got != 0 {
		t.Errorf("%d visitors when the staff is back", got)
	}
}

// The clock was ahead and is set right, across 04:00 and within a day: the passes
// after that belong to a day, too, but nobody knows to whom those before.
func TestClockSetBack(t *testing.T) {
	for name, wrong := range map[string]time.Time{"across four": at(28, 30), "within the day": at(23, 30)} {
		t.Run(name, func(t *testing.T) {
			e := one(150, wrong)
			e.Apply(pass("1", wrong, 1, 0))
			is(t, e, at(20, 30), Approximate, Unseen)
			for i := range 20 {
				e.Apply(pass("1", at(20, 30+i), 1, 0))
			}
			is(t, e, at(20, 50), Approximate, Unseen)
			if s := e.Snapshot(at(20, 50)); s.Day != "2026-03-02" || s.In != 20 || people(t, s) < 15 || people(t, s) > 20 {
				t.Errorf("20 came in since the clock is right: %+v", s)
			}
			is(t, e, at(52, 0), Good, "")
		})
	}
}

// A clock without a battery is years behind after a power cut, until the network
// sets it: what was counted in the morning is lost.
func TestClockBehindForAMoment(t *testing.T) {
	e := one(150, at(12, 0))
	e.Apply(pass("1", at(12, 0), 60, 0))
	is(t, e, at(12, 0), Good, "")
	e.Apply(pass("1", at(12, 0).AddDate(-50, 0, 0), 1, 0))
	e.Apply(pass("1", at(12, 2), 1, 0))
	is(t, e, at(12, 2), Approximate, Unseen)
	is(t, e, at(28, 0), Good, "")
}

// What is stamped before 04:00 and comes up to an hour after it is late, and no
// sign of a clock that was set back.
func TestLatePassOfYesterday(t *testing.T) {
	e := one(150, at(28, 59))
	e.Apply(pass("1", at(28, 59), 3, 0))
	e.Apply(pass("1", at(27, 59), 7, 1))
	is(t, e, at(28, 59), Good, "")
	if s := e.Snapshot(at(28, 59)); s.Day != "2026-03-03" || s.In != 3 {
		t.Errorf("%+v", s)
	}
}

// A leap that was taken as it is hides as many passes as it is high, so the
// number is not good, however many were counted well before and after.
func TestLeap(t *testing.T) {
	e := one(500, at(9, 0))
	for i := range 35 {
		e.Apply(pass("1", at(9, i), 18, 0))
	}
	is(t, e, at(9, 35), Good, "")
	e.Apply(counter.Pass{Device: "gate-1", Door: "D1", From: at(9, 35), To: at(9, 36), Uncertain: true})
	e.Unseen("gate-1", at(9, 36))
	is(t, e, at(9, 36), Approximate, Unseen)
}
