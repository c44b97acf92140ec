package occupancy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/hallagent/hallagent/counter"
)

var shanghai = time.FixedZone("CST", 8*3600)

// at is a local time on 2 March 2026; hours from 24 on are the next day's.
func at(hour, minute int) time.Time {
	return time.Date(2026, 3, 2, hour, minute, 0, 0, shanghai)
}

// pass is what gate g of door D-g counted within a second before t.
func pass(g string, t time.Time, in, out uint64) counter.Pass {
	return counter.Pass{Device: "gate-" + g, Door: "D" + g, In: in, Out: out, From: t.Add(-time.Second), To: t}
}

func hall(scale float64) Settings {
	return Settings{
		Capacity: 100, Location: shanghai, Scale: scale,
		Doors: []Door{
			{ID: "D1", Role: Visitor, Counters: []string{"gate-1"}},
			{ID: "D2", Role: Both, Counters: []string{"gate-2", "gate-2b"}},
			{ID: "D3", Role: Staff, Counters: []string{"gate-3"}},
		},
	}
}

// read says that all counters were read.
func read(e *Estimator, t time.Time) {
	for _, d := range []string{"gate-1", "gate-2", "gate-2b", "gate-3"} {
		e.Reading(d, t)
	}
}

func people(t *testing.T, s Snapshot) int {
	t.Helper()
	if s.People == nil || s.Low == nil || s.High == nil {
		t.Fatalf("no number: %s", s.Reason)
	}
	if *s.Low < 0 || *s.Low > *s.People || *s.People > *s.High {
		t.Fatalf("%d is not within %d..%d, or that below 0", *s.People, *s.Low, *s.High)
	}
	return *s.People
}

func TestNumber(t *testing.T) {
	e := New(hall(1.5))
	read(e, at(9, 0))
	e.Apply(pass("1", at(9, 0), 12, 1))
	e.Apply(pass("2", at(9, 0), 4, 1))
	e.Apply(pass("3", at(9, 0), 30, 2)) // staff's door
	e.Apply(pass("9", at(9, 0), 50, 0)) // no such door
	s := e.Snapshot(at(9, 0))
	if got := people(t, s); got != 21 {
		t.Errorf("%d people, want 1.5 × (16 − 2)", got)
	}
	// h = 1.64·√(0.1·1.5·18 + 0.25 + (0.03·21)²) = 3.00
	if *s.Low != 18 || *s.High != 24 {
		t.Errorf("band %d..%d, want 18..24", *s.Low, *s.High)
	}
	if s.Trust != Good || s.Reason != "" || s.In != 16 || s.Out != 2 || s.Day != "2026-03-02" || s.Capacity != 100 {
		t.Errorf("snapshot %+v", s)
	}
	if len(s.Doors) != 3 || s.Doors[2].In != 30 || s.Doors[2].Out != 2 || s.Doors[0].In != 12 {
		t.Errorf("doors %+v", s.Doors)
	}
}

func TestStaffIsTakenOff(t *testing.T) {
	set := hall(1)
	set.Staff = []Shift{{0, 20}}
	e := New(set)
	read(e, at(9, 0))
	e.Apply(pass("1", at(9, 0), 15, 0))
	if got := people(t, e.Snapshot(at(9, 0))); got != 0 {
		t.Errorf("%d visitors while the staff comes", got)
	}
	e.Apply(pass("1", at(9, 1), 15, 0))
	if got := people(t, e.Snapshot(at(9, 1))); got != 10 {
		t.Errorf("%d visitors, want 10", got)
	}
	e.Correct(40, at(9, 2))
	e.Apply(pass("1", at(9, 3), 0, 5))
	if got := people(t, e.Snapshot(at(9, 3))); got != 35 {
		t.Errorf("%d visitors, want 35", got)
	}
}

