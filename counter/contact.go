package counter

import "time"

// contact debounces one input: its level is the last one that held long enough.
type contact struct {
	hold time.Duration

	level bool      // true: somebody is in the beam
	since time.Time // of level, as it was first seen

	raw     bool
	changed time.Time // raw was first seen so
	looked  time.Time
	edges   uint32
	known   bool
}

// look takes the input at one moment. Pulses are the times that it became active
// since the look before, 0 or 1; spikes those that were too short. Edges are
// those that the driver counted, if it counts; of the ring indicator it counts
// releases only.
//
// A pulse that came and went between two looks shows in the edges alone. It
// counts if the looks were so far apart that it can have been long enough.
func (c *contact) look(now time.Time, raw bool, edges uint32, counted, releasesOnly bool) (pulses, spikes uint64) {
	if !c.known {
		*c = contact{hold: c.hold, level: raw, since: now, raw: raw, changed: now, looked: now, edges: edges, known: true}
		return 0, 0
	}
	hidden := uint64(0)
	if counted {
		n := uint64(edges - c.edges)
		if releasesOnly {
			n *= 2
		}
		if raw != c.raw && n > 0 {
			n--
		}
		hidden = n / 2
	}
	apart := now.Sub(c.looked)
	c.edges, c.looked = edges, now
	switch {
	case raw != c.raw:
		if c.raw != c.level { // it went back before it had held
			spikes++
		}
		c.raw, c.changed = raw, now
	case hidden > 0 && !raw && !c.level && apart >= c.hold:
		pulses, hidden = 1, hidden-1 // who else came meanwhile cannot be told from noise
	}
	if hidden > 0 && raw != c.level {
		c.changed = now // it bounced meanwhile
	}
	spikes += hidden
	if c.raw != c.level && now.Sub(c.changed) >= c.hold {
		c.level, c.since = c.raw, c.changed
		if c.level {
			pulses++
		}
	}
	return pulses, spikes
}

// way is where somebody went through a pair of beams.
type way int

const (
	wayNone way = iota
	wayIn
	wayOut
	wayUnknown // both beams broke at once
)

// path follows one passage through a pair of beams: outer, both, inner is in, the
// reverse is out. Who goes back the way he came, or breaks one beam only, is none.
type path struct {
	way   way // of the last passage
	first int // beam that broke first, from 0
	both  bool
	even  bool // they broke together
	busy  bool
	last  [2]bool
}

// step takes the levels of the outer and the inner beam with the time each has
// held, and gives the way of a passage that just ended.
func (p *path) step(levels [2]bool, since [2]time.Time) way {
	before := p.last
	p.last = levels
	switch {
	case levels == [2]bool{}:
		if !p.busy {
			return wayNone
		}
		p.busy = false
		p.way = p.ended(before)
		return p.way
	case !p.busy:
		*p = path{busy: true, last: levels}
		if levels[1] && !levels[0] {
			p.first = 1
		}
	}
	if levels[0] && levels[1] && !p.both {
		p.both = true
		d := since[0].Sub(since[1])
		p.even = d.Abs() < together
		if d > 0 {
			p.first = 1
		} else {
			p.first = 0
		}
	}
	return wayNone
}

// ended tells the way from how the beams were left.
func (p *path) ended(before [2]bool) way {
	switch {
	case !p.both:
		return wayNone
	case p.even:
		return wayUnknown
	case before == [2]bool{false, true} && p.first == 0:
		return wayIn
	case before == [2]bool{true, false} && p.first == 1:
		return wayOut
	case before == [2]bool{true, true}: // both left at once: how they broke must do
		if p.first == 0 {
			return wayIn
		}
		return wayOut
	}
	return wayNone
}
