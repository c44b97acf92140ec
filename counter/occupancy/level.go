package occupancy

import "time"

// Levels of a hall, from the least.
var levelNames = [4]string{"idle", "moderate", "busy", "crowded"}

const (
	margin  = 4.0 // points of a per cent a border must be passed by
	patient = 3 * time.Minute
)

// border is one border between two levels: it counts as passed when the number
// has been beyond it by the margin for long enough. Between two observations the
// number does not change, so when that happens needs no clock to be known.
type border struct {
	Above bool      `json:"above"`
	Since time.Time `json:"since,omitzero"` // when the number went beyond to the other side
}

// observe takes the number as it is now.
func (e *Estimator) observe() { e.observeAt(e.state.Clock) }

func (e *Estimator) observeAt(t time.Time) {
	e.state.settle(t)
	e.state.observe(t, e.percent(), e.settings.Levels)
}

// settle moves the borders to where they are at t.
func (s *state) settle(t time.Time) {
	for i := range s.Borders {
		b := &s.Borders[i]
		if !b.Since.IsZero() && t.Sub(b.Since) >= patient {
			*b = border{Above: !b.Above}
		}
	}
}

// observe takes the number from t on, in per cent of the capacity.
func (s *state) observe(t time.Time, percent float64, levels [3]int) {
	for i := range s.Borders {
		b, at := &s.Borders[i], float64(levels[i])
		beyond := percent >= at+margin
		if b.Above {
			beyond = percent <= at-margin
		}
		switch {
		case !beyond:
			b.Since = time.Time{}
		case b.Since.IsZero():
			b.Since = stored(t)
		}
	}
}

// set takes a number that is known, without patience.
func (s *state) set(percent float64, levels [3]int) {
	for i := range s.Borders {
		s.Borders[i] = border{Above: percent >= float64(levels[i])}
	}
}

// level is the name of the level.
func (s *state) level() string {
	n := 0
	for _, b := range s.Borders {
		if b.Above {
			n++
		}
	}
	return levelNames[n]
}

// plain is the index of the level of a number, without patience.
func plain(percent float64, levels [3]int) (n int) {
	for _, l := range levels {
		if percent >= float64(l) {
			n++
		}
	}
	return n
}