func TestTrust(t *testing.T) {
	type step struct {
		name  string
		do    func(*Estimator)
		now   time.Time
		trust Trust
		why   Reason
	}
	heard := func(e *Estimator) { read(e, at(9, 0)) }
	for name, test := range map[string]struct {
		settings Settings
		steps    []step
	}{
		"not heard": {hall(1), []step{
			{"nothing at all", func(*Estimator) {}, at(9, 0), Unknown, NotRead},
			{"one gate of two at a door", func(e *Estimator) { e.Reading("gate-1", at(9, 0)); e.Reading("gate-2", at(9, 0)) }, at(9, 0), Unknown, NotRead},
			{"the staff's door does not matter", func(e *Estimator) { e.Reading("gate-2b", at(9, 0)) }, at(9, 0), Good, ""},
		}},
		"not read any more": {hall(1), []step{
			{"a moment ago", heard, at(9, 14), Good, ""},
			{"15 min", heard, at(9, 15), Approximate, ReadLate},
			{"one gate only", func(e *Estimator) { e.Reading("gate-1", at(9, 40)); e.Reading("gate-2", at(9, 40)) }, at(9, 44), Approximate, ReadLate},
			{"45 min", func(*Estimator) {}, at(9, 45), Unknown, ReadLost},
			{"back", func(e *Estimator) { read(e, at(9, 46)) }, at(9, 46), Good, ""},
		}},
		"never counted by hand": {hall(0), []step{{"", heard, at(9, 0), Approximate, Uncounted}}},
		"no visitors' door":     {Settings{Capacity: 9, Scale: 1, Doors: []Door{{ID: "D3", Role: Staff, Counters: []string{"gate-3"}}}}, []step{{"", heard, at(9, 0), Unknown, NoDoor}}},
		"a door without a counter": {Settings{Capacity: 9, Scale: 1, Doors: []Door{{ID: "D1", Role: Visitor, Counters: []string{"gate-1"}}, {ID: "D2", Role: Visitor, Counters: nil}}},
			[]step{{"", heard, at(9, 0), Unknown, NotRead}}},
		"uncertain passes": {hall(1), []step{
			{"a reset", func(e *Estimator) {
				heard(e)
				p := pass("1", at(9, 0), 3, 0)
				p.Uncertain = true
				e.Apply(p)
			}, at(9, 0), Approximate, Guessed},
			{"after a head count", func(e *Estimator) { e.Correct(3, at(9, 1)) }, at(9, 1), Good, ""},
		}},
		"a reset after a long gap": {hall(1), []step{
			{"a busy hour", func(e *Estimator) {
				heard(e)
				e.Apply(pass("1", at(9, 0), 100, 90))
				e.Apply(pass("2", at(9, 0), 50, 40))
			}, at(9, 0), Good, ""},
			{"and two hours of which nobody knows", func(e *Estimator) {
				read(e, at(11, 0))
				e.Apply(counter.Pass{Device: "gate-1", Door: "D1", In: 1, From: at(9, 0), To: at(11, 0), Uncertain: true})
			}, at(11, 0), Unknown, Wide},
			{"of which those who came are gone a while later", func(e *Estimator) {
				read(e, at(11, 50))
				e.Apply(pass("1", at(11, 50), 1, 1))
				e.Apply(pass("2", at(11, 50), 1, 1))
			}, at(11, 50), Approximate, Guessed},
		}},
		"errors add up": {hall(1), []step{
			{"300 passes", func(e *Estimator) { heard(e); e.Apply(pass("1", at(9, 0), 150, 150)) }, at(9, 0), Good, ""},
			{"500 passes", func(e *Estimator) { e.Apply(pass("1", at(9, 1), 100, 100)) }, at(9, 1), Approximate, Drift},
			{"after a head count", func(e *Estimator) { e.Correct(0, at(9, 2)) }, at(9, 2), Good, ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := New(test.settings)
			for _, step := range test.steps {
				step.do(e)
				s := e.Snapshot(step.now)
				if s.Trust != step.trust || s.Reason != step.why {
					t.Errorf("%s: %s (%s), want %s (%s)", step.name, s.Trust, s.Reason, step.trust, step.why)
				}
				if unknown := s.Trust == Unknown; unknown != (s.People == nil) || unknown != (s.Low == nil) || unknown != (s.High == nil) || unknown != (s.Level == "") {
					t.Errorf("%s: %s, but %+v", step.name, s.Trust, s)
				}
			}
		})
	}
}

func TestUncalibratedBandIsWide(t *testing.T) {
	e := New(hall(0))
	read(e, at(9, 0))
	e.Apply(pass("1", at(9, 0), 80, 0))
	s := e.Snapshot(at(9, 0))
	// 1.64·√(8 + 0.25 + (0.05·80)²) = 8.1 below and 1.64·√(8 + 0.25 + (0.2·80)²) = 26.7
	// above: beams see fewer than there are.
	if people(t, s) != 80 || *s.Low != 72 || *s.High != 106 {
		t.Errorf("%d in %d..%d", *s.People, *s.Low, *s.High)
	}
}

func TestDayBeginsAtFour(t *testing.T) {
	e := New(hall(1))
	e.Apply(pass("1", at(17, 0), 40, 10))
	read(e, at(27, 59))
	if s := e.Snapshot(at(27, 59)); s.Day != "2026-03-02" || people(t, s) > 5 || s.In != 40 {
		t.Errorf("at 03:59, all have long gone: %+v", s)
	}
	read(e, at(28, 0))
	if s := e.Snapshot(at(28, 0)); s.Day != "2026-03-03" || people(t, s) != 0 || s.In != 0 || s.Doors[0].In != 0 {
		t.Errorf("at 04:00, nobody came yet: %+v", s)
	}
	e.Apply(pass("2", at(28, 1), 5, 0))
	e.Apply(pass("1", at(27, 59), 7, 1)) // of yesterday, and late
	if s := e.Snapshot(at(28, 1)); people(t, s) != 5 || s.In != 5 || s.Doors[0].In != 0 {
		t.Errorf("after a pass of yesterday: %+v", s)
	}
	e.Correct(99, at(27, 58))
	if s := e.Snapshot(at(28, 1)); people(t, s) != 5 {
		t.Errorf("after a head count of yesterday: %+v", s)
	}
}

func TestPassesOverALongGap(t *testing.T) {
	// Nobody read the counter from 20:00 to 08:00: a third of that is today.
	p := counter.Pass{Device: "gate-1", Door: "D1", In: 30, Out: 90, From: at(20, 0), To: at(32, 0)}
	e := New(hall(1))
	e.Apply(pass("1", at(19, 59), 70, 10))
	e.Apply(p)
	read(e, at(32, 0))
	s := e.Snapshot(at(32, 0))
	if s.In != 10 || s.Out != 30 || s.Trust != Unknown || s.Reason != Wide {
		t.Errorf("over the night: %+v", s)
	}
	read(e, at(32, 50))
	if s := e.Snapshot(at(32, 50)); people(t, s) > 10 || s.Trust != Approximate {
		t.Errorf("when those who may have come are gone: %d, %+v", *s.People, s)
	}
	e.Correct(50, at(33, 0))
	// A door that was not read for an hour, in the middle of which heads were counted.
	e.Apply(counter.Pass{Device: "gate-1", Door: "D1", In: 20, Out: 0, From: at(32, 30), To: at(33, 30)})
	read(e, at(33, 30))
	if s := e.Snapshot(at(33, 30)); people(t, s) < 58 || people(t, s) > 60 || s.In != 30 || s.Trust != Approximate {
		t.Errorf("over a head count: %d, %+v", *s.People, s)
	}
	e.Apply(counter.Pass{Device: "gate-1", Door: "D1", In: 8, From: at(32, 50), To: at(32, 59)})
	if s := e.Snapshot(at(33, 30)); people(t, s) < 58 || people(t, s) > 60 || s.In != 38 {
		t.Errorf("before a head count: %d, %+v", *s.People, s)
	}
}

func TestClockThatWasAhead(t *testing.T) {
	e := New(hall(1))
	e.Apply(pass("1", at(9, 0).AddDate(60, 0, 0), 3, 0))
	e.Apply(pass("1", at(9, 0), 7, 0))
	read(e, at(9, 0))
	if s := e.Snapshot(at(9, 0)); s.Day != "2026-03-02" || people(t, s) != 7 {
		t.Errorf("%+v", s)
	}
}

func TestLevel(t *testing.T) {
	e := New(hall(1))
	e.state.Learned.Stay = longest // who is inside stays there for the test
	level := func(now time.Time, want string) {
		t.Helper()
		read(e, now)
		if s := e.Snapshot(now); s.Level != want {
			t.Errorf("at %s, %d people: %s, want %s", now.Format("15:04:05"), *s.People, s.Level, want)
		}
	}
	level(at(9, 0), "idle")
	e.Apply(pass("1", at(9, 0), 33, 0)) // beyond 30, but not by 4
	level(at(9, 9), "idle")
	e.Apply(pass("1", at(9, 10), 2, 0))
	level(at(9, 12), "idle")
	level(at(9, 13), "moderate")
	e.Apply(pass("1", at(9, 14), 0, 7)) // 28: not far enough back
	level(at(9, 20), "moderate")
	e.Apply(pass("1", at(9, 20), 0, 3)) // 25, but soon more again
	e.Apply(pass("1", at(9, 22), 4, 0))
	level(at(9, 24), "moderate")
	e.Apply(pass("1", at(9, 24), 0, 10))
	level(at(9, 26), "moderate")
	level(at(9, 27), "idle")
	e.Apply(pass("1", at(11, 0), 70, 0)) // 96: through all at once
	level(at(11, 2), "idle")
	level(at(11, 3), "crowded")
	e.Correct(70, at(11, 4)) // somebody knows
	level(at(11, 4), "busy")
	e.Apply(pass("1", at(11, 5), 10, 10))
	level(at(11, 30), "busy")
	level(at(28, 0), "idle")
}

// day makes the passes and head counts of a day, over both visitors' doors.
func day(rnd *rand.Rand) (events []func(*Estimator)) {
	inside := 0
	for m := 0; m < 10*60; m++ {
		now := at(8, m).Add(time.Duration(rnd.IntN(60)) * time.Second)
		in, out := rnd.IntN(4), min(inside, rnd.IntN(4))
		inside += in - out
		if rnd.IntN(400) == 0 { // a clock that is wrong for a moment, by up to two days
			now = now.Add(time.Duration(rnd.IntN(5760)-2880) * time.Minute)
		}
		p := pass(fmt.Sprint(1+rnd.IntN(3)), now, uint64(in), uint64(out))
		p.Uncertain = rnd.IntN(200) == 0
		events = append(events, func(e *Estimator) { e.Apply(p) })
		if rnd.IntN(300) == 0 {
			events = append(events, func(e *Estimator) { e.Unseen(p.Device, now) })
		}
		if rnd.IntN(150) == 0 {
			n := rnd.IntN(60)
			events = append(events, func(e *Estimator) { e.Correct(n, now) })
		}
	}
	return events
}

// The same passes give the same hall: again, through restarts in mid-day, however
// often somebody looks, and with a clock that leaps.
func TestReplayAndRestart(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	reasons := map[Reason]int{}
	for range 8 {
		events := day(rnd)
		one, two, disk := New(hall(1.2)), New(hall(1.2)), disk{}
		for i, event := range events {
			event(one)
			event(two)
			if rnd.IntN(40) == 0 {
				disk.store(two)
				two = New(hall(1.2))
				if s := two.Snapshot(at(12, 0)); s.Trust != Unknown {
					t.Fatal("knows a number before any door was heard")
				}
				disk.load(t, two)
			}
			now := at(8, i)
			for range rnd.IntN(8) / 6 { // looking changes nothing, also into the future and the past
				two.Snapshot(now.Add(time.Duration(rnd.IntN(2000)-500) * time.Minute))
			}
			read(one, now)
			read(two, now)
			a, b := one.Snapshot(now), two.Snapshot(now)
			if a.People != nil {
				people(t, a)
			}
			reasons[a.Reason]++
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("after event %d: %+v and %+v", i, a, b)
			}
		}
		for n := range 4 {
			date := at(9, 0).AddDate(0, 0, n-1).Format(time.DateOnly)
			a, hasA := one.Day(date)
			if b, hasB := two.Day(date); hasA != hasB || !reflect.DeepEqual(a, b) {
				t.Fatalf("curves of %s differ:\n%+v\n%+v", date, a, b)
			}
		}
		if a, b := one.Marks()["state"], two.Marks()["state"]; !bytes.Equal(a, b) {
			t.Fatalf("states differ:\n%s\n%s", a, b)
		}
	}
	if reasons[Unseen] == 0 || reasons[Guessed] == 0 || reasons[Wide] == 0 {
		t.Errorf("hardly anything happened: %v", reasons)
	}
}

