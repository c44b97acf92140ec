package occupancy

import (
	"math"
	"slices"
	"time"

	"github.com/hallagent/hallagent/counter"
)

// Trust says what a number is worth.
type Trust string

const (
	Good        Trust = "good"
	Approximate Trust = "approximate" // show it with "about"
	Unknown     Trust = "unknown"     // there is no number
)

// Reason is the gravest cause of a trust that is not Good; the doors and the
// findings tell where.
type Reason string

// Reasons, from the gravest. As long as one of the first group is there, there is
// no number.
const (
	NoDoor   Reason = "no_door"   // no visitors' door is configured
	NotRead  Reason = "not_read"  // a visitors' door has not been read since the start
	ReadLost Reason = "read_lost" // one has not been read for 45 min
	Turned   Reason = "direction" // the directions of a door are mixed up
	Wide     Reason = "wide"      // the band spans more than two levels

	ReadLate  Reason = "read_late" // one has not been read for 15 min
	Blocked   Reason = "blocked"   // something stands in a beam
	Silent    Reason = "silent"    // a door with traffic counts nobody
	Unseen    Reason = "unseen"    // a counter did not count for a part of the day, see Estimator.Unseen
	Unequal   Reason = "imbalance" // more come by the doors than leave by them, or the reverse
	Negative  Reason = "negative"  // more people went out than were inside: some were missed on the way in
	Guessed   Reason = "guessed"   // a counter was reset or leapt, and some passes are guessed
	Uncounted Reason = "uncounted" // nobody counted by hand how many people the beams miss
	Drift     Reason = "drift"     // the band is wide, as after many passes or a gap
)

// Snapshot is the hall at one moment. While Trust is Unknown, People, Low and
// High are nil and Level is "".
type Snapshot struct {
	Day      string         `json:"day"`    // local date, from 04:00 to 04:00
	People   *int           `json:"people"` // visitors
	Low      *int           `json:"low"`    // with High: a band of 90 per cent
	High     *int           `json:"high"`
	Level    string         `json:"level"` // idle, moderate, busy, crowded
	Trust    Trust          `json:"trust"`
	Reason   Reason         `json:"reason"` // why Trust is not Good, "" when it is
	In       uint64         `json:"in"`     // passes of the day through visitors' doors, as counted
	Out      uint64         `json:"out"`
	Capacity int            `json:"capacity"`
	Doors    []DoorSnapshot `json:"doors"`
	Findings []Finding      `json:"findings,omitempty"`
}

// DoorSnapshot is one door, whatever its role.
type DoorSnapshot struct {
	Door  string     `json:"door"`
	In    uint64     `json:"in"` // passes of the day, as counted
	Out   uint64     `json:"out"`
	Last  *time.Time `json:"last"`  // last reading of the counter that was read longest ago; nil: one has not been read
	State string     `json:"state"` // waiting (not read since the start), online, late (15 min), lost (45 min)
}

const (
	late = 15 * time.Minute // a door not read for so long makes the number approximate
	lost = 45 * time.Minute // and for so long unknown

	tolerated = 0.02 // share of uncertain passes in a good number
	narrow    = 0.1  // half width of the band of a good number, as a share of the capacity
	ninety    = 1.64 // standard deviations of a band of 90 per cent
)

// Snapshot computes the hall at now; it changes nothing.
func (e *Estimator) Snapshot(now time.Time) Snapshot {
	at := e.At(now)
	at.state.settle(now)
	return at.snapshot(now)
}

// At is the estimator as it is when nobody passes until now, a copy.
func (e *Estimator) At(now time.Time) *Estimator {
	at := e.Clone()
	if at.state.Day == "" && !e.since.IsZero() {
		at.enter(e.since) // nobody came yet: since then
	}
	at.enter(now)
	return at
}

func (e *Estimator) snapshot(now time.Time) Snapshot {
	s := Snapshot{Day: e.state.Day, Capacity: e.settings.Capacity, Findings: e.findings()}
	trust := trust{level: Good}
	var missing float64 // variance
	visitors := 0
	for i, door := range e.settings.Doors {
		t := e.state.Doors[i]
		last, heard := e.last(door)
		d := DoorSnapshot{Door: door.ID, In: t.In, Out: t.Out, State: "waiting"}
		age := now.Sub(last)
		if heard {
			d.Last, d.State = &last, "online"
			switch {
			case age >= lost:
				d.State = "lost"
			case age >= late:
				d.State = "late"
			}
		}
		s.Doors = append(s.Doors, d)
		if door.Role == Staff {
			continue
		}
		visitors++
		s.In, s.Out = s.In+t.In, s.Out+t.Out
		switch d.State {
		case "waiting":
			trust.lower(Unknown, NotRead)
		case "lost":
			trust.lower(Unknown, ReadLost)
		case "late":
			trust.lower(Approximate, ReadLate)
		}
		if slices.ContainsFunc(door.Counters, func(c string) bool { return e.blocked[c] }) {
			trust.lower(Approximate, Blocked)
		}
		if heard && age > 0 && !t.Quiet.Found {
			missing += e.hides(i, e.expected(i, last, now))
		}
	}
	if visitors == 0 {
		trust.lower(Unknown, NoDoor)
	}
	e.judge(&trust, missing)
	s.Trust, s.Reason = trust.level, trust.reason
	if s.Trust == Unknown {
		return s
	}
	people, low, high := e.band(missing).whole()
	s.People, s.Low, s.High = &people, &low, &high
	if e.settings.Capacity > 0 {
		s.Level = e.state.level()
	}
	return s
}

