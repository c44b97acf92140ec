package occupancy

import (
	"reflect"
	"testing"
	"time"

	"github.com/hallagent/hallagent/counter"
)

// Passes of a long interval are spread over it, and none is lost; a restart gives
// the same curve.
func TestCurve(t *testing.T) {
	e, disk := New(hall(1)), disk{}
	e.Apply(pass("1", at(9, 2), 7, 1))
	disk.store(e)
	e.Apply(counter.Pass{Device: "gate-1", Door: "D1", In: 31, Out: 10, From: at(9, 10), To: at(9, 41)})
	e.Apply(pass("3", at(9, 42), 50, 0)) // the staff's
	e.Apply(pass("2", at(10, 0), 3, 0))
	disk.store(e)
	day, ok := e.Day("2026-03-02")
	if !ok || day.Date != "2026-03-02" {
		t.Fatal("no curve")
	}
	var in, out uint64
	for _, s := range day.Steps {
		in, out = in+s.In, out+s.Out
		if s.Minute >= 310 && s.Minute < 340 && (s.In < 4 || s.In > 6) {
			t.Errorf("%d in at minute %d, want 5", s.In, s.Minute)
		}
		if s.People == nil || *s.Low > *s.People || *s.People > *s.High {
			t.Errorf("minute %d: %+v", s.Minute, s)
		}
	}
	if first := day.Steps[0]; first.Minute != 300 || first.In != 7 || in != 41 || out != 11 {
		t.Errorf("from minute %d on, %d in and %d out", first.Minute, in, out)
	}
	again := New(hall(1))
	disk.load(t, again)
	if same, _ := again.Day("2026-03-02"); !reflect.DeepEqual(same, day) {
		t.Errorf("after a restart %+v, before %+v", same, day)
	}
}

// Today and the seven days before are kept, each in a slot that is stored only
// when it changed.
func TestDaysKept(t *testing.T) {
	e := New(hall(1))
	for n := range 12 {
		e.Apply(pass("1", at(9+24*n, 0), 5, 0))
		if marks := e.Marks(); len(marks) > 3 || len(marks["state"]) > 8<<10 {
			t.Errorf("%d marks, state of %d bytes", len(marks), len(marks["state"]))
		}
	}
	e.Apply(pass("1", at(9+24*11, 1), 1, 0))
	if marks := e.Marks(); len(marks) != 1 {
		t.Errorf("%d marks though no step was over", len(marks))
	}
	for n := range 14 {
		date := at(9, 0).AddDate(0, 0, n).Format(time.DateOnly)
		if day, ok := e.Day(date); ok != (n >= 4 && n <= 11) || ok && len(day.Steps) == 0 {
			t.Errorf("%s: %v, %d steps", date, ok, len(day.Steps))
		}
	}
	if _, ok := e.Day("yesterday"); ok {
		t.Error("a curve of no day")
	}
}

// A clone goes its own way.
func TestClone(t *testing.T) {
	e := New(hall(1))
	e.Apply(pass("1", at(9, 0), 5, 0))
	before, _ := e.Day("2026-03-02")
	state := string(encode(e.state))
	c := e.Clone()
	c.Apply(counter.Pass{Device: "gate-1", Door: "D1", In: 90, From: at(8, 0), To: at(12, 0)})
	c.Blocked("gate-1", true)
	after, _ := e.Day("2026-03-02")
	if string(encode(e.state)) != state || !reflect.DeepEqual(before, after) || e.blocked["gate-1"] {
		t.Error("the clone's passes changed the one it was made of")
	}
}
