package counter

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"time"
)

// seen is a stamp that came and is remembered for a while.
type seen struct {
	Stamp string    `json:"s"`
	Until time.Time `json:"u"`
}

// stamps are those that are remembered for good, the oldest first: 48 bits of
// the SHA-256 of each, in base64. Of the most there can be, a new one is taken for
// one of them once in 3·10^10 times.
type stamps string

const (
	stampSize  = 8      // characters of one in told
	mostStamps = 10_100 // a week of records of a minute each: older ones are not believed
	mostSeen   = 300    // of those remembered for a while
	stretch    = 1.7    // periods that one may be late before one is missing: a bucket of five minutes holds none or two
)

func hashStamp(stamp string) string {
	sum := sha256.Sum256([]byte(stamp))
	return base64.RawStdEncoding.EncodeToString(sum[:6])
}

func (t stamps) has(hash string) bool {
	for i := len(t) - stampSize; i >= 0; i -= stampSize { // what comes again came lately
		if string(t[i:i+stampSize]) == hash {
			return true
		}
	}
	return false
}

func (t stamps) with(hash string) stamps {
	t += stamps(hash)
	return t[max(0, len(t)-mostStamps*stampSize):]
}

// tell takes a delta or an event.
func (m Meter) tell(r Reading) (Meter, Update) {
	if m.known && m.base.Value == Total {
		m = Meter{Poll: m.Poll, Rate: m.Rate} // the device was exchanged for one that tells
	}
	var again bool
	if m, again = m.remember(r); again {
		return m, Update{Pass: Pass{From: r.At, To: r.At}, Mark: m.Mark(), Note: Duplicate}
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
		u.Pass.From = r.At.Add(-r.At.Sub(m.base.At)) // see Next
		period := r.Period
		if period == 0 {
			period = m.Poll
		}
		if period > 0 && r.At.Sub(m.base.At) > time.Duration(stretch*float64(period)) {
			u.Note, u.Pass.Uncertain = Gap, true
		}
	}
	if r.Missed && m.known {
		u.Note, u.Pass.Uncertain, u.Pass.From = Gap, true, r.At.Add(-max(r.At.Sub(m.base.At), 0))
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

// remember keeps the stamp of a reading, and says whether it came before.
func (m Meter) remember(r Reading) (Meter, bool) {
	m.seen = slices.DeleteFunc(slices.Clone(m.seen), func(s seen) bool { return s.Until.Before(r.At) })
	switch hash := hashStamp(r.Stamp); {
	case r.Stamp == "":
	case r.Once == 0 && m.told.has(hash):
		return m, true
	case r.Once == 0:
		m.told = m.told.with(hash)
	default:
		if i := slices.IndexFunc(m.seen, func(s seen) bool { return s.Stamp == r.Stamp }); i >= 0 {
			if r.Value == Delta { // it goes on repeating itself; an event has no such reason
				m.seen[i].Until = r.At.Add(r.Once)
			}
			return m, true
		}
		m.seen = append(m.seen, seen{r.Stamp, r.At.Add(r.Once)})
		m.seen = m.seen[max(0, len(m.seen)-mostSeen):]
	}
	return m, false
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
