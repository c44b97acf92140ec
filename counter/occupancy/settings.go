package occupancy

import (
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
	Counters []string       // devices; a door is heard when all of them are
	Sensor   counter.Sensor // "" stands for Beam, the most cautious
	Wiring   string         // how its counters are turned, in any words: another one ends what was found of its directions
	Scale    float64        // people per counted person, from a hand count at this door; 0: that of the hall
}

// Shift is the staff expected inside who came by visitors' doors, from a minute
// of the local day on until the next Shift.
type Shift struct {
	From   int
	People float64
}

// Span is a part of the local day in minutes since midnight, without To itself.
type Span struct{ From, To int }

// Settings of a hall.
type Settings struct {
	Capacity int                        // comfortable number of visitors; 0: no level is given
	Location *time.Location             // of the hall's clock; nil: UTC
	Staff    []Shift                    // in order; a constant is one Shift at 0
	Hours    func(day time.Time) []Span // opening hours of the local day, day being any time in it, none when closed; nil: not known
	Scale    float64                    // people per counted person, from a hand count; 0: nobody has counted
	Levels   [3]int                     // per cent of Capacity where moderate, busy and crowded begin; zero: 30, 60, 85
	Doors    []Door

	Stay time.Duration // how long visitors stay, the mean, until past days have taught it; 0: 40 minutes
}

// technique is what is known of a sensor before the hall has taught it: noise is
// the variance that one pass adds, in people squared; under and over are relative
// standard deviations of the truth above and below a figure nobody has calibrated.
type technique struct{ noise, under, over float64 }

// technique of a door. Sensors miss rather than invent, beams above all: measured
// ones see 57 to 97 per cent of the people, so the truth lies above.
func (d Door) technique() technique {
	switch d.Sensor {
	case counter.Gate:
		return technique{noise: 0.01, under: 0.01, over: 0.01}
	case counter.Camera:
		return technique{noise: 0.03, under: 0.03, over: 0.03}
	}
	return technique{noise: 0.1, under: 0.2, over: 0.05}
}

// calibrated is the relative standard deviation of a scale from a hand count of
// 200 persons or more.
const calibrated = 0.03

// scale of a door: people per counted person; known says that somebody counted.
func (s Settings) scale(d Door) (scale float64, known bool) {
	switch {
	case d.Scale > 0:
		return d.Scale, true
	case s.Scale > 0:
		return s.Scale, true
	}
	return 1, false
}

// filled has what the zero values stand for.
func (s Settings) filled() Settings {
	if s.Location == nil {
		s.Location = time.UTC
	}
	if s.Stay <= 0 {
		s.Stay = 40 * time.Minute
	}
	if s.Levels == ([3]int{}) {
		s.Levels = [3]int{30, 60, 85}
	}
	return s
}
