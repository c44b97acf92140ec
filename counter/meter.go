package counter

import (
	"encoding/json"
	"fmt"
	"time"
)

// Meter makes passes of the readings of one counter, whatever their Value. It is
// a value itself: Next returns the meter after a reading and leaves the one before
// as it was.
//
// Of totals:
//
//	totals rose by at most Rate·Δt + 20          passes
//	a total fell from above 0.9 of its modulus,
//	and the way round is at most Rate·Δt + 20    passes (rollover)
//	a total fell otherwise                       none: the meter waits for one more
//	                                             reading that agrees, and then takes
//	                                             as many as that shows, at most
//	                                             Rate·Δt + 20, uncertain (reset)
//	a total rose by more                         none: the meter waits for two more
//	                                             readings that agree, and then goes
//	                                             on from there, uncertain (rebased)
//
// Readings agree when each goes on from the one before as in the first two rows.
// A reading that goes on from the last one that counted comes first: then those
// in between were stray and are forgotten. So a stray reading makes no reset, but
// a counter that was reset and within one reading counts up to where it was is
// not noticed. A leap or a fall in one direction holds back both, so that a mark
// is always one reading.
//
// A delta or an event gives the passes it tells, unless its stamp came before, or
// more have passed than Rate·Δt + 20: then none, uncertain (rebased). Where one was
// missed, the interval from the reading before is uncertain. A level gives none.
type Meter struct {
	Poll time.Duration // expected time between readings; a gap is longer than three of them
	Rate float64       // most passes a second in one direction; 0 stands for 3

	base  Reading // the last reading that counted
	known bool    // base holds a reading
	held  Reading // the last of the readings that leapt or fell
	agree int     // how many of them agree

	seen  []seen // stamps of deltas and events, the oldest first
	told  stamps
	taken uint64 // deltas and events taken
}

const (
	defaultRate = 3.0
	burst       = 20  // passes that are always believed, whatever the time between
	agreeing    = 3   // readings that make a leap the new base
	falling     = 2   // readings that make a fall a reset
	rollsAbove  = 0.9 // of the modulus: a total below this has not rolled over

	disorder = time.Second // by which readings of two connections may overtake each other
)

// mark is a meter's stored state.
type mark struct {
	V int `json:"v"`
	Reading
	Seen  []seen `json:"seen,omitempty"`
	Told  stamps `json:"told,omitempty"`
	Taken uint64 `json:"taken,omitempty"`
}

// NewMeter goes on from a mark; an empty one stands for a counter never read.
func NewMeter(stored []byte, poll time.Duration) (Meter, error) {
	m := Meter{Poll: poll}
	if len(stored) == 0 {
		return m, nil
	}
	var k mark
	if err := json.Unmarshal(stored, &k); err != nil {
		return Meter{}, fmt.Errorf("read mark: %w", err)
	}
	if k.V != 1 {
		return Meter{}, fmt.Errorf("read mark: version %d is not known", k.V)
	}
	m.base, m.known, m.seen, m.told, m.taken = k.Reading, true, k.Seen, k.Told, k.Taken
	return m, nil
}

// Mark is the meter's state for the next start. A leap or a fall under
// observation is not part of it: the next start observes it again.
func (m Meter) Mark() []byte {
	if !m.known {
		return nil
	}
	b, err := json.Marshal(mark{V: 1, Reading: m.base, Seen: m.seen, Told: m.told, Taken: m.taken})
	if err != nil {
		panic("counter: " + err.Error()) // only a year beyond 9999 can do this
	}
	return b
}

// Last is the last reading that counted; the zero Reading before the first.
func (m Meter) Last() Reading { return m.base }

