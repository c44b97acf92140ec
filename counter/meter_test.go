package counter

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var nine = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// shown is a reading some seconds after nine.
func shown(seconds float64, in, out, modulus uint64) Reading {
	return Reading{At: nine.Add(time.Duration(seconds * float64(time.Second))), In: in, Out: out, Modulus: modulus}
}

func TestMeter(t *testing.T) {
	const m16, m32 = 1 << 16, 1 << 32
	type want struct {
		in, out   uint64
		note      Note
		uncertain bool
	}
	for name, test := range map[string]struct {
		readings []Reading
		want     []want // of all readings but the first, which must be First
	}{
		"nobody":            {[]Reading{shown(0, 7, 5, m32), shown(1, 7, 5, m32)}, []want{{}}},
		"some":              {[]Reading{shown(0, 7, 5, m32), shown(1, 9, 6, m32)}, []want{{2, 1, "", false}}},
		"as many as can be": {[]Reading{shown(0, 0, 0, m32), shown(1, 23, 23, m32)}, []want{{23, 23, "", false}}},
		"an outage":         {[]Reading{shown(0, 100, 90, m32), shown(3600, 700, 650, m32)}, []want{{600, 560, Gap, false}}},
		"16 bits roll over": {[]Reading{shown(0, 65534, 1, m16), shown(1, 2, 1, m16)}, []want{{4, 0, Rollover, false}}},
		"32 bits roll over": {[]Reading{shown(0, m32-1, m32-2, m32), shown(1, 0, 1, m32)}, []want{{1, 3, Rollover, false}}},
		"64 bits roll over": {[]Reading{shown(0, 1<<64-1, 0, 0), shown(1, 1, 0, 0)}, []want{{2, 0, Rollover, false}}},
		"a decimal counter": {[]Reading{shown(0, 999_998, 0, 1_000_000), shown(1, 3, 0, 1_000_000)}, []want{{5, 0, Rollover, false}}},
		"24 bits":           {[]Reading{shown(0, 1<<24-1, 0, 1<<24), shown(1, 0, 0, 1<<24)}, []want{{1, 0, Rollover, false}}},
		"reset": {
			[]Reading{shown(0, 5000, 4000, m32), shown(1, 3, 0, m32), shown(2, 4, 1, m32), shown(3, 5, 1, m32)},
			[]want{{}, {4, 1, Reset, true}, {1, 0, "", false}}},
		"reset after an outage": {
			[]Reading{shown(0, 5000, 4000, m32), shown(100, 300, 200, m32), shown(101, 301, 200, m32)}, []want{{}, {301, 200, Reset, true}}},
		"a stray reading": {
			[]Reading{shown(0, 18, 4, m32), shown(1, 0, 0, m32), shown(2, 18, 4, m32), shown(3, 19, 4, m32)}, []want{{}, {}, {1, 0, "", false}}},
		"a stray reading in one direction while somebody passes": {
			[]Reading{shown(0, 5000, 4, m32), shown(1, 0, 5, m32), shown(2, 5002, 5, m32)}, []want{{}, {2, 1, "", false}}},
		"a stray reading before a rollover": {
			[]Reading{shown(0, 65530, 4, m16), shown(1, 300, 0, m16), shown(2, 4, 5, m16)}, []want{{}, {10, 1, Rollover, false}}},
		"falls that do not agree": {
			[]Reading{shown(0, 5000, 0, m32), shown(1, 7, 0, m32), shown(2, 1000, 0, m32), shown(3, 7, 0, m32), shown(4, 8, 0, m32)},
			[]want{{}, {}, {}, {8, 0, Reset, true}}},
		"reset near the end of 16 bits, too far round": {
			[]Reading{shown(0, 60000, 0, m16), shown(1, 2, 0, m16), shown(2, 2, 0, m16)}, []want{{}, {2, 0, Reset, true}}},
		"a fall to a high total": {
			[]Reading{shown(0, 5000, 0, m32), shown(1, 4000, 0, m32), shown(2, 4000, 0, m32)}, []want{{}, {26, 0, Reset, true}}},
		"a fall from below the last tenth is no rollover": {
			[]Reading{shown(0, 50, 0, 60), shown(1, 2, 0, 60), shown(2, 2, 0, 60)}, []want{{}, {2, 0, Reset, true}}},
		"a leap that goes back": {
			[]Reading{shown(0, 100, 0, m32), shown(1, 65636, 0, m32), shown(2, 101, 2, m32)}, []want{{}, {1, 2, "", false}}},
		"a leap that stays": {
			[]Reading{shown(0, 100, 5, m32), shown(1, 65636, 6, m32), shown(2, 65637, 7, m32), shown(3, 65637, 8, m32), shown(4, 65640, 8, m32)},
			[]want{{}, {}, {0, 3, Rebased, true}, {3, 0, "", false}}},
		"leaps that do not agree": {
			[]Reading{shown(0, 100, 0, m32), shown(1, 65636, 0, m32), shown(2, 131172, 0, m32), shown(3, 65636, 0, m32), shown(4, 65636, 0, m32), shown(5, 65636, 0, m32)},
			[]want{{}, {}, {}, {}, {0, 0, Rebased, true}}},
		"a wide step once enough time is past": {
			[]Reading{shown(0, 0, 0, m32), shown(1, 24, 0, m32), shown(2, 24, 0, m32)}, []want{{}, {24, 0, "", false}}},
		"another width": {[]Reading{shown(0, 70000, 0, m32), shown(1, 4464, 0, m16)}, []want{{0, 0, Rebased, true}}},
		"the clock set back": {
			[]Reading{shown(0, 100, 0, m32), shown(-7200, 180, 0, m32)}, []want{{80, 0, Gap, true}}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := NewMeter(nil, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			m, u := m.Next(test.readings[0])
			if u.Note != First || u.Pass.In+u.Pass.Out != 0 || len(u.Mark) == 0 {
				t.Fatalf("first reading: %+v", u)
			}
			for i, r := range test.readings[1:] {
				before := m
				m, u = m.Next(r)
				got := want{u.Pass.In, u.Pass.Out, u.Note, u.Pass.Uncertain}
				if got != test.want[i] {
					t.Errorf("reading %d: got %+v, want %+v", i+1, got, test.want[i])
				}
				if _, again := before.Next(r); fmt.Sprint(again) != fmt.Sprint(u) {
					t.Errorf("reading %d: the same reading of the same meter gave another update", i+1)
				}
				if got.in+got.out > 0 && (u.Pass.To != r.At || u.Pass.To.Before(u.Pass.From)) {
					t.Errorf("reading %d: from %v to %v", i+1, u.Pass.From, u.Pass.To)
				}
			}
		})
	}
}

