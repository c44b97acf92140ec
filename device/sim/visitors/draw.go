package visitors

import (
	"math"
	"math/rand/v2"
	"time"
)

// Stays draws how long a visitor stays, in parts of the mean.
type Stays func(rnd *rand.Rand) float64

// Mixed is a third of short errands, a third of the usual stay, beside long ones.
func Mixed(rnd *rand.Rand) float64 {
	if rnd.Float64() < 0.35 {
		return 0.35 * gamma(rnd, 2)
	}
	return (1 - 0.35*0.35) / 0.65 * gamma(rnd, 3)
}

// Gamma is the waiting for two things in a row.
func Gamma(rnd *rand.Rand) float64 { return gamma(rnd, 2) }

// Exponential has no memory: whoever is inside leaves at any moment alike.
func Exponential(rnd *rand.Rand) float64 { return rnd.ExpFloat64() }

// LogNormal has a long tail: one in a hundred stays four and a half times the mean.
func LogNormal(rnd *rand.Rand) float64 { return math.Exp(0.75*rnd.NormFloat64() - 0.75*0.75/2) }

// gamma of a whole shape, mean 1.
func gamma(rnd *rand.Rand, shape int) float64 {
	var sum float64
	for range shape {
		sum += rnd.ExpFloat64()
	}
	return sum / float64(shape)
}

// poisson with a mean; from 500 on a normal number is close enough.
func poisson(rnd *rand.Rand, mean float64) int {
	if mean > 500 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*rnd.NormFloat64())))
	}
	n := -1
	for sum := 0.0; sum < mean; n++ {
		sum += rnd.ExpFloat64()
	}
	return max(0, n)
}

// waves is when visitors come: a level floor and waves in the morning and after
// lunch, each a normal bell, cut off outside from and to.
type waves struct {
	from, to time.Duration
	floor    float64 // share of those who come at any time
	bells    []bell
}

type bell struct {
	share, middle, width float64 // middle and width in minutes since midnight
}

// waves draws the waves of a day.
func (h Hall) waves(rnd *rand.Rand) waves {
	jitter := func() float64 { return math.Exp(0.2 * rnd.NormFloat64()) }
	open, long := h.Open.Minutes(), (h.Close - h.Open).Minutes()
	w := waves{from: h.Open - 2*time.Minute, to: h.Close - 30*time.Minute, floor: 0.4 * jitter(), bells: []bell{
		{0.35 * jitter(), open + long*(0.15+0.03*rnd.NormFloat64()), 0.08 * long},
		{0.25 * jitter(), open + long*(0.65+0.03*rnd.NormFloat64()), 0.09 * long},
	}}
	sum := w.floor
	for _, b := range w.bells {
		sum += b.share
	}
	w.floor /= sum
	for i := range w.bells {
		w.bells[i].share /= sum
	}
	return w
}

func (w waves) draw(rnd *rand.Rand) time.Duration {
	for {
		at, r := w.from.Minutes()+rnd.Float64()*(w.to-w.from).Minutes(), rnd.Float64()
		r -= w.floor
		for _, b := range w.bells {
			if r < 0 {
				break
			}
			if r -= b.share; r < 0 {
				at = b.middle + b.width*rnd.NormFloat64()
			}
		}
		if t := minutes(at); t >= w.from && t < w.to {
			return t
		}
	}
}
