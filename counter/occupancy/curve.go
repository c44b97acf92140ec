package occupancy

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hallagent/hallagent/counter"
)

const (
	curveStep = 5   // minutes
	mostSteps = 312 // of a day: 26 h, one more than the longest day has
	kept      = 8   // days: today and seven before
)

// Day is the curve of one day, from 04:00 to 04:00.
type Day struct {
	Date  string `json:"date"`
	Steps []Step `json:"steps"` // in order, only those known
}

// Step is five minutes of a day. In and Out are spread over the time in which a
// counter counted them. People, Low and High are those at the end of the step, nil
// where there was no figure; Trust leaves out what only was known at the time: how
// long ago the doors were read.
type Step struct {
	Minute int    `json:"minute"` // since 04:00, at which the step begins
	In     uint64 `json:"in"`
	Out    uint64 `json:"out"`
	People *int   `json:"people"`
	Low    *int   `json:"low"`
	High   *int   `json:"high"`
	Trust  Trust  `json:"trust"`
}

// record is the stored curve of a day, as far as its steps are over. All slices
// but Doors are of one length.
type record struct {
	Date  string   `json:"date"`
	First int      `json:"first"` // step from which on the hall was watched
	Doors []series `json:"doors"`
	// -1 where there was no figure.
	People []int   `json:"people"`
	Low    []int   `json:"low"`
	High   []int   `json:"high"`
	Trust  []Trust `json:"trust"`
}

// series is what a visitors' door counted in each step.
type series struct {
	ID  string   `json:"id"`
	In  []uint64 `json:"in"`
	Out []uint64 `json:"out"`
}

// days are the curves kept, each in the slot of its date. A record that is not own
// is shared with a clone and is copied before it changes.
type days struct {
	slots   [kept]*record
	changed [kept]bool
	own     bool // the record changed last
}

// slot of a date.
func slot(date string) int {
	t, _ := time.Parse(time.DateOnly, date) // 0001-01-01 for what is no date
	days := int(t.Unix() / (24 * 3600))
	return (days%kept + kept) % kept
}

func slotName(i int) string { return fmt.Sprintf("day/%d", i) }

// begin makes the empty record of a day.
func (d *days) begin(date string, first int, doors []Door) {
	r := &record{Date: date, First: first}
	for _, door := range doors {
		if door.Role != Staff {
			r.Doors = append(r.Doors, series{ID: door.ID})
		}
	}
	i := slot(date)
	d.slots[i], d.changed[i], d.own = r, true, true
	for n := range first {
		d.slots[i].append(n, -1, -1, -1, Unknown)
	}
}

// edit gives the record of a day to be changed.
func (d *days) edit(date string, doors []Door) *record {
	i := slot(date)
	if r := d.slots[i]; r == nil || r.Date != date {
		d.begin(date, 0, doors)
	} else if !d.own {
		d.slots[i], d.own = r.clone(), true
	}
	d.changed[i] = true
	return d.slots[i]
}

// find gives the record of a day; nil if there is none.
func (d *days) find(date string) *record {
	if r := d.slots[slot(date)]; r != nil && r.Date == date {
		return r
	}
	return nil
}

func (r *record) clone() *record {
	c := *r
	c.People, c.Low, c.High, c.Trust = slices.Clone(r.People), slices.Clone(r.Low), slices.Clone(r.High), slices.Clone(r.Trust)
	c.Doors = slices.Clone(r.Doors)
	for i, s := range c.Doors {
		c.Doors[i].In, c.Doors[i].Out = slices.Clone(s.In), slices.Clone(s.Out)
	}
	return &c
}

func (r *record) steps() int { return len(r.People) }

// append adds a step that is over, and in which no door has counted yet.
func (r *record) append(step, people, low, high int, trust Trust) {
	if step != r.steps() || step >= mostSteps {
		return
	}
	r.People, r.Low, r.High, r.Trust = append(r.People, people), append(r.Low, low), append(r.High, high), append(r.Trust, trust)
	for i := range r.Doors {
		r.Doors[i].In, r.Doors[i].Out = append(r.Doors[i].In, 0), append(r.Doors[i].Out, 0)
	}
}

