// Package occupancy estimates how many visitors are in a hall from the passes
// through its doors.
//
// The number is what went in less what went out since 04:00 local time, times
// the scale of a hand count, less the expected staff. A head count by a manager
// starts it anew. It comes with a band in which the truth lies nine times out of
// ten, and with a trust that says whether it may be shown. There is no I/O and no
// clock here: the same passes in the same order always give the same numbers,
// also through a restart.
//
// Nobody can leave who never came. When more went out than were inside, somebody
// was missed on the way in, and the number begins anew at zero at that moment:
// otherwise those who come later would fill a hole instead of the hall. What was
// set aside so widens the band and is told. Only where that happens does it
// matter in which order the doors report; else everything is sums of integers.
//
// What it does not know yet: the balance of a door that misses more people on
// the way out than in, which only past days can teach, and how long visitors
// stay, which would pull a drifting number back. So errors add up until the
// next 04:00, and the band grows with every pass. Doors miss people in both
// directions alike, which no balance shows: without a scale from a hand count
// the trust is never better than approximate, and with one only as long as the
// band is narrow.
package occupancy

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/hallagent/hallagent/counter"
)

// Role of a door.
type Role string

const (
	Visitor Role = "visitor"
	Staff   Role = "staff" // left out of the hall's numbers
	Both    Role = "both"  // counts as a visitor's door; the staff through it is expected, not known
)

// Door is a door and the counters at it.
type Door struct {
	ID       string
	Role     Role
	Counters []string // devices; a door is heard when all of them are
}

// Settings of a hall.
type Settings struct {
	Capacity int            // comfortable number of visitors; 0: no level is given
	Location *time.Location // of the hall's clock; nil: UTC
	Staff    float64        // staff expected inside that came through visitors' doors
	Scale    float64        // people per counted person, from a hand count; 0: nobody has counted
	Levels   [3]int         // per cent of Capacity where moderate, busy and crowded begin; zero: 30, 60, 85
	Doors    []Door
}

const (
	dayBegins = 4 // o'clock, when the hall is empty

	// noise is the variance one pass adds, in people squared, as long as no past
	// days have taught a better one: a day of 1400 passes then ends 12 off.
	noise = 0.1

	// doubt is how many passes an uncertain interval may hide beside those it shows,
	// however short it was; a long one may hide all that the door usually sees.
	doubt = 10

	// spanned is how long before 04:00 or before a head count a pass may have begun
	// to be wholly after it. What began earlier is divided by time, and uncertain.
	spanned = 2 * time.Minute

	// setBack is how far behind the estimator a pass must lie to be no late one:
	// then the clock was ahead before, and the old day was none.
	setBack = time.Hour

	// missable is how many people may have been set aside below zero in a good
	// number: as many as two doors that report in turn may show the wrong way round.
	missable = 5
)

// Estimator keeps the number of people. It is not safe for concurrent use.
type Estimator struct {
	settings Settings
	doors    map[string]Door      // by id
	heard    map[string]time.Time // last reading of each counter since the start
	state    state
}

// state is what must survive a restart.
type state struct {
	V     int              `json:"v"`
	Day   string           `json:"day"`            // local date, from 04:00 to 04:00; "" before the first pass
	Left  string           `json:"left,omitempty"` // day that was given up when the clock was last set back
	Clock time.Time        `json:"clock"`          // latest time heard of
	Doors map[string]tally `json:"doors"`          // of the day, all doors

	// Since the last head count, or since 04:00.
	Since     time.Time `json:"since"`
	Base      float64   `json:"base"` // people at that time, staff included
	BaseVar   float64   `json:"base_var"`
	Net       tally     `json:"net"` // through visitors' doors since
	Uncertain uint64    `json:"uncertain"`
	Doubt     float64   `json:"doubt"`           // variance of uncertain intervals
	Eaten     float64   `json:"eaten,omitempty"` // people the number would have gone below zero by
	Unseen    time.Time `json:"unseen,omitzero"` // until when people may have come uncounted; zero: none did

	Borders [3]border `json:"borders"`
}

type tally struct {
	In  uint64 `json:"in"`
	Out uint64 `json:"out"`
}

// New returns an estimator that has heard nothing.
func New(s Settings) *Estimator {
	if s.Location == nil {
		s.Location = time.UTC
	}
	if s.Levels == ([3]int{}) {
		s.Levels = [3]int{30, 60, 85}
	}
	e := &Estimator{settings: s, doors: map[string]Door{}, heard: map[string]time.Time{}}
	for _, d := range s.Doors {
		e.doors[d.ID] = d
	}
	e.state = state{V: 1, Doors: map[string]tally{}}
	return e
}

// Reading says that a counter was read, whether anybody passed or not.
func (e *Estimator) Reading(device string, at time.Time) { e.heard[device] = at }

// Apply takes a pass. One of a day that is over, or of a door that is not
// configured, changes nothing but that its counter was heard.
func (e *Estimator) Apply(p counter.Pass) {
	e.Reading(p.Device, p.To)
	door, ok := e.doors[p.Door]
	if !ok || !e.enter(p.To) {
		return
	}
	s := &e.state
	today, _ := after(e.begin(p.To), p)
	t := s.Doors[p.Door]
	s.Doors[p.Door] = tally{t.In + today.In, t.Out + today.Out}
	if door.Role == Staff {
		return
	}
	net, divided := after(s.Since, p)
	s.Net.In, s.Net.Out = s.Net.In+net.In, s.Net.Out+net.Out
	if (p.Uncertain || divided) && p.To.After(s.Since) {
		n := p.In + p.Out + doubt
		if p.Uncertain {
			n += uint64(e.rate(t, p.From) * p.To.Sub(p.From).Seconds())
		}
		s.Uncertain += n
		s.Doubt += float64(n) * float64(n)
	}
	s.Eaten += max(0, -e.inside())
	s.settle(s.Clock)
	s.observe(s.Clock, e.percent(), e.settings.Levels)
}

