package occupancy

import (
	"math"
	"math/bits"
	"slices"
)

// Code names a finding.
type Code string

const (
	DoorSilent Code = "door_silent" // a door with traffic counts nobody
	Direction  Code = "direction"   // a door counts in as out: its directions are mixed up
	Imbalance  Code = "imbalance"   // more come by the doors than leave by them, or the reverse
)

// Finding is something wrong with the doors that their passes show. It stands
// until the passes of a whole day show it no more, a silent door until it counts
// again, an imbalance also until a head count.
type Finding struct {
	Code Code
	Door string // "" where it is about the hall
}

// suspicion is what was found.
type suspicion struct {
	Turned   []string `json:"turned,omitempty"` // doors
	Unequal  bool     `json:"unequal,omitempty"`
	Today    evidence `json:"today,omitzero"`
	Gap      float64  `json:"gap,omitempty"` // imbalance and entries at the last head count
	GapSince float64  `json:"gap_since,omitempty"`

	// The last look at the day.
	Judged      uint64   `json:"judged,omitempty"` // passes until then
	LastTurned  []string `json:"last_turned,omitempty"`
	LastUnequal bool     `json:"last_unequal,omitempty"`
}

// evidence is what the day itself has shown.
type evidence struct {
	Turned  bool `json:"turned,omitempty"`
	Unequal bool `json:"unequal,omitempty"`
	Silent  bool `json:"silent,omitempty"`

	Rewired bool `json:"rewired,omitempty"` // directions were set anew: the day's curve is of two minds
}

// nextDay keeps what was found, and none of the day's evidence.
func (s suspicion) nextDay() suspicion {
	return suspicion{Turned: s.Turned, Unequal: s.Unequal}
}

const (
	suspectStep = 15   // minutes between two looks at the day
	manyDoors   = 6    // above so many, doors are turned round one by one or all
	enough      = 150  // passes before anything is suspected
	turnedBy    = 0.3  // share of the squared error that may be left when a door is turned round
	unequalBy   = 0.10 // share of the entries that is an imbalance
	sure        = 5.0  // standard deviations
)

// rewire takes that the directions of a door are set another way from now on. What
// was counted before went the wrong way or goes it now, so nobody knows who is
// inside until a head count, and the day says nothing of directions any more.
func (s *state) rewire(door string) {
	s.Turned = slices.DeleteFunc(slices.Clone(s.Turned), func(d string) bool { return d == door })
	s.LastTurned, s.Today.Turned, s.Today.Rewired = nil, false, true
	s.Unequal, s.LastUnequal = false, false
	s.Unseen, s.Spoilt = s.Clock, true
}

// suspect looks at the day so far. Only what two looks in a row show is found.
func (e *Estimator) suspect() {
	s := &e.state
	var passed uint64
	for i, d := range s.Doors {
		if e.settings.Doors[i].Role != Staff {
			passed += d.In + d.Out
		}
	}
	if passed == s.Judged || passed < enough {
		return
	}
	s.Judged = passed
	if s.Today.Rewired {
		return
	}
	turned, unequal := e.turned(), e.unequal()
	if len(turned) > 0 && slices.Equal(turned, s.LastTurned) {
		s.Today.Turned = true
		for _, d := range turned {
			if !slices.Contains(s.Turned, d) {
				s.Turned = append(slices.Clone(s.Turned), d)
			}
		}
	}
	if unequal && s.LastUnequal {
		s.Today.Unequal, s.Unequal = true, true
	}
	s.LastTurned, s.LastUnequal = turned, unequal
}

// clear drops what a whole day has not shown any more.
func (e *Estimator) clear(fit bool) {
	s := &e.state
	if fit && !s.Today.Turned {
		s.Turned = nil
	}
	if fit && !s.Today.Unequal {
		s.Unequal = math.Abs(s.Learned.Balance) > 0.2
	}
}

// turned are the doors that make sense of the day when they are turned round: as
// counted, balance and anchor contradict each other, and so they hardly do.
func (e *Estimator) turned() (doors []string) {
	for _, d := range e.settings.Doors {
		if d.Role != Staff {
			doors = append(doors, d.ID)
		}
	}
	as, varying := e.course(0, live), e.state.Learned.Varying
	off := as.off(varying)
	best, least := uint(0), turnedBy*off
	for _, turn := range turns(len(doors)) {
		if off := e.course(turn, live).off(varying); off < least {
			best, least = turn, off
		}
	}
	// A queue that nobody foresaw is no mixed up door, nor are the usual errors: it
	// must be large in persons, against those who are usually inside, and against
	// what the passes may have missed. Less will do where turning explains it all.
	staff := rota * e.staff()
	missed := min(e.noise(), 2*e.prior())*as.weighed/2 + staff*staff + e.state.Doubt
	if off <= 64*as.steps+max(6*missed*as.steps, 0.1*as.mm)*min(1, least/off/0.15) {
		return nil
	}
	n := 0
	for i, d := range doors {
		if best>>i&1 == 1 {
			doors[n] = d
			n++
		}
	}
	return doors[:n]
}

// turns are the sets of doors that may be mixed up, as bits.
func turns(doors int) (sets []uint) {
	all := uint(1)<<min(doors, bits.UintSize-1) - 1
	for set := uint(1); doors <= manyDoors && set <= all; set++ {
		sets = append(sets, set)
	}
	if doors > manyDoors {
		for i := range min(doors, bits.UintSize-1) {
			sets = append(sets, 1<<i)
		}
		sets = append(sets, all)
	}
	return sets
}

// unequal says whether the sums of the doors do not fit, since the last head count.
func (e *Estimator) unequal() bool {
	s := &e.state
	c := e.course(0, raw)
	gap, entered := c.balance-c.anchor-s.Gap, c.in-s.GapSince
	l := s.Learned
	// Queues have longer tails than the errors of sensors.
	queue := l.Spread*(c.anchor+4) + l.Varying*c.anchor*c.anchor
	variance := min(e.noise(), 1.5*e.prior())*c.weighed + 2.5*queue + s.Doubt
	if !s.Unseen.IsZero() && gap < 0 { // they left whom nobody saw come
		gap = min(0, gap+float64(e.settings.Capacity)/2)
	}
	return entered > 100 && math.Abs(gap) > unequalBy*entered && gap*gap > sure*sure*variance
}

// rebalance takes that a head count was made: what the sums were off by until then
// is settled.
func (e *Estimator) rebalance() {
	s := &e.state
	c := e.course(0, raw)
	s.Gap, s.GapSince = c.balance-c.anchor, c.in
	s.Unequal, s.Today.Unequal = false, false
}

// findings are all that stand, in the order of the doors.
func (e *Estimator) findings() (all []Finding) {
	s := &e.state
	for _, d := range s.Doors {
		if slices.Contains(s.Turned, d.ID) {
			all = append(all, Finding{Direction, d.ID})
		}
	}
	for _, d := range s.Doors {
		if d.Quiet.Found {
			all = append(all, Finding{DoorSilent, d.ID})
		}
	}
	if s.Unequal {
		all = append(all, Finding{Code: Imbalance})
	}
	return all
}

// visitorsOf leaves of some doors those that are visitors' doors still.
func (e *Estimator) visitorsOf(doors []string) (left []string) {
	for _, d := range e.settings.Doors {
		if d.Role != Staff && slices.Contains(doors, d.ID) {
			left = append(left, d.ID)
		}
	}
	return left
}
