// Package occupancy estimates how many visitors are in a hall from the passes
// through its doors.
//
// Three things are known of a hall. Who goes in is inside until somebody goes
// out: the balance of the doors, right for an hour and then ever less, since each
// door misses a few. Who came stays about as long as people stay: the anchor, the
// sum of all who came, weighted with the share that is still inside after such a
// time; it never drifts, but it does not see today's queue. And at 04:00 the hall
// is empty. A Kalman filter holds the balance, pulls it towards the anchor by as
// much as each deserves, and gives the band in which the truth lies nine times
// out of ten. How much that is, the hall teaches: every night the day is balanced
// out and shows what the doors miss on the way out, how noisy they are, and how
// long people stay.
//
// Doors miss people in both directions alike, which no balance shows: without a
// scale from a hand count the numbers of beams are too low, and the trust is
// never better than approximate. A direction that is mixed up, a door that fell
// silent, and doors whose sums do not fit are found from the passes themselves,
// within the day.
//
// There is no I/O and no clock here. The state moves on a grid of minutes since
// 04:00 local time and with what is applied: the same passes in the same order
// give the same numbers to the bit, through restarts and however often somebody
// looks. Limits: passes of a day that is over change nothing, and a hall where
// visitors stay overnight is not what this is for.
package occupancy

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/hallagent/hallagent/counter"
)

const (
	// doubt is how many passes an uncertain interval may hide beside those it shows,
	// however short it was; a long one may hide all that the door usually sees.
	doubt = 10

	// spanned is how long before 04:00 or before a head count a pass may have begun
	// to be wholly after it. What began earlier is divided by time, and uncertain.
	spanned = 2 * time.Minute

	// setBack is how far behind the estimator a pass must lie to be no late one:
	// then the clock was ahead before, and the old day was none.
	setBack = time.Hour

	// missable is how many people may have been set aside below zero within an hour
	// in a good number: as many as two doors that report in turn may show the wrong
	// way round.
	missable = 5
)

// Estimator keeps the number of people. It is not safe for concurrent use.
type Estimator struct {
	settings Settings
	heard    map[string]time.Time // last reading of each counter since the start
	since    time.Time            // first reading of any
	blocked  map[string]bool
	opening  opening
	state    state
	days     days
}

// New returns an estimator that has heard nothing.
func New(s Settings) *Estimator {
	e := &Estimator{settings: s.filled(), heard: map[string]time.Time{}, blocked: map[string]bool{}}
	e.state = state{V: version, Doors: make([]door, len(s.Doors)), Learned: unlearned(e.settings.Stay)}
	for i, d := range s.Doors {
		e.state.Doors[i].ID, e.state.Doors[i].Wiring = d.ID, d.Wiring
	}
	return e
}

// Reading says that a counter was read, whether anybody passed or not. It is not
// part of the state: after a restart the number is unknown until each counter has
// been read again.
func (e *Estimator) Reading(device string, at time.Time) {
	if len(e.heard) == 0 {
		e.since = at
	}
	e.heard[device] = at
}

// Blocked says whether the beam of a counter is blocked now, as the counter itself
// tells. It is not part of the state.
func (e *Estimator) Blocked(device string, blocked bool) { e.blocked[device] = blocked }

// Apply takes a pass as it is told. One of a door that is not configured changes
// nothing but that its counter was heard.
func (e *Estimator) Apply(p counter.Pass) { e.apply(p, p.To) }

// Late takes a pass that a device has kept and tells now. One of a day that is
// over changes nothing but that its counter was heard.
func (e *Estimator) Late(p counter.Pass, now time.Time) { e.apply(p, now) }