// What a meter emits is what the counter counted: for any width, through
// rollovers, outages, restarts from the mark and readings that were not stored.
func TestMeterConserves(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	rollovers := map[uint64]int{}
	for run := range 120 {
		modulus := []uint64{0, 1 << 16, 1 << 24, 1 << 32, 100_000, 1_000_000, 5000}[run%7]
		var counted, emitted [2]uint64
		start := [2]uint64{rnd.Uint64(), rnd.Uint64()}
		show := func(i int) uint64 {
			if modulus == 0 {
				return start[i] + counted[i]
			}
			return (start[i]%modulus + counted[i]) % modulus
		}
		now := nine
		m := Meter{Poll: time.Second}
		m, _ = m.Next(Reading{At: now, In: show(0), Out: show(1), Modulus: modulus})
		for range 400 {
			step := time.Duration(1+rnd.IntN(4000)) * time.Millisecond
			if modulus != 5000 && rnd.IntN(50) == 0 {
				step = time.Duration(rnd.IntN(600)) * time.Second
			}
			now = now.Add(step)
			for i := range counted {
				counted[i] += rnd.Uint64N(uint64(3*step.Seconds()) + 5)
			}
			next, u := m.Next(Reading{At: now, In: show(0), Out: show(1), Modulus: modulus})
			if rnd.IntN(5) == 0 {
				continue // the sink failed: the meter stands still
			}
			m = next
			emitted[0] += u.Pass.In
			emitted[1] += u.Pass.Out
			if u.Pass.Uncertain {
				t.Fatalf("run %d: uncertain without a cause: %+v", run, u)
			}
			if u.Note == Rollover {
				rollovers[modulus]++
			}
			if rnd.IntN(10) == 0 {
				var err error
				if m, err = NewMeter(u.Mark, time.Second); err != nil {
					t.Fatal(err)
				}
			}
		}
		now = now.Add(time.Second)
		_, u := m.Next(Reading{At: now, In: show(0), Out: show(1), Modulus: modulus})
		if emitted[0] += u.Pass.In; emitted[0] != counted[0] {
			t.Fatalf("run %d, modulus %d: counted %d in, emitted %d", run, modulus, counted[0], emitted[0])
		}
		if emitted[1] += u.Pass.Out; emitted[1] != counted[1] {
			t.Fatalf("run %d, modulus %d: counted %d out, emitted %d", run, modulus, counted[1], emitted[1])
		}
	}
	if rollovers[5000] < 10 || rollovers[1<<16] == 0 {
		t.Errorf("hardly rolled over: %v", rollovers)
	}
}

