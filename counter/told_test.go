package counter

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// told is a delta some minutes after nine.
func told(minutes float64, in, out uint64, stamp string) Reading {
	return Reading{At: nine.Add(time.Duration(minutes * float64(time.Minute))), Value: Delta, In: in, Out: out, Period: 5 * time.Minute, Stamp: stamp}
}

func TestMeterTold(t *testing.T) {
	event := func(seconds float64, in uint64) Reading {
		return Reading{At: nine.Add(time.Duration(seconds * float64(time.Second))), Value: Event, In: in, Stamp: "in", Once: 300 * time.Millisecond}
	}
	missed := func(r Reading) Reading {
		r.Missed = true
		return r
	}
	once := func(r Reading) Reading {
		r.Once = time.Minute
		return r
	}
	type want struct {
		in        uint64
		note      Note
		uncertain bool
		length    time.Duration // of the interval
	}
	const five = 5 * time.Minute
	for name, test := range map[string]struct {
		readings []Reading
		want     []want
	}{
		"periods":                       {[]Reading{told(0, 3, 1, "a"), told(5, 2, 0, "b")}, []want{{3, First, false, five}, {2, "", false, five}}},
		"one comes a little late":       {[]Reading{told(0, 3, 1, "a"), told(8, 2, 0, "b")}, []want{{3, First, false, five}, {2, "", false, 8 * time.Minute}}},
		"one is missing":                {[]Reading{told(0, 3, 1, "a"), told(10, 2, 0, "b")}, []want{{3, First, false, five}, {2, Gap, true, 10 * time.Minute}}},
		"the same again":                {[]Reading{told(0, 3, 1, "a"), told(5, 2, 0, "b"), told(5.1, 2, 0, "b")}, []want{{3, First, false, five}, {2, "", false, five}, {0, Duplicate, false, 0}}},
		"the same, much later":          {[]Reading{told(0, 3, 1, "a"), told(5, 2, 0, "b"), told(10, 3, 1, "a")}, []want{{3, First, false, five}, {2, "", false, five}, {0, Duplicate, false, 0}}},
		"a stamp of a factory clock":    {[]Reading{once(told(0, 3, 1, "x")), once(told(0.5, 3, 1, "x")), once(told(5, 3, 1, "x"))}, []want{{3, First, false, five}, {0, Duplicate, false, 0}, {3, "", false, five}}},
		"a stored one of an hour ago":   {[]Reading{told(60, 3, 1, "b"), told(0, 2, 0, "a"), told(65, 1, 0, "c")}, []want{{3, First, false, five}, {2, "", false, five}, {1, "", false, five}}},
		"more than can pass":            {[]Reading{told(0, 3, 1, "a"), told(5, 60000, 0, "b")}, []want{{3, First, false, five}, {0, Rebased, true, five}}},
		"as many as can pass":           {[]Reading{told(0, 3, 1, "a"), told(5, 920, 0, "b")}, []want{{3, First, false, five}, {920, "", false, five}}},
		"a line that was away":          {[]Reading{told(0, 3, 1, "a"), missed(told(5, 2, 0, "b"))}, []want{{3, First, false, five}, {2, Gap, true, five}}},
		"events":                        {[]Reading{event(0, 1), event(1, 1)}, []want{{1, First, false, 0}, {1, "", false, 0}}},
		"an event told twice":           {[]Reading{event(0, 1), event(0.2, 1), event(0.6, 1)}, []want{{1, First, false, 0}, {0, Duplicate, false, 0}, {1, "", false, 0}}},
		"events after a restart":        {[]Reading{event(0, 1), missed(Reading{At: nine.Add(time.Minute), Value: Event})}, []want{{1, First, false, 0}, {0, Gap, true, time.Minute}}},
		"from totals to deltas":         {[]Reading{shown(0, 700, 600, 0), told(5, 2, 0, "b")}, []want{{0, First, false, 0}, {2, First, false, five}}},
		"from deltas to totals":         {[]Reading{told(0, 3, 1, "a"), shown(300, 700, 600, 0), shown(301, 701, 600, 0)}, []want{{3, First, false, five}, {0, First, false, 0}, {1, "", false, time.Second}}},
		"a delta of the clock set back": {[]Reading{told(60, 3, 1, "a"), missed(told(5, 2, 0, "b"))}, []want{{3, First, false, five}, {2, Gap, true, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			m := Meter{Poll: time.Second}
			for i, r := range test.readings {
				var u Update
				m, u = m.Next(r)
				m = restarted(t, m, u)
				w := test.want[i]
				if u.Pass.In != w.in || u.Note != w.note || u.Pass.Uncertain != w.uncertain || u.Pass.To.Sub(u.Pass.From) != w.length {
					t.Errorf("reading %d: %+v, want %+v", i, u.Pass, w)
					t.Logf("note %q", u.Note)
				}
			}
		})
	}
}

// restarted is the meter as the next start finds it.
func restarted(t *testing.T, m Meter, u Update) Meter {
	t.Helper()
	again, err := NewMeter(u.Mark, m.Poll)
	if err != nil {
		t.Fatal(err)
	}
	again.Rate = m.Rate
	return again
}

// TestToldOnce lets a unit send each period once or more, in any order within a
// day, and the agent start again at any moment: each is counted once.
func TestToldOnce(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := Meter{Poll: time.Second}
		var sent []Reading
		want, got := uint64(0), uint64(0)
		for k := range 200 {
			r := told(float64(5*k), rng.Uint64N(10), 0, fmt.Sprint("s", k))
			sent = append(sent, r)
			want += r.In
			for range rng.IntN(3) {
				sent = append(sent, sent[rng.IntN(len(sent))])
			}
			if rng.IntN(4) == 0 {
				rng.Shuffle(len(sent), func(i, j int) { sent[i], sent[j] = sent[j], sent[i] })
			}
			for len(sent) > 3 || k == 199 && len(sent) > 0 {
				var u Update
				m, u = m.Next(sent[0])
				sent = sent[1:]
				got += u.Pass.In
				if rng.IntN(5) == 0 {
					m = restarted(t, m, u)
				}
			}
		}
		if got != want {
			t.Fatalf("seed %d: %d of %d", seed, got, want)
		}
	}
}

// TestToldAgain sends the records of a long outage twice.
func TestToldAgain(t *testing.T) {
	m := Meter{Poll: time.Second}
	in := uint64(0)
	for range 2 {
		for k := range 2000 {
			var u Update
			m, u = m.Next(told(float64(k), 1, 0, fmt.Sprint("20251118", k)))
			in += u.Pass.In
		}
	}
	if in != 2000 {
		t.Errorf("%d of 2000", in)
	}
	if n := len(m.Mark()); n > 20_000 {
		t.Errorf("a mark of %d bytes", n)
	}
}

func TestMeterLevel(t *testing.T) {
	m, u := Meter{}.Next(Reading{At: nine, Value: Level, People: 17})
	if u.Level == nil || *u.Level != 17 || u.Pass.In != 0 || u.Note != "" {
		t.Errorf("%+v", u)
	}
	if m = restarted(t, m, u); !m.Last().At.Equal(nine) {
		t.Errorf("last %+v", m.Last())
	}
}