// Next takes a reading. Device and door of the pass are left empty.
func (m Meter) Next(r Reading) (Meter, Update) {
	switch r.Value {
	case Delta, Event:
		return m.tell(r)
	case Level:
		m.base, m.known = Reading{At: r.At, Value: Level}, true
		return m, Update{Pass: Pass{From: r.At, To: r.At}, Mark: m.Mark(), Level: &r.People}
	}
	if m.known && m.base.Value != Total {
		m = Meter{Poll: m.Poll, Rate: m.Rate} // the device was exchanged for one of totals
	}
	if !m.known {
		m.base, m.known = r, true
		return m, Update{Pass: Pass{From: r.At, To: r.At}, Mark: m.Mark(), Note: First}
	}
	// A wall clock that steps must not stretch the interval: how long it was tells
	// the monotonic one, as long as both readings have it.
	elapsed := r.At.Sub(m.base.At)
	if elapsed < 0 && elapsed > -disorder { // two connections at once: which was first does not matter
		elapsed = 0
	}
	u := Update{Pass: Pass{From: r.At.Add(-elapsed), To: r.At}}
	if elapsed < 0 { // the clock was set back: nobody knows how long it was
		elapsed = 24 * time.Hour
		u.Pass.From, u.Pass.Uncertain = r.At, true
	}
	if m.Poll > 0 && elapsed > 3*m.Poll {
		u.Note = Gap
	}
	most := m.most(elapsed)
	var in, out step
	if r.Modulus == m.base.Modulus {
		in, out = next(m.base.In, r.In, r.Modulus, most), next(m.base.Out, r.Out, r.Modulus, most)
	} else { // another register width: the totals say nothing about each other
		in, out = step{note: Rebased}, step{note: Rebased}
		m.agree = agreeing
	}
	if need := max(in.need(), out.need()); need > 0 {
		if m = m.observe(r); m.agree < need {
			return m, Update{Pass: Pass{From: m.base.At, To: m.base.At}, Mark: m.Mark()}
		}
	}
	u.Pass.In, u.Pass.Out = in.passes, out.passes
	u.Note = gravest(u.Note, in.note, out.note)
	u.Pass.Uncertain = u.Pass.Uncertain || u.Note == Reset || u.Note == Rebased
	m.base, m.held, m.agree = r, Reading{}, 0
	u.Mark = m.Mark()
	return m, u
}

// most is how many passes in one direction are believed within d.
func (m Meter) most(d time.Duration) uint64 {
	rate := m.Rate
	if rate <= 0 {
		rate = defaultRate
	}
	return uint64(rate*max(d, 0).Seconds()) + burst
}

// observe counts how many readings in a row agree.
func (m Meter) observe(r Reading) Meter {
	if m.agree >= agreeing {
		return m
	}
	most := m.most(r.At.Sub(m.held.At))
	if m.agree > 0 && next(m.held.In, r.In, r.Modulus, most).steady() && next(m.held.Out, r.Out, r.Modulus, most).steady() {
		m.agree++
	} else {
		m.agree = 1
	}
	m.held = r
	return m
}

// step is what happened to one total.
type step struct {
	passes uint64
	note   Note // "", Rollover, Reset, or Rebased for a leap
}

func (s step) steady() bool { return s.need() == 0 }

// need is how many readings must agree on a step before it is believed; 0 for one
// that needs no other.
func (s step) need() int {
	switch s.note {
	case Rebased:
		return agreeing
	case Reset:
		return falling
	}
	return 0
}

// next compares one total with the one before.
func next(before, now, modulus, most uint64) step {
	switch around := now - before + modulus; { // uint64 arithmetic is right for 2^64, too
	case now >= before && now-before <= most:
		return step{passes: now - before}
	case now >= before:
		return step{note: Rebased}
	case around <= most && float64(before) > rollsAbove*span(modulus):
		return step{passes: around, note: Rollover}
	}
	return step{passes: min(now, most), note: Reset}
}

func span(modulus uint64) float64 {
	if modulus == 0 {
		return 1 << 64
	}
	return float64(modulus)
}

func gravest(notes ...Note) Note {
	for _, n := range []Note{Rebased, Reset, Rollover, First, Gap} {
		for _, have := range notes {
			if have == n {
				return n
			}
		}
	}
	return ""
}
