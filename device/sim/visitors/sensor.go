package visitors

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Technique is what a sensor counts with.
type Technique string

const (
	Gate   Technique = "gate"   // misses 0.3 % on the way in, 0.6 % on the way out
	Camera Technique = "camera" // stereo: misses 1 % and 2 %
	// Beam misses 2 % and 3.5 %, takes 75 to 85 % of two abreast for one (drawn for
	// each day), counts 1 % twice and 1.2 % in the other direction.
	Beam Technique = "beam"
)

// Sensor is what stands at a door, and what is wrong with it.
type Sensor struct {
	Technique Technique
	Swapped   bool     // in and out are mixed up
	Silent    []Window // blocked or covered: it is heard, and counts nothing
	Dead      []Window // it is not heard, and what passes is lost
}

// Window is a part of the day, from From until before To.
type Window struct{ From, To time.Duration }

// Count is what a sensor counted of one group.
type Count struct {
	At      time.Duration
	Door    int
	In, Out int
}

// rates of error, by direction: 0 in, 1 out.
type rates struct {
	miss             [2]float64
	abreast          [2]float64 // least and most share of two abreast that are counted once
	double, reversed float64
}

func (t Technique) rates() rates {
	switch t {
	case Gate:
		return rates{miss: [2]float64{0.003, 0.006}}
	case Camera:
		return rates{miss: [2]float64{0.01, 0.02}}
	}
	return rates{miss: [2]float64{0.02, 0.035}, abreast: [2]float64{0.75, 0.85}, double: 0.01, reversed: 0.012}
}

// Counted is what the sensors, one for each door, count of a day, by time.
func (d Day) Counted(rnd *rand.Rand, sensors []Sensor) []Count {
	abreast := make([]float64, len(sensors))
	for i, s := range sensors {
		r := s.Technique.rates()
		abreast[i] = r.abreast[0] + rnd.Float64()*(r.abreast[1]-r.abreast[0])
	}
	var counts []Count
	for _, p := range d.Passes {
		if p.Door == Uncounted {
			continue
		}
		s := sensors[p.Door]
		n := s.Technique.rates().count(rnd, p, abreast[p.Door])
		if s.Swapped {
			n.In, n.Out = n.Out, n.In
		}
		if n.In+n.Out > 0 && !within(s.Silent, p.At) && !within(s.Dead, p.At) {
			counts = append(counts, n)
		}
	}
	return counts
}

// count is what a sensor makes of one pass.
func (r rates) count(rnd *rand.Rand, p Pass, abreast float64) Count {
	bodies := p.Group
	if bodies == 2 && rnd.Float64() < abreast {
		bodies = 1
	}
	c, miss := Count{At: p.At, Door: p.Door}, r.miss[1]
	if p.In {
		miss = r.miss[0]
	}
	for range bodies {
		n := 1
		if rnd.Float64() < r.double {
			n = 2
		}
		in := p.In != (rnd.Float64() < r.reversed)
		switch {
		case rnd.Float64() < miss:
		case in:
			c.In += n
		default:
			c.Out += n
		}
	}
	return c
}

func within(windows []Window, at time.Duration) bool {
	return slices.ContainsFunc(windows, func(w Window) bool { return at >= w.From && at < w.To })
}

// Heard says whether a sensor answers at a time.
func (s Sensor) Heard(at time.Duration) bool { return !within(s.Dead, at) }

// HandCount is the scale that somebody finds who counts at least n persons by
// hand at a door, from a time of the day on, while the sensor counts, too: the
// root of in times out by hand over that of the sensor. 0 if too few came.
func (d Day) HandCount(rnd *rand.Rand, t Technique, door int, from time.Duration, n int) float64 {
	var part Day
	var hand, counted Count
	for _, p := range d.Passes {
		switch {
		case p.Door != door || p.At < from || hand.In+hand.Out >= n:
			continue
		case p.In:
			hand.In += p.Group
		default:
			hand.Out += p.Group
		}
		part.Passes = append(part.Passes, p)
	}
	sensors := slices.Repeat([]Sensor{{Technique: t}}, door+1)
	for _, c := range part.Counted(rnd, sensors) {
		counted.In, counted.Out = counted.In+c.In, counted.Out+c.Out
	}
	if hand.In+hand.Out < n || counted.In*counted.Out == 0 {
		return 0
	}
	return math.Sqrt(float64(hand.In*hand.Out) / float64(counted.In*counted.Out))
}
