package occupancy

import "math"

// Unknowns of the filter.
const (
	inside = iota // people inside, staff included
	longer        // logarithm of today's mean stay as a part of the usual one
	astray        // visitors inside beyond that just now: chance, and a queue that comes and goes
	unknowns
)

// filter is a Kalman filter of who is inside and why that is not what the anchor
// says. Without the second and the third unknown, an anchor that is too low all
// day, or for half an hour, would be believed anew each minute.
type filter struct {
	Mean [unknowns]float64           `json:"mean"`
	Cov  [unknowns][unknowns]float64 `json:"cov"`

	// Owed is variance of passes that is not in Cov yet. It goes there little by
	// little: at once, a minute in which many leave would be corrected more readily
	// than one in which few do, and the number would creep up.
	Owed float64 `json:"owed"`
}

// people inside, never negative.
func (f *filter) people() float64 { return f.Mean[inside] }

// variance of the people inside.
func (f *filter) variance() float64 { return f.Cov[inside][inside] + f.Owed }

// set takes a number of people that is known up to a variance.
func (f *filter) set(people, variance, varying float64) {
	*f = filter{}
	f.Mean = [unknowns]float64{people, 0, 0}
	f.Cov[inside][inside], f.Cov[longer][longer] = variance, varying
}

// move takes people in (or out, below zero).
func (f *filter) move(people, variance float64) {
	f.Mean[inside] += people
	f.Owed += variance
}

// pay lets minutes go by for what is owed.
func (f *filter) pay(minutes float64) {
	due := f.Owed * -math.Expm1(-minutes/20)
	f.Owed -= due
	f.Cov[inside][inside] += due
}

// stray lets what is astray fall back by a factor, to a variance in the end.
func (f *filter) stray(factor, variance float64) {
	f.Mean[astray] *= factor
	for i := range unknowns {
		f.Cov[i][astray] *= factor
		f.Cov[astray][i] *= factor
	}
	f.Cov[astray][astray] += (1 - factor*factor) * variance
}

// measure takes a number of people known from elsewhere.
func (f *filter) measure(people, variance float64) {
	f.Cov[inside][inside], f.Owed = f.variance(), 0
	f.update(f.Mean[inside]-people, [unknowns]float64{inside: 1}, variance)
}

// pull takes it that the visitors are those of the anchor, with today's stay, and
// those astray, but for a variance. Slope is how the anchor grows with the
// logarithm of the stay.
func (f *filter) pull(staff, anchor, slope, variance float64) {
	f.update(f.Mean[inside]-staff-anchor-slope*f.Mean[longer]-f.Mean[astray], [unknowns]float64{1, -slope, -1}, variance)
}

// update takes that a weighed sum of the unknowns is off by a difference, up to a
// variance.
func (f *filter) update(off float64, weights [unknowns]float64, variance float64) {
	var with [unknowns]float64 // covariance of each unknown with the difference
	total := variance
	for i := range unknowns {
		for j := range unknowns {
			with[i] += f.Cov[i][j] * weights[j]
		}
		total += weights[i] * with[i]
	}
	for i := range unknowns {
		f.Mean[i] -= with[i] / total * off
		for j := range unknowns {
			f.Cov[i][j] -= with[i] * with[j] / total
		}
		f.Cov[i][i] = max(f.Cov[i][i], 0)
	}
	f.Mean[longer] = min(max(f.Mean[longer], -1), 1)
}

// anchor is who should be inside, judged by who came: a stay is two waits in a
// row, each half of the mean and without memory. So a share (1 + u)·e^(−u), with
// u = 2t/stay, of those who came t ago is still there, and two numbers hold all
// that matters of the past. The third, u²/2·e^(−u) of those who came, are the ones
// about whom it matters most how long a stay is.
type anchor struct {
	First  float64 `json:"first"` // in the first wait
	Second float64 `json:"second"`
	Third  float64 `json:"third"` // who left lately
}

func (a anchor) people() float64 { return a.First + a.Second }

// slope is how people grows with the logarithm of the stay.
func (a anchor) slope() float64 { return 2 * a.Third }

// set takes a number of people inside of whom nobody knows since when.
func (a *anchor) set(people float64) {
	if now := a.people(); now > 1 {
		f := people / now
		*a = anchor{a.First * f, a.Second * f, a.Third * f}
		return
	}
	*a = anchor{people / 2, people / 2, people / 2}
}

// age lets minutes go by; stay is the mean in minutes.
func (a *anchor) age(minutes, stay float64) {
	u := 2 * minutes / stay
	left := math.Exp(-u)
	*a = anchor{a.First * left, (a.Second + u*a.First) * left, (a.Third + u*a.Second + u*u/2*a.First) * left}
}

// enter takes people who came one by one within some minutes, the last of them so
// many minutes after the time that the anchor has reached.
func (a *anchor) enter(people, minutes, after, stay float64) {
	came := anchor{First: people}
	if u := 2 * minutes / stay; u > 0.01 {
		left := math.Exp(-u)
		came = anchor{people * (1 - left) / u, people * (1 - (1+u)*left) / u, people * (1 - (1+u+u*u/2)*left) / u}
	}
	came.age(-after, stay) // the next step is a whole one
	*a = anchor{a.First + came.First, a.Second + came.Second, a.Third + came.Third}
}