// judge lowers a trust by what the state knows; missing is the variance of what
// doors that were not read hide.
func (e *Estimator) judge(trust *trust, missing float64) {
	s, b := &e.state, e.band(missing)
	if len(s.Turned) > 0 {
		trust.lower(Unknown, Turned)
	}
	if e.settings.Capacity > 0 {
		percent := 100 / float64(e.settings.Capacity)
		if plain(percent*b.high, e.settings.Levels)-plain(percent*b.low, e.settings.Levels) > 1 {
			trust.lower(Unknown, Wide)
		}
	}
	uncounted := false
	for i, d := range e.settings.Doors {
		_, counted := e.settings.scale(d)
		beam := d.Sensor != counter.Gate && d.Sensor != counter.Camera
		uncounted = uncounted || d.Role != Staff && beam && !counted
		if s.Doors[i].Quiet.Found {
			trust.lower(Approximate, Silent)
		}
	}
	if !s.Unseen.IsZero() {
		trust.lower(Approximate, Unseen)
	}
	if s.Unequal {
		trust.lower(Approximate, Unequal)
	}
	if s.Eaten > missable {
		trust.lower(Approximate, Negative)
	}
	if s.Uncertain > 0 && float64(s.Uncertain) > tolerated*float64(s.Passed) {
		trust.lower(Approximate, Guessed)
	}
	if uncounted {
		trust.lower(Approximate, Uncounted)
	}
	if e.settings.Capacity > 0 && (b.high-b.low)/2 > narrow*float64(e.settings.Capacity) {
		trust.lower(Approximate, Drift)
	}
}

// band is visitors, and where the truth lies nine times out of ten.
type band struct{ people, low, high float64 }

func (b band) whole() (people, low, high int) {
	people = int(math.Round(b.people))
	return people, int(math.Ceil(b.low)), int(math.Floor(b.high))
}

// band of now; missing is the variance of what doors that were not read hide.
func (e *Estimator) band(missing float64) band {
	x := e.people()
	staff := rota * e.staff()
	variance := e.state.Filter.variance() + 0.25 + staff*staff + missing
	for i := range e.state.Doors {
		if e.state.Doors[i].Quiet.Found {
			variance += e.hides(i, e.missed(i))
		}
	}
	under, over := e.unscaled()
	half := func(scale float64) float64 {
		return math.Hypot(ninety*math.Sqrt(variance+scale*x*scale*x), e.hidden())
	}
	return band{people: x, low: max(0, x-half(over)), high: x + half(under)}
}

// hides is the variance of people whom so many passes missed at a door may have
// brought in or taken out: half of them go one way.
func (e *Estimator) hides(door int, passes float64) float64 {
	scale, _ := e.settings.scale(e.settings.Doors[door])
	people := scale * passes / 2
	return people * people
}

// unscaled is how unsure the scale is, weighed by the traffic of the doors:
// relative standard deviations of the truth above and below.
func (e *Estimator) unscaled() (under, over float64) {
	var all float64
	for i, d := range e.settings.Doors {
		if d.Role == Staff {
			continue
		}
		t := technique{under: calibrated, over: calibrated}
		if _, counted := e.settings.scale(d); !counted {
			t = d.technique()
		}
		n := float64(e.state.Doors[i].In+e.state.Doors[i].Out) + 1
		all += n
		under, over = under+n*t.under, over+n*t.over
	}
	all = max(all, 1)
	return under / all, over / all
}

// last is the last reading of the door's counter that was read longest ago.
func (e *Estimator) last(d Door) (last time.Time, heard bool) {
	for i, c := range d.Counters {
		at, ok := e.heard[c]
		if !ok {
			return time.Time{}, false
		}
		if i == 0 || at.Before(last) {
			last = at
		}
	}
	return last, len(d.Counters) > 0
}

// trust is lowered by every cause found; the first of the gravest is the reason.
type trust struct {
	level  Trust
	reason Reason
}

func (t *trust) lower(to Trust, reason Reason) {
	rank := map[Trust]int{Good: 0, Approximate: 1, Unknown: 2}
	if rank[to] > rank[t.level] {
		t.level, t.reason = to, reason
	}
}
