// Package visitors makes up days of a service hall: who came when by which door
// and how long they stayed, and what the sensors at the doors counted of that.
// The truth is known at any time, so an estimate can be held against it.
//
// The stays are no textbook distribution: most visitors wait long, a third only
// hand something in. Volume, waves and mean stay differ from day to day, for an
// estimator that fits one and the same day every time has learned nothing. All is
// drawn from the caller's source: one seed, one hall.
//
// Limits: visitors choose their doors independently of each other and of the door
// they came by, and nobody turns round in a doorway.
package visitors

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"time"
)

// Hall is a hall whose days are to be made. Zero fields stand for the values in
// brackets.
type Hall struct {
	Visitors float64       // a day [700]
	Stay     time.Duration // mean [35 min]
	Stays    Stays         // how stays spread around their mean [Mixed]
	Pairs    float64       // share of arrivals that are two who pass together [0.22]; negative: none
	Shares   []float64     // of the doors in the traffic [0.6, 0.4]
	Varying  float64       // relative standard deviation of the mean stay from day to day [0.1]; negative: none

	Open, Close time.Duration // since midnight [8:30, 17:30]; the last visitor comes half an hour before Close

	Staff []Shift
	Leak  float64 // share of those who come by a counted door that leaves by an uncounted one
}

// Shift is the staff inside from a time of the day on, until the next Shift. They
// come within half an hour before it and leave within half an hour after.
type Shift struct {
	From   time.Duration
	People int
}

// Uncounted is the door of a pass that no sensor sees.
const Uncounted = -1

// Pass is one group that went through a door at once.
type Pass struct {
	At    time.Duration // since local midnight
	Door  int           // index of Hall.Shares, or Uncounted
	In    bool
	Group int // persons: 1, or 2 side by side
	Staff bool
}

// Day is one day of the hall as it really was.
type Day struct {
	Passes  []Pass        // by time
	Stay    time.Duration // mean of that day's visitors
	Entered int           // visitors, leaking staff among them
}

// Day makes a day.
func (h Hall) Day(rnd *rand.Rand) Day {
	h = h.filled()
	var d Day
	volume := h.Visitors * math.Exp(0.15*rnd.NormFloat64()-0.011)
	stay := h.Stay.Minutes() * math.Exp(h.Varying*rnd.NormFloat64())
	waves := h.waves(rnd)
	arrivals := poisson(rnd, volume/(1+h.Pairs))
	var stayed time.Duration
	for range arrivals {
		group := 1
		if rnd.Float64() < h.Pairs {
			group = 2
		}
		in := waves.draw(rnd)
		// Who is not done at the end is seen out.
		out := min(in+minutes(h.Stays(rnd)*stay), h.Close+minutes(rnd.Float64()*5))
		exit := h.door(rnd)
		if rnd.Float64() < h.Leak {
			exit = Uncounted
		}
		d.add(in, out, h.door(rnd), exit, group, false)
		d.Entered += group
		stayed += time.Duration(group) * (out - in)
	}
	if d.Entered > 0 {
		d.Stay = stayed / time.Duration(d.Entered)
	}
	h.staff(rnd, &d)
	slices.SortStableFunc(d.Passes, func(a, b Pass) int { return cmp.Compare(a.At, b.At) })
	return d
}

// Inside is how many visitors, or members of the staff, are inside at a time.
func (d Day) Inside(at time.Duration, staff bool) int {
	n := 0
	for _, p := range d.Passes[:sort.Search(len(d.Passes), func(i int) bool { return d.Passes[i].At > at })] {
		switch {
		case p.Staff != staff:
		case p.In:
			n += p.Group
		default:
			n -= p.Group
		}
	}
	return n
}

func (d *Day) add(in, out time.Duration, entry, exit, group int, staff bool) {
	d.Passes = append(d.Passes,
		Pass{At: in, Door: entry, In: true, Group: group, Staff: staff},
		Pass{At: out, Door: exit, Group: group, Staff: staff})
}

// staff adds the passes of the staff.
func (h Hall) staff(rnd *rand.Rand, d *Day) {
	inside := 0
	for _, s := range h.Staff {
		for ; inside < s.People; inside++ {
			d.Passes = append(d.Passes, Pass{At: s.From - minutes(rnd.Float64()*30), Door: h.door(rnd), In: true, Group: 1, Staff: true})
		}
		for ; inside > s.People; inside-- {
			d.Passes = append(d.Passes, Pass{At: s.From + minutes(rnd.Float64()*30), Door: h.door(rnd), Group: 1, Staff: true})
		}
	}
}

func (h Hall) filled() Hall {
	h.Visitors = cmp.Or(h.Visitors, 700)
	h.Stay = cmp.Or(h.Stay, 35*time.Minute)
	h.Pairs = max(0, cmp.Or(h.Pairs, 0.22))
	h.Varying = max(0, cmp.Or(h.Varying, 0.1))
	h.Open = cmp.Or(h.Open, 8*time.Hour+30*time.Minute)
	h.Close = cmp.Or(h.Close, 17*time.Hour+30*time.Minute)
	if h.Stays == nil {
		h.Stays = Mixed
	}
	if len(h.Shares) == 0 {
		h.Shares = []float64{0.6, 0.4}
	}
	return h
}

// Shares are those of so many doors in the traffic: the first is the main entrance
// and has that share, the others the rest.
func Shares(doors int, main float64) []float64 {
	all := slices.Repeat([]float64{(1 - main) / float64(max(1, doors-1))}, doors)
	all[0] = main
	return all
}

// door draws a door by its share.
func (h Hall) door(rnd *rand.Rand) int {
	var sum float64
	for _, s := range h.Shares {
		sum += s
	}
	r := rnd.Float64() * sum
	for i, s := range h.Shares {
		if r -= s; r < 0 {
			return i
		}
	}
	return len(h.Shares) - 1
}

func minutes(m float64) time.Duration { return time.Duration(m * float64(time.Minute)) }
