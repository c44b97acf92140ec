package occupancy

import (
	"math"
	"slices"
	"time"
)

const (
	limit     = 0.35 // of the balance: beyond it a sensor is wrong, not poor
	shortest  = 5.0  // minutes, mean stay that is believed
	longest   = 240.0
	few       = 60               // people of the anchor, over the steps of a half hour, of whom half is believed
	leastNews = 50               // entries of a day that teaches something
	halves    = 48               // half hours of a day
	window    = 20               // days over which noise is averaged
	unfit     = 10 * time.Minute // who counts blindly for so long teaches nothing
)

// learned is what past days have taught of a hall.
type learned struct {
	Days    int     `json:"days"`
	Balance float64 `json:"balance"` // logarithm of the exits counted per entry counted
	Noise   float64 `json:"noise"`   // variance that a person's pass adds; 0: that of the technique
	Stay    float64 `json:"stay"`    // minutes, mean
	Spread  float64 `json:"spread"`  // variance of those inside about the anchor, per person of it
	Varying float64 `json:"varying"` // variance of a day's own stay about the usual one, relative

	// Shape is what the anchor is off by at each half hour from 04:00 on, as a factor:
	// who comes early may stay longer. None before a day was learned from.
	Shape []float64 `json:"shape,omitempty"`
}

// unlearned is a hall of which nothing is known but how long people stay, more or
// less.
func unlearned(stay time.Duration) learned {
	return learned{Stay: stay.Minutes(), Spread: 1, Varying: 0.04}
}

// shape is what the anchor is off by, so many minutes after 04:00.
func (l learned) shape(minute int) float64 {
	if l.Shape == nil {
		return 1
	}
	at := min(max(float64(minute)/30-0.5, 0), halves-1)
	i := int(at)
	j := min(i+1, halves-1)
	return l.Shape[i] + (at-float64(i))*(l.Shape[j]-l.Shape[i])
}

// learn takes what the day that is over teaches, if it was one to learn from.
func (e *Estimator) learn() {
	s := &e.state
	c := e.course(0, balanced)
	ratio := c.out / max(c.in, 1)
	fit := !s.Spoilt && s.Unseen.IsZero() && c.in > leastNews && ratio > 0.5 && ratio < 2
	e.clear(fit)
	if !fit || s.Today.Turned || s.Today.Silent {
		return
	}
	l := &s.Learned
	l.Noise = max(0.002, e.noise()+(c.left*c.left/(c.weighed)-e.noise())/float64(min(l.Days+5, window)))
	l.Days++
	weight := max(0.1, 1/float64(l.Days))
	l.Balance = min(max(l.Balance+weight*(math.Log(ratio)-l.Balance), -limit), limit)
	own := c.own()
	young := 1 / float64(min(l.Days+2, window)) // as if two days had come before
	l.Varying = min(max(l.Varying+young*(math.Log(own)*math.Log(own)-l.Varying), 0.0025), 0.25)
	l.Spread = min(max(l.Spread+young*(c.spread()-l.Spread), 0.3), 20)
	l.Stay = min(max(l.Stay*(1+max(0.1, 1/float64(l.Days+1))*(own-1)), shortest), longest)
	l.Shape = reshape(l.Shape, c, own, weight)
	e.profile(weight)
}

// reshape takes what the anchor was off by on a day, less where few were inside.
func reshape(old []float64, c course, own, weight float64) []float64 {
	next := slices.Repeat([]float64{1}, halves)
	copy(next, old)
	for i, h := range c.halves {
		if h.m > 1 {
			news := min(max(h.n/h.m/own, 0.3), 3) - next[i]
			next[i] += weight * h.m / (h.m + few) * news
			next[i] = math.Round(next[i]*1000) / 1000
		}
	}
	return next
}

// profile takes the day's passes of each door by half hours.
func (e *Estimator) profile(weight float64) {
	r := e.days.find(e.state.Day)
	for i := range e.state.Doors {
		d := &e.state.Doors[i]
		series := r.door(d.ID)
		if series == nil {
			continue
		}
		next := make([]float64, halves)
		for n := range series.In {
			next[min(n*curveStep/30, halves-1)] += float64(series.In[n] + series.Out[n])
		}
		for h := range next {
			if d.Profile != nil {
				next[h] = d.Profile[h] + weight*(next[h]-d.Profile[h])
			}
			next[h] = math.Round(next[h]*10) / 10
		}
		d.Profile = next
	}
}

// usual is the passes a minute that a door usually sees, so many minutes after
// 04:00; not known before a day was learned from.
func (e *Estimator) usual(door, minute int) (rate float64, known bool) {
	if p := e.state.Doors[door].Profile; p != nil {
		return p[min(max(minute, 0)/30, halves-1)] / 30, true
	}
	return 0, false
}