// Stray readings add nothing and lose nothing, and a counter that is reset counts
// on from zero: of all that passed since, nothing is missed and nothing doubled.
func TestMeterConservesThroughStraysAndResets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	strays, resets := 0, 0
	for run := range 60 {
		now, total := nine, 2000+rnd.Uint64N(1000)
		counted, emitted := uint64(0), uint64(0)
		m, _ := Meter{Poll: time.Second}.Next(Reading{At: now, In: total, Modulus: 1 << 32})
		take := func(in uint64) Update {
			now = now.Add(time.Second)
			next, u := m.Next(Reading{At: now, In: in, Modulus: 1 << 32})
			if rnd.IntN(5) > 0 { // else the sink failed: the meter stands still
				m = next
				emitted += u.Pass.In
			}
			return u
		}
		for i := range 400 {
			n := rnd.Uint64N(4)
			counted, total = counted+n, total+n
			switch {
			case i%7 == 3: // one only, with true readings before and after
				if u := take(0); u.Pass.In > 0 || u.Pass.Uncertain || u.Note != "" && u.Note != Gap {
					t.Fatalf("run %d: a stray reading gave %+v", run, u)
				}
				strays++
			case i == 200: // while everything before it was taken
				take(total)
				for m.Last().In != total {
					take(total)
				}
				total = 0
				for m.Last().In != 0 {
					if u := take(0); u.Note == Reset {
						resets++
					}
				}
			}
			take(total)
		}
		for m.Last().In != total {
			take(total)
		}
		if emitted != counted {
			t.Fatalf("run %d: counted %d, emitted %d", run, counted, emitted)
		}
	}
	if strays < 500 || resets < 60 {
		t.Errorf("%d stray readings, %d resets", strays, resets)
	}
}

func TestMark(t *testing.T) {
	m, u := Meter{}.Next(shown(0.25, 1<<64-1, 3, 0))
	again, err := NewMeter(u.Mark, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := again.Last(), m.Last(); !got.At.Equal(want.At) || got.In != want.In || got.Out != want.Out || got.Modulus != want.Modulus {
		t.Errorf("read back %+v, stored %+v", got, want)
	}
	for _, bad := range []string{"{", "[]", `{"v":2,"at":"2026-03-02T09:00:00Z"}`, "null"} {
		if _, err := NewMeter([]byte(bad), 0); err == nil {
			t.Errorf("took %s for a mark", bad)
		}
	}
}