// after is the part of a pass that is later than since, and whether it had to be
// divided for that.
func after(since time.Time, p counter.Pass) (part tally, divided bool) {
	switch before := since.Sub(p.From); {
	case !p.To.After(since):
		return tally{}, false
	case before <= spanned:
		return tally{p.In, p.Out}, false
	}
	share := float64(p.To.Sub(since)) / float64(p.To.Sub(p.From))
	return tally{uint64(math.Round(share * float64(p.In))), uint64(math.Round(share * float64(p.Out)))}, true
}

// Unseen says that people may have passed the counter before at, today, without
// being counted: it was read for the first time, its total leapt and was taken as
// it is, or it is another device now. The number is approximate from then until a
// head count or 04:00, and its band has room for half a full hall, less as those
// who were inside leave. In the first 15 minutes after 04:00, at a staff's door and
// before the last head count it changes nothing.
func (e *Estimator) Unseen(device string, at time.Time) {
	if !e.visitors(device) || !e.enter(at) {
		return
	}
	if at.Sub(e.begin(at)) > late && at.After(e.state.Since) {
		e.state.Unseen = at
	}
}

// visitors says whether a counter is one of a visitors' door.
func (e *Estimator) visitors(device string) bool {
	for _, d := range e.settings.Doors {
		if d.Role != Staff && slices.Contains(d.Counters, device) {
			return true
		}
	}
	return false
}

// Correct takes a head count of the visitors, made by a person; all passes applied
// so far are taken to be older. A negative one, or one of a day that is over, is none.
func (e *Estimator) Correct(people int, at time.Time) {
	if people < 0 || !e.enter(at) {
		return
	}
	s := &e.state
	n := float64(people)
	s.Base, s.BaseVar = n+e.settings.Staff, 1+(0.03*n)*(0.03*n)
	s.Since, s.Net, s.Uncertain, s.Doubt, s.Eaten, s.Unseen = at, tally{}, 0, 0, 0, time.Time{}
	s.set(e.percent(), e.settings.Levels)
}

// enter moves the clock on and begins a new day when it is time. It returns
// false for a time in a day that is over.
func (e *Estimator) enter(at time.Time) bool {
	e.state = e.on(at)
	s := &e.state
	if e.day(at) < s.Day {
		return false
	}
	if at.After(s.Clock) {
		s.Clock = at
	}
	return true
}

// on is the state at a time: a new one when a day begins, and when the clock was
// set back, for then what was counted before has no time of its own. It is gone
// also when the clock comes back to the day it was counted on, as it does where
// a clock without a battery is behind until the network sets it.
func (e *Estimator) on(at time.Time) state {
	day, ahead := e.day(at), e.state.Clock.Sub(at) > setBack
	if day <= e.state.Day && !ahead {
		return e.state
	}
	left := e.state.Left
	if ahead {
		left = e.state.Day
	}
	s := state{V: 1, Day: day, Left: left, Clock: at, Doors: map[string]tally{}, Since: e.begin(at)}
	if ahead || day == left {
		s.Unseen = at
	}
	return s
}

// day is the local date of the day from 04:00 to 04:00 that t lies in.
func (e *Estimator) day(t time.Time) string {
	return e.begin(t).Format(time.DateOnly)
}

// begin is the 04:00 at or before t.
func (e *Estimator) begin(t time.Time) time.Time {
	local := t.In(e.settings.Location)
	y, m, d := local.Date()
	if local.Hour() < dayBegins {
		d--
	}
	return time.Date(y, m, d, dayBegins, 0, 0, 0, e.settings.Location)
}

// scale is people per counted person, and how unsure that is.
func (e *Estimator) scale() (s, sigma float64) {
	if e.settings.Scale > 0 {
		return e.settings.Scale, 0.03
	}
	return 1, 0.15
}

// inside is how many persons are inside by count, the staff among them.
func (e *Estimator) inside() float64 {
	s := &e.state
	scale, _ := e.scale()
	return s.Base + scale*(float64(s.Net.In)-float64(s.Net.Out)) + s.Eaten
}

// people is the estimate of the visitors, never negative. The staff is taken off
// last: before it has all come, the number is zero and nothing is set aside.
func (e *Estimator) people() float64 { return max(0, e.inside()-e.settings.Staff) }

// percent of the capacity; 0 without one.
func (e *Estimator) percent() float64 {
	if e.settings.Capacity <= 0 {
		return 0
	}
	return 100 * e.people() / float64(e.settings.Capacity)
}

// MarshalBinary returns the state, to be stored in the transaction of the passes
// that made it. When the counters were last heard is not part of it: after a
// restart the number is unknown until each of them has been read again.
func (e *Estimator) MarshalBinary() ([]byte, error) {
	b, err := json.Marshal(e.state)
	if err != nil {
		return nil, fmt.Errorf("write occupancy state: %w", err)
	}
	return b, nil
}

// UnmarshalBinary goes on from a state that MarshalBinary made. Settings stay as
// New was given them.
func (e *Estimator) UnmarshalBinary(b []byte) error {
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("read occupancy state: %w", err)
	}
	if s.V != 1 {
		return fmt.Errorf("read occupancy state: version %d is not known", s.V)
	}
	if s.Doors == nil {
		s.Doors = map[string]tally{}
	}
	e.state = s
	return nil
}
