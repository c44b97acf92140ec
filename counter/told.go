package counter

import (
	"slices"
	"time"
)

// seen is a stamp that came.
type seen struct {
	Stamp string    `json:"s"`
	Until time.Time `json:"u,omitzero"` // zero: for good
}

const (
	remembered = 300 // stamps: a day of periods of five minutes, and some
	stretch    = 1.7 // periods that one may be late before one is missing: a bucket of five minutes holds none or two
)

// tell takes a delta or an event.
func (m Meter) tell(r Reading) (Meter, Update) {
	if m.known && m.base.Value == Total {
		m = Meter{Poll: m.Poll, Rate: m.Rate} // the device was exchanged for one that tells
	}
	m.seen = slices.DeleteFunc(slices.Clone(m.seen), func(s seen) bool { return !s.Until.IsZero() && s.Until.Before(r.At) })
	if r.Stamp != "" {
		if i := slices.IndexFunc(m.seen, func(s seen) bool { return s.Stamp == r.Stamp }); i >= 0 {
			if r.Value == Delta && r.Once > 0 { // it goes on repeating itself; an event has no such reason
				m.seen[i].Until = r.At.Add(r.Once)
			}
			return m, Update{Pass: Pass{From: r.At, To: r.At}, Mark: m.Mark(), Note: Duplicate}
		}
		s := seen{Stamp: r.Stamp}
		if r.Once > 0 {
			s.Until = r.At.Add(r.Once)
		}
		m.seen = append(m.seen, s)
		m.seen = m.seen[max(0, len(m.seen)-remembered):]
	}
	u := Update{Pass: Pass{In: r.In, Out: r.Out, From: r.At, To: r.At}}
	stored := m.known && r.At.Before(m.base.At) // of a time that was told of already: it stands by itself
	switch {
	case !m.known:
		u.Note = First
		u.Pass.From = r.At.Add(-r.Period)
	case stored:
		u.Pass.From = r.At.Add(-r.Period)
	case r.Value == Delta:
		u.Pass.From = m.base.At
		period := r.Period
		if period == 0 {
			period = m.Poll
		}
		if period > 0 && r.At.Sub(m.base.At) > time.Duration(stretch*float64(period)) {
			u.Note, u.Pass.Uncertain = Gap, true
		}
	}
	if r.Missed && m.known {
		u.Note, u.Pass.Uncertain, u.Pass.From = Gap, true, earlier(m.base.At, r.At)
	}
	if most := m.most(max(r.At.Sub(u.Pass.From), r.Period)); r.In > most || r.Out > most {
		u.Note, u.Pass.Uncertain, u.Pass.In, u.Pass.Out = gravest(u.Note, Rebased), true, 0, 0
	}
	if !stored {
		m.base = Reading{At: r.At, Value: r.Value}
	}
	m.known = true
	m.taken++
	u.Mark = m.Mark()
	return m, u
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
