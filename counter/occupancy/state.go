package occupancy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	version   = 2
	dayBegins = 4 // o'clock, when the hall is empty
	grid      = time.Minute

	// alike is for how long, as a part of the stay, chance keeps more or fewer people
	// inside than the anchor says. For arrivals at random it would be two thirds; a
	// queue takes longer.
	alike = 0.8
)

// state is what must survive a restart, but for the curves of the days.
type state struct {
	V     int       `json:"v"`
	Day   string    `json:"day"`            // local date, from 04:00 to 04:00; "" before the first pass
	Left  string    `json:"left,omitempty"` // day that was given up when the clock was last set back
	Clock time.Time `json:"clock"`          // latest time heard of
	Step  int       `json:"step"`           // minutes of the day that are over
	Doors []door    `json:"doors"`          // as in the settings

	Filter filter `json:"filter"`
	Anchor anchor `json:"anchor"`
	Crew   crew   `json:"crew"`

	// Since the last head count, or since 04:00.
	Since     time.Time `json:"since"`
	Passed    uint64    `json:"passed"` // through visitors' doors
	Uncertain uint64    `json:"uncertain,omitempty"`
	Doubt     float64   `json:"doubt,omitempty"` // variance of what nobody saw
	Eaten     float64   `json:"eaten,omitempty"` // people the number would have gone below zero by, within an hour or so
	Unseen    time.Time `json:"unseen,omitzero"` // until when people may have come uncounted; zero: none did

	Measured time.Time `json:"measured,omitzero"` // last figure of a level sensor
	Borders  [3]border `json:"borders"`

	Learned learned `json:"learned"`
	Spoilt  bool    `json:"spoilt,omitempty"` // nothing is to be learned from the day
	suspicion
}

// door is a door's part of the state.
type door struct {
	ID string `json:"id"`
	tally
	Open   tally  `json:"open"` // of the step of the curve that is not over
	Quiet  quiet  `json:"quiet"`
	Wiring string `json:"wiring,omitempty"`

	// Profile is the usual passes of each half hour from 04:00 on, none before a day
	// was learned from.
	Profile []float64 `json:"profile,omitempty"`
}

type tally struct {
	In  uint64 `json:"in"`
	Out uint64 `json:"out"`
}

// unknown takes that people may have passed whom nobody counted.
func (s *state) unknown(variance float64) {
	s.Doubt += variance
	s.Filter.Cov[inside][inside] += variance
}

// reflect keeps the number above zero: nobody can leave who never came. When more
// went out than were inside, somebody was missed on the way in, and the number
// begins anew at zero at that moment: otherwise those who come later would fill a
// hole instead of the hall.
func (s *state) reflect() {
	if s.Filter.people() >= 0 {
		return
	}
	s.Eaten -= s.Filter.people()
	s.Filter.Mean[inside] = 0
	s.Filter.Cov[inside][inside] = max(s.Filter.Cov[inside][inside], s.Eaten*s.Eaten)
}

// enter moves the state on to a time, and begins a new day when it is time. It
// returns false for a time in a day that is over.
//
// When the clock was set back, what was counted before has no time of its own:
// the state begins anew. It is gone also when the clock comes back to the day it
// was counted on, as it does where a clock without a battery is behind until the
// network sets it.
func (e *Estimator) enter(at time.Time) bool {
	s, day := &e.state, e.day(at)
	switch {
	case s.Clock.Sub(at) > setBack:
		e.start(at, s.Day)
		s.Unseen = stored(at)
	case s.Day == "":
		e.start(at, "")
	case day > s.Day:
		e.advance(e.begin(e.dayStart().Add(30 * time.Hour)))
		e.learn()
		e.start(e.begin(at), s.Left)
		if day == s.Left {
			s.Unseen = stored(at)
		}
	case day < s.Day:
		return false
	}
	e.advance(at)
	return true
}

// start begins a day at a time, with the hall empty.
func (e *Estimator) start(at time.Time, left string) {
	old, begin := e.state, e.begin(at)
	e.state = state{
		V: version, Day: e.day(at), Left: left, Clock: stored(at), Doors: old.Doors, Since: stored(begin),
		Step: int(at.Sub(begin) / grid), Learned: old.Learned, suspicion: old.suspicion.nextDay(),
	}
	for i, d := range old.Doors {
		e.state.Doors[i] = door{ID: d.ID, Profile: d.Profile, Wiring: d.Wiring}
	}
	e.state.Filter.set(0, 0, e.state.Learned.Varying)
	e.days.begin(e.state.Day, e.state.Step/curveStep, e.settings.Doors)
}

// advance makes all steps of the grid up to a time.
func (e *Estimator) advance(to time.Time) {
	s := &e.state
	for n := int(to.Sub(e.dayStart()) / grid); s.Step < n; {
		e.step()
	}
	if to.After(s.Clock) {
		s.Clock = stored(to)
	}
}

// step lets a minute go by.
func (e *Estimator) step() {
	s := &e.state
	s.Step++
	minutes, stay := grid.Minutes(), s.Learned.Stay
	s.Anchor.age(minutes, stay)
	s.Crew.age(minutes, e.staffAhead(s.Step))
	s.Eaten *= math.Exp(-minutes / 60)
	shape := s.Learned.shape(s.Step)
	anchor := s.Anchor.people() * shape
	hidden := e.hidden()
	s.Filter.pay(minutes)
	s.Filter.stray(math.Exp(-minutes/(alike*stay)), s.Learned.Spread*(anchor+4)+hidden*hidden)
	s.Filter.pull(s.Crew.Present, anchor, s.Anchor.slope()*shape, 1)
	s.Filter.Mean[inside] = max(s.Filter.Mean[inside], 0)
	e.listen()
	if s.Step%curveStep == 0 {
		e.close()
	}
	if s.Step%suspectStep == 0 {
		e.suspect()
	}
	e.observeAt(e.dayStart().Add(time.Duration(s.Step) * grid))
}

