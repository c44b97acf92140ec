// Package study measures how good the estimate of people in a hall is: it makes
// up days of visitors, lets sensors of each technique count them, and holds what
// the estimator says every minute against the truth, beside the plain method
// that most counters come with: reset at night and clamp at zero.
//
// Both get the same counted passes and the same scale. The estimator is asked as
// the agent asks it: with passes, readings and a look each minute. Limits: the
// visitors are made up, see device/sim/visitors; what is said here of a hall is
// only as true as they are.
package study

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/counter/occupancy"
	"github.com/hallagent/hallagent/device/sim/visitors"
)

// Options of a study. Zero fields stand for the values in brackets.
type Options struct {
	Seeds []uint64      // a hall each [1 to 6]
	Days  int           // evaluated of each hall [60]
	Learn int           // before those [20]; below zero: none
	Hall  visitors.Hall // [700 visitors a day through two doors]
}

// Capacity and levels of the hall.
const (
	capacity = 130
	handful  = 200 // persons counted by hand at each door for a scale
)

var levels = [3]int{30, 60, 90}

// scenario is one row: what stands at the doors, and what befalls it.
type scenario struct {
	name      string
	technique visitors.Technique
	scaled    bool // a hand count at each door, with the errors of that sensor, gave the scale
	dying     bool // one door is dead for 30 min on 30 % of the days
}

var scenarios = []scenario{
	{name: "gates", technique: visitors.Gate},
	{name: "cameras", technique: visitors.Camera},
	{name: "beams, calibrated", technique: visitors.Beam, scaled: true},
	{name: "beams, not calibrated", technique: visitors.Beam},
	{name: "beams, calibrated, a door dies at times", technique: visitors.Beam, scaled: true, dying: true},
}

// Run makes the study, as many halls at a time as there are processors.
func Run(o Options) Table {
	o = o.filled()
	rows := make([]Row, len(scenarios))
	results := make([][]Row, len(scenarios))
	var wg sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, s := range scenarios {
		results[i] = make([]Row, len(o.Seeds))
		for j, seed := range o.Seeds {
			free <- struct{}{}
			wg.Go(func() {
				results[i][j] = newHall(o, s, seed).run(o)
				<-free
			})
		}
	}
	wg.Wait()
	for i, s := range scenarios {
		rows[i].Name = s.name
		for _, r := range results[i] {
			rows[i].add(r)
		}
	}
	return Table{Rows: rows, Seeds: len(o.Seeds), Days: o.Days}
}

func (o Options) filled() Options {
	if len(o.Seeds) == 0 {
		o.Seeds = []uint64{1, 2, 3, 4, 5, 6}
	}
	if o.Days == 0 {
		o.Days = 60
	}
	switch {
	case o.Learn == 0:
		o.Learn = 20
	case o.Learn < 0:
		o.Learn = 0
	}
	if len(o.Hall.Shares) == 0 {
		o.Hall.Shares = []float64{0.6, 0.4}
	}
	return o
}

// hall is a hall under study.
type hall struct {
	scenario scenario
	people   visitors.Hall
	rnd      *rand.Rand
	scales   []float64
	ours     *occupancy.Estimator
	plain    float64 // people by the plain method
	every    int     // minutes between two looks

	look  func(now time.Time, truth int, s occupancy.Snapshot)   // each minute in which the hall is open
	wrong func(sensors []visitors.Sensor, people *visitors.Hall) // what is wrong today; may be nil
}

func newHall(o Options, s scenario, seed uint64) *hall {
	h := &hall{scenario: s, people: o.Hall, every: 1, rnd: rand.New(rand.NewPCG(seed, 1))}
	settings := occupancy.Settings{
		Capacity: capacity, Levels: levels, Location: time.UTC,
		Hours: func(time.Time) []occupancy.Span { return []occupancy.Span{{From: 8*60 + 30, To: 17*60 + 30}} },
	}
	trial := o.Hall.Day(h.rnd)
	for i := range o.Hall.Shares {
		door := occupancy.Door{ID: doorID(i), Role: occupancy.Visitor, Counters: []string{doorID(i)}, Sensor: counter.Sensor(s.technique)}
		h.scales = append(h.scales, 1)
		if s.scaled {
			door.Scale = trial.HandCount(h.rnd, s.technique, i, 9*time.Hour, handful)
			h.scales[i] = door.Scale
		}
		settings.Doors = append(settings.Doors, door)
	}
	h.ours = occupancy.New(settings)
	return h
}

func doorID(i int) string { return string(rune('A' + i)) }

func (h *hall) run(o Options) (r Row) {
	first := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for n := range o.Learn + o.Days {
		h.look = func(_ time.Time, truth int, s occupancy.Snapshot) {
			r.notice(s.Findings) // while it learns, too
			if n >= o.Learn {
				r.see(truth, h.plain, s)
			}
		}
		h.day(first.AddDate(0, 0, n))
	}
	return r
}

// day lets a day pass minute by minute.
func (h *hall) day(midnight time.Time) {
	people := h.people
	sensors := make([]visitors.Sensor, len(h.scales))
	for i := range sensors {
		sensors[i].Technique = h.scenario.technique
	}
	if h.wrong != nil {
		h.wrong(sensors, &people)
	}
	day := people.Day(h.rnd)
	var dead visitors.Window
	if h.scenario.dying && h.rnd.Float64() < 0.3 {
		dead.From = 9*time.Hour + time.Duration(h.rnd.Float64()*float64(7*time.Hour)).Truncate(time.Minute)
		dead.To = dead.From + 30*time.Minute
		sensors[h.rnd.IntN(len(sensors))].Dead = []visitors.Window{dead}
	}
	counts := day.Counted(h.rnd, sensors)
	h.plain = 0
	for minute := 6 * 60; minute < 20*60; minute++ {
		now := time.Duration(minute) * time.Minute
		for ; len(counts) > 0 && counts[0].At <= now; counts = counts[1:] {
			h.count(midnight, counts[0])
		}
		for i, s := range sensors {
			if !s.Heard(now) {
				continue
			}
			if len(s.Dead) > 0 && dead.To == now { // it lost what it had counted, as the meter tells
				h.ours.Apply(counter.Pass{Device: doorID(i), Door: doorID(i), From: midnight.Add(dead.From), To: midnight.Add(now), Uncertain: true})
			}
			h.ours.Reading(doorID(i), midnight.Add(now))
		}
		if h.look != nil && minute%h.every == 0 && minute >= 8*60+30 && minute < 17*60+30 {
			h.look(midnight.Add(now), day.Inside(now, false), h.ours.Snapshot(midnight.Add(now)))
		}
	}
}

// count takes what a sensor counted, read once a second.
func (h *hall) count(midnight time.Time, c visitors.Count) {
	to := midnight.Add(c.At.Truncate(time.Second))
	h.ours.Apply(counter.Pass{
		Device: doorID(c.Door), Door: doorID(c.Door), In: uint64(c.In), Out: uint64(c.Out),
		From: to.Add(-time.Second), To: to,
	})
	h.plain = math.Max(0, h.plain+h.scales[c.Door]*float64(c.In-c.Out))
}
