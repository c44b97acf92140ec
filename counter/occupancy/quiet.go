package occupancy

import "time"

const (
	deadBy      = 20.0 // passes missed that make a door silent
	deadFor     = 10   // minutes open, at least
	firstOthers = 200  // passes elsewhere that make a door silent that never counted
	firstOpen   = 120  // minutes open that make the only door silent
)

// quiet is what a visitors' door has not counted since its last pass, or since
// 04:00. The minutes are those in which the hall was open.
type quiet struct {
	Minutes int     `json:"minutes,omitempty"`
	Due     float64 `json:"due,omitempty"`        // passes usual in that time at this door
	Others  float64 `json:"others,omitempty"`     // passes at the other doors
	Usual   float64 `json:"others_due,omitempty"` // passes usual there
	Found   bool    `json:"found,omitempty"`
}

// passed takes passes of a visitors' door that happened within some time. Those of
// a door that was not read for long say nothing of the others.
func (e *Estimator) passed(door int, n uint64, within time.Duration) {
	s := &e.state
	if n == 0 {
		return
	}
	for i := range s.Doors {
		switch q := &s.Doors[i].Quiet; {
		case i == door:
			if q.Found {
				s.unknown(e.hides(i, e.missed(i)))
			}
			*q = quiet{}
		case within < deadFor*time.Minute:
			q.Others += float64(n)
		}
	}
}

// listen goes one minute on and says which doors are silent.
func (e *Estimator) listen() {
	s := &e.state
	if !e.open(s.Step - 1) {
		return
	}
	for i := range s.Doors {
		if e.settings.Doors[i].Role == Staff {
			continue
		}
		q := &s.Doors[i].Quiet
		q.Minutes++
		for j := range s.Doors {
			usual, _ := e.usual(j, s.Step-1)
			switch {
			case i == j:
				q.Due += usual
			case e.settings.Doors[j].Role != Staff:
				q.Usual += usual
			}
		}
		if !q.Found && s.Step%curveStep == 0 && e.silent(i) {
			q.Found, s.Today.Silent = true, true
		}
	}
}

// silent says whether a door should have counted by now.
func (e *Estimator) silent(door int) bool {
	s := &e.state
	d, q := s.Doors[door], s.Doors[door].Quiet
	if q.Minutes < deadFor {
		return false
	}
	if e.missed(door) >= deadBy {
		return true
	}
	if d.In+d.Out > 0 || d.Profile != nil {
		return false
	}
	if e.only(door) {
		return e.hours().known && q.Minutes >= firstOpen
	}
	return q.Others > firstOthers
}

// missed is how many passes a door would have counted since its last one. What the
// other doors see meanwhile says how busy the hall is; when they see nothing
// either, all may be dead, or the hall is closed, so it takes more.
func (e *Estimator) missed(door int) float64 {
	s := &e.state
	d, q := s.Doors[door], s.Doors[door].Quiet
	today, others := float64(d.In+d.Out), -q.Others
	for i, o := range s.Doors {
		if i != door && e.settings.Doors[i].Role != Staff {
			others += float64(o.In + o.Out)
		}
	}
	if d.Profile == nil {
		switch {
		case today < 30 || others+today < 100:
			return 0
		case others > 30:
			return min(1, today/others) * q.Others
		}
		return 0.4 * today * float64(q.Minutes) / float64(max(60, s.Step-q.Minutes-firstHour))
	}
	alone := 0.4 * q.Due
	if q.Usual == 0 {
		return alone
	}
	return max(alone, q.Due*min(1.5, q.Others/(q.Usual+10)))
}

// firstHour is minutes from 04:00 in which hardly any hall is open.
const firstHour = 240

// only says whether the hall has no other visitors' door.
func (e *Estimator) only(door int) bool {
	for i, d := range e.settings.Doors {
		if i != door && d.Role != Staff {
			return false
		}
	}
	return true
}

// expected is the passes a door usually sees between two times of today: what past
// days taught, or else at the rate of today until then.
func (e *Estimator) expected(door int, from, to time.Time) (n float64) {
	begin := e.dayStart()
	from = later(from, begin)
	if e.state.Doors[door].Profile == nil {
		d := e.state.Doors[door]
		open := max(time.Hour, from.Sub(begin))
		return float64(d.In+d.Out) / open.Minutes() * max(0, to.Sub(from).Minutes())
	}
	for minute := int(from.Sub(begin) / grid); minute < int(to.Sub(begin)/grid); minute++ {
		usual, _ := e.usual(door, minute)
		n += usual
	}
	return n
}