// In which order two doors report within a moment does not matter for the number,
// as long as it does not come down to zero in between.
func TestOrderDoesNotMatter(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		var ps []counter.Pass
		for range 100 {
			ps = append(ps, pass(fmt.Sprint(1+rnd.IntN(2)), at(9, 10).Add(time.Duration(rnd.IntN(60))*time.Second), uint64(rnd.IntN(9)), uint64(rnd.IntN(9))))
		}
		one, two := New(hall(0.9)), New(hall(0.9))
		one.Correct(1000, at(8, 59))
		two.Correct(1000, at(8, 59))
		for _, p := range ps {
			one.Apply(p)
		}
		rnd.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
		for _, p := range ps {
			two.Apply(p)
		}
		read(one, at(9, 12))
		read(two, at(9, 12))
		a, b := one.Snapshot(at(9, 12)), two.Snapshot(at(9, 12))
		if people(t, a) != people(t, b) || *a.High != *b.High || a.In != b.In {
			t.Fatalf("%+v and %+v", a, b)
		}
	}
}

// Whatever comes, a number is never negative and lies in its band.
func FuzzApply(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 0, 200, 17, 90})
	f.Add(bytes.Repeat([]byte{0, 0, 9, 255}, 30))
	f.Fuzz(func(t *testing.T, b []byte) {
		set := hall(float64(len(b)%3) / 2)
		set.Capacity *= len(b) % 2 // without one there is always a number
		e := New(set)
		now := at(6, 0)
		for ; len(b) >= 4; b = b[4:] {
			now = now.Add(time.Duration(int8(b[0])) * 10 * time.Minute)
			switch b[1] % 8 {
			case 0:
				e.Correct(int(int8(b[2])), now)
			default:
				e.Apply(counter.Pass{
					Device: "gate-1", Door: fmt.Sprintf("D%d", b[1]%4), In: uint64(b[2]), Out: uint64(b[3]),
					From: now.Add(-time.Duration(b[1]) * time.Minute), To: now, Uncertain: b[1] > 200,
				})
			}
			read(e, now)
			s := e.Snapshot(now)
			if s.People != nil {
				people(t, s)
			}
			if again := e.Snapshot(now); !reflect.DeepEqual(again, s) {
				t.Fatal("looking changed it")
			}
		}
	})
}