// hidden is how many may be inside whom no counter saw come.
func (e *Estimator) hidden() float64 {
	s := &e.state
	if s.Unseen.IsZero() {
		return 0
	}
	now := later(e.dayStart().Add(time.Duration(s.Step)*grid), s.Clock)
	return float64(e.settings.Capacity) / 2 * math.Exp(-max(0, now.Sub(s.Unseen).Minutes())/s.Learned.Stay)
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

// dayStart is the 04:00 that the day of the state began at.
func (e *Estimator) dayStart() time.Time {
	t, _ := time.ParseInLocation(time.DateOnly, e.state.Day, e.settings.Location) // Restore has seen to it
	y, m, d := t.Date()
	return time.Date(y, m, d, dayBegins, 0, 0, 0, e.settings.Location)
}

// stored is a time as it is after a restart.
func stored(t time.Time) time.Time { return t.UTC().Round(0) }

// Marks returns the parts of the state that are to be stored in the transaction of
// what was applied: "state", and "day/0" to "day/7" where a curve changed since
// the last Marks or Restore.
func (e *Estimator) Marks() map[string][]byte {
	marks := map[string][]byte{"state": encode(e.state)}
	for i := range e.days.slots {
		if e.days.changed[i] {
			marks[slotName(i)] = encode(e.days.slots[i])
		}
	}
	e.days.changed = [kept]bool{}
	return marks
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("occupancy: " + err.Error()) // only a number that is none can do this
	}
	return b
}

// Restore goes on from what Marks returned; mark gives the bytes stored last under
// a name, nil for none. Settings stay as New was given them: a door that is new
// among them begins with nothing. After an error the estimator is as it was.
func (e *Estimator) Restore(mark func(name string) ([]byte, error)) error {
	stored, err := mark("state")
	if err != nil {
		return fmt.Errorf("read occupancy state: %w", err)
	}
	next := New(e.settings)
	if stored != nil {
		var s state
		if err := json.Unmarshal(stored, &s); err != nil {
			return fmt.Errorf("decode occupancy state: %w", err)
		}
		if err := s.check(); err != nil {
			return fmt.Errorf("decode occupancy state: %w", err)
		}
		doors := s.Doors
		s.Doors = next.state.Doors
		for i := range s.Doors {
			for _, d := range doors {
				if d.ID == s.Doors[i].ID {
					wiring := s.Doors[i].Wiring
					if s.Doors[i] = d; d.Wiring != wiring {
						s.Doors[i].Wiring = wiring
						s.rewire(d.ID)
					}
				}
			}
		}
		next.state = s
		next.state.Turned = next.visitorsOf(s.Turned)
		next.state.LastTurned = next.visitorsOf(s.LastTurned)
	}
	for i := range next.days.slots {
		b, err := mark(slotName(i))
		if err != nil {
			return fmt.Errorf("read occupancy curve: %w", err)
		}
		if b == nil {
			continue
		}
		r := new(record)
		if err := json.Unmarshal(b, r); err != nil {
			return fmt.Errorf("decode occupancy curve: %w", err)
		}
		if err := r.check(i); err != nil {
			return fmt.Errorf("decode occupancy curve: %w", err)
		}
		next.days.slots[i] = r
	}
	if next.state.Day != "" {
		next.days.edit(next.state.Day, e.settings.Doors) // there is one, of these doors
	}
	next.days.changed = [kept]bool{}
	e.state, e.days, e.opening = next.state, next.days, opening{}
	return nil
}

// check refuses what no estimator can have written.
func (s *state) check() error {
	if s.V != version {
		return fmt.Errorf("version %d is not known", s.V)
	}
	day, err := time.Parse(time.DateOnly, s.Day)
	if err != nil && s.Day != "" {
		return err
	}
	l, most := s.Learned, 1e9
	for _, r := range []struct{ value, least, most float64 }{
		{float64(day.Year()), 1, 9998}, {float64(s.Step), 0, 1560},
		{s.Filter.people(), 0, most}, {s.Filter.Owed, 0, most}, {s.Filter.Mean[longer], -1, 1}, {s.Filter.Mean[astray], -most, most},
		{s.Anchor.First, 0, most}, {s.Anchor.Second, -most, most}, {s.Anchor.Third, 0, most}, {s.Crew.Present, 0, most},
		{s.Doubt, 0, most * most}, {s.Eaten, 0, most}, {s.Gap, -most, most},
		{float64(l.Days), 0, most}, {l.Balance, -limit, limit}, {l.Noise, 0, most}, {l.Stay, 1e-3, 24 * 60}, {l.Spread, 0, most}, {l.Varying, 0, most},
	} {
		if !(r.value >= r.least && r.value <= r.most) {
			return errors.New("a number is out of its range")
		}
	}
	for _, d := range s.Doors {
		if len(d.Profile) != 0 && len(d.Profile) != halves {
			return errors.New("a profile is no day")
		}
	}
	return nil
}