func (e *Estimator) apply(p counter.Pass, now time.Time) {
	p.From, p.To = stored(p.From), stored(p.To)
	e.Reading(p.Device, now)
	i := slices.IndexFunc(e.settings.Doors, func(d Door) bool { return d.ID == p.Door })
	if i < 0 || !e.enter(now) || e.day(p.To) != e.state.Day {
		return
	}
	s := &e.state
	today, _ := after(e.begin(p.To), p)
	expected := e.expected(i, p.From, p.To) // by what the door saw before
	s.Doors[i].In, s.Doors[i].Out = s.Doors[i].In+today.In, s.Doors[i].Out+today.Out
	e.spread(i, p, today)
	if e.settings.Doors[i].Role == Staff {
		return
	}
	e.passed(i, today.In+today.Out, p.To.Sub(p.From))
	net, divided := after(s.Since, p)
	s.Passed += net.In + net.Out
	switch n := float64(p.In + p.Out); {
	case !p.To.After(s.Since):
	case p.Uncertain:
		n += doubt + math.Floor(expected)
		s.Uncertain += uint64(n)
		s.unknown(n * n)
		s.Spoilt = s.Spoilt || p.To.Sub(p.From) >= unfit
	case divided: // the passes are right, on which side of the cut they were is not
		s.Uncertain += p.In + p.Out + doubt
		share := min(float64(p.To.Sub(s.Since))/float64(p.To.Sub(p.From)), 1)
		s.unknown(n * n * share * (1 - share))
		s.Spoilt = s.Spoilt || s.Since.After(e.begin(p.To)) // at 04:00 few are inside
	}
	e.move(i, net, later(p.From, s.Since), p.To)
	e.observe()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// move takes people who passed a door between two times.
func (e *Estimator) move(door int, n tally, from, to time.Time) {
	s := &e.state
	a, b := e.weights(door)
	in, out := a*float64(n.In), b*float64(n.Out)
	came := s.Crew.enter(in, e.staffAhead(s.Step))
	s.Crew.leave(out, s.Filter.people()-s.Crew.Present, e.staffAhead(s.Step))
	reached := e.dayStart().Add(time.Duration(s.Step) * grid)
	s.Anchor.enter(in-came, to.Sub(from).Minutes(), to.Sub(reached).Minutes(), s.Learned.Stay)
	s.Filter.move(in-out, e.noise()*(in+out))
	s.reflect()
	s.Crew.Present = min(s.Crew.Present, s.Filter.people()) // who is gone may come back
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
	share := min(float64(p.To.Sub(since))/float64(p.To.Sub(p.From)), 1)
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
		e.state.Unseen = stored(at)
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
	s, n := &e.state, float64(people)
	s.Crew.Present = e.staff()
	s.Filter.set(n+s.Crew.Present, 1+(0.03*n)*(0.03*n), s.Learned.Varying)
	s.Anchor.set(n)
	s.Since, s.Passed, s.Uncertain, s.Doubt, s.Eaten, s.Unseen = stored(at), 0, 0, 0, 0, time.Time{}
	e.rebalance()
	s.set(e.percent(), e.settings.Levels)
}

// Measure takes the figure of a level sensor for everybody in the hall. It is
// weighed against what is known: a tenth of it is taken for its error, and figures
// within ten minutes of each other are taken to err alike. A negative one, or one
// of a day that is over, is none.
func (e *Estimator) Measure(people int, at time.Time) {
	if people < 0 || !e.enter(at) {
		return
	}
	s, n := &e.state, float64(people)
	alike := 1.0
	if d := at.Sub(s.Measured).Minutes(); d < 10 {
		alike = 10 / max(d, 1e-3)
	}
	s.Measured = stored(later(at, s.Measured))
	s.Filter.measure(n, (4+(0.1*n)*(0.1*n))*alike)
	s.reflect()
	e.observe()
}

// weights of a door: people per counted entry and exit. What past days taught of
// the balance is shared between the two.
func (e *Estimator) weights(door int) (a, b float64) {
	scale, _ := e.settings.scale(e.settings.Doors[door])
	half := math.Exp(e.state.Learned.Balance / 2)
	return scale * half, scale / half
}

// noise is the variance a person's pass adds.
func (e *Estimator) noise() float64 {
	if n := e.state.Learned.Noise; n > 0 {
		return n
	}
	return e.prior()
}

// prior is the noise of the worst technique at a visitors' door.
func (e *Estimator) prior() (noise float64) {
	for _, d := range e.settings.Doors {
		if d.Role != Staff {
			noise = max(noise, d.technique().noise)
		}
	}
	return noise
}

// people is the estimate of the visitors, never negative. The staff is taken off
// last: before it has all come, the number is zero and nothing is set aside.
func (e *Estimator) people() float64 { return max(0, e.state.Filter.people()-e.staff()) }

// percent of the capacity; 0 without one.
func (e *Estimator) percent() float64 {
	if e.settings.Capacity <= 0 {
		return 0
	}
	return 100 * e.people() / float64(e.settings.Capacity)
}

// Clone is a copy that shares nothing that changes.
func (e *Estimator) Clone() *Estimator {
	c := *e
	c.heard, c.blocked = maps.Clone(e.heard), maps.Clone(e.blocked)
	c.state.Doors = slices.Clone(e.state.Doors)
	e.days.own, c.days.own = false, false // other slices are replaced, never changed
	return &c
}
