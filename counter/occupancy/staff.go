package occupancy

import (
	"math"
	"time"
)

const (
	ahead   = 60 // minutes before a shift in which its staff may come
	homeway = 15 // minutes, mean, after which those are gone whose shift ended

	// rota is the relative standard deviation of a schedule: somebody is ill, and
	// beams count those who come one by one better than those for whom a scale was
	// found.
	rota = 0.1
)

// crew is the staff among those inside, as far as the schedule tells: visitors and
// staff look alike at a door, but the first who come before a shift are its staff.
type crew struct {
	Present float64 `json:"present"`
}

// enter takes people who came; it returns how many of them were expected staff.
func (c *crew) enter(people, expected float64) float64 {
	came := min(people, max(0, expected-c.Present))
	c.Present += came
	return came
}

// leave takes people who left: whose shift is over leaves as likely as anybody.
func (c *crew) leave(people, visitors, expected float64) {
	if over := c.Present - expected; over > 0 {
		c.Present -= min(over, people*over/(over+max(visitors, 1)))
	}
}

// age lets minutes go by: who did not pass a visitors' door left by another.
func (c *crew) age(minutes, expected float64) {
	if over := c.Present - expected; over > 0 {
		c.Present -= over * -math.Expm1(-minutes/homeway)
	}
}

// staff is the number of staff taken to be inside now.
func (e *Estimator) staff() float64 {
	return max(e.state.Crew.Present, e.scheduled(e.state.Step))
}

// scheduled is the staff that should be inside, so many minutes after 04:00.
func (e *Estimator) scheduled(minute int) (people float64) {
	if !e.opens() {
		return 0
	}
	local := (minute + 60*dayBegins) % (24 * 60)
	for _, s := range e.settings.Staff {
		if s.From <= local {
			people = s.People
		}
	}
	return people
}

// staffAhead is the most that should be inside within the next hour.
func (e *Estimator) staffAhead(minute int) float64 {
	most := e.scheduled(minute)
	if len(e.settings.Staff) == 0 || !e.opens() {
		return 0
	}
	local := (minute + 60*dayBegins) % (24 * 60)
	for _, s := range e.settings.Staff {
		if s.From > local && s.From <= local+ahead {
			most = max(most, s.People)
		}
	}
	return most
}

// opening is the opening hours of one day, asked for once.
type opening struct {
	day   string
	known bool
	spans []Span
}

// hours of the day of the state.
func (e *Estimator) hours() opening {
	if e.opening.day != e.state.Day || e.state.Day == "" {
		e.opening = opening{day: e.state.Day}
		if e.settings.Hours != nil && e.state.Day != "" {
			noon := e.dayStart().Add(8 * time.Hour)
			e.opening.known, e.opening.spans = true, e.settings.Hours(noon)
		}
	}
	return e.opening
}

// opens says whether the hall opens at all today; true if nobody knows.
func (e *Estimator) opens() bool {
	h := e.hours()
	return !h.known || len(h.spans) > 0
}

// open says whether the hall is open so many minutes after 04:00; true if nobody
// knows.
func (e *Estimator) open(minute int) bool {
	h := e.hours()
	if !h.known {
		return true
	}
	local := minute + 60*dayBegins
	for _, s := range h.spans {
		if local >= s.From && local < s.To {
			return true
		}
	}
	return false
}