// door is the series of a door; nil if the day has none of it.
func (r *record) door(id string) *series {
	for i := range r.Doors {
		if r.Doors[i].ID == id {
			return &r.Doors[i]
		}
	}
	return nil
}

// check refuses what is no record of a slot.
func (r *record) check(i int) error {
	n := r.steps()
	bad := n > mostSteps || len(r.Low) != n || len(r.High) != n || len(r.Trust) != n || r.First < 0
	for _, s := range r.Doors {
		bad = bad || len(s.In) != n || len(s.Out) != n
	}
	if _, err := time.Parse(time.DateOnly, r.Date); err != nil || bad || slot(r.Date) != i {
		return errors.New("no curve of such a day")
	}
	return nil
}

// spread puts today's part of a pass into the steps it happened in: evenly over
// its time.
func (e *Estimator) spread(door int, p counter.Pass, n tally) {
	s := &e.state
	begin := e.dayStart()
	long := curveStep * grid
	from, to := later(p.From, begin).Sub(begin), p.To.Sub(begin)
	first, last := int(from/long), s.Step/curveStep // the last is the open one
	if first >= last || to <= from || n == (tally{}) || e.settings.Doors[door].Role == Staff {
		s.Doors[door].Open.In, s.Doors[door].Open.Out = s.Doors[door].Open.In+n.In, s.Doors[door].Open.Out+n.Out
		return
	}
	series := e.days.edit(s.Day, e.settings.Doors).door(e.settings.Doors[door].ID)
	done := tally{}
	for i := first; i <= last && done != n; i++ {
		share := min(1, max(0, float64(time.Duration(i+1)*long-from)/float64(to-from)))
		upto := tally{uint64(share*float64(n.In) + 0.5), uint64(share*float64(n.Out) + 0.5)}
		if i == last {
			upto = n
		}
		if series != nil && i < len(series.In) {
			series.In[i] += upto.In - done.In
			series.Out[i] += upto.Out - done.Out
		} else {
			s.Doors[door].Open.In += upto.In - done.In
			s.Doors[door].Open.Out += upto.Out - done.Out
		}
		done = upto
	}
}

// close ends a step of the curve.
func (e *Estimator) close() {
	s := &e.state
	r := e.days.edit(s.Day, e.settings.Doors)
	trust := trust{level: Good}
	e.judge(&trust, 0)
	people, low, high := -1, -1, -1
	if trust.level != Unknown {
		people, low, high = e.band(0).whole()
	}
	n := s.Step/curveStep - 1
	r.append(n, people, low, high, trust.level)
	for i := range s.Doors {
		if series := r.door(s.Doors[i].ID); series != nil && n < len(series.In) {
			series.In[n], series.Out[n] = s.Doors[i].Open.In, s.Doors[i].Open.Out
		}
		s.Doors[i].Open = tally{}
	}
}

// Today is the local date of the day that the estimator is in, from 04:00 to 04:00;
// "" before it has heard of one.
func (e *Estimator) Today() string { return e.state.Day }

// Day is the curve of today or of one of the seven days before; false if there is
// none.
func (e *Estimator) Day(date string) (Day, bool) {
	t, err := time.Parse(time.DateOnly, date)
	today, _ := time.Parse(time.DateOnly, e.state.Day)
	r := e.days.find(date)
	if age := today.Sub(t); err != nil || r == nil || age < 0 || age >= kept*24*time.Hour {
		return Day{}, false
	}
	day := Day{Date: date, Steps: []Step{}}
	for i := range r.steps() {
		step := Step{Minute: i * curveStep, Trust: r.Trust[i]}
		for _, d := range r.Doors {
			step.In, step.Out = step.In+d.In[i], step.Out+d.Out[i]
		}
		if i < r.First && step.In+step.Out == 0 {
			continue
		}
		if r.People[i] >= 0 {
			step.People, step.Low, step.High = &r.People[i], &r.Low[i], &r.High[i]
		}
		day.Steps = append(day.Steps, step)
	}
	return day, true
}
