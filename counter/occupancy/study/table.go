package study

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/hallagent/hallagent/counter/occupancy"
)

// Table is what a study found.
type Table struct {
	Rows  []Row
	Seeds int // halls of each row
	Days  int // of each hall
}

// Row is what one kind of sensor came to, minute by minute.
type Row struct {
	Name string

	Minutes, Shown float64 // all, and those with a number
	ours, plain    float64 // sums of squared errors while there was a number
	right, plainly float64 // minutes with the right level
	covered        float64 // minutes in which the band held the truth
	truth, width   float64
	good           float64
	findings       map[occupancy.Code]int // minutes in which each stood, the days of learning among them
}

// see adds a minute: the truth, and what both methods make of it.
func (r *Row) see(truth int, plain float64, s occupancy.Snapshot) {
	r.Minutes++
	if s.People == nil {
		return
	}
	r.Shown++
	t := float64(truth)
	r.truth += t
	r.width += float64(*s.High - *s.Low)
	r.ours += (float64(*s.People) - t) * (float64(*s.People) - t)
	r.plain += (plain - t) * (plain - t)
	r.right += one(level(float64(*s.People)) == level(t))
	r.plainly += one(level(plain) == level(t))
	r.covered += one(*s.Low <= truth && truth <= *s.High)
	r.good += one(s.Trust == occupancy.Good)
}

// notice adds what was found at a minute.
func (r *Row) notice(findings []occupancy.Finding) {
	if r.findings == nil {
		r.findings = map[occupancy.Code]int{}
	}
	for _, f := range findings {
		r.findings[f.Code]++
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// level of a number by the plain borders.
func level(people float64) (n int) {
	for _, l := range levels {
		if 100*people/capacity >= float64(l) {
			n++
		}
	}
	return n
}

func (r *Row) add(o Row) {
	r.Minutes, r.Shown, r.ours, r.plain = r.Minutes+o.Minutes, r.Shown+o.Shown, r.ours+o.ours, r.plain+o.plain
	r.right, r.plainly, r.covered = r.right+o.right, r.plainly+o.plainly, r.covered+o.covered
	r.truth, r.width, r.good = r.truth+o.truth, r.width+o.width, r.good+o.good
	for code, n := range o.findings {
		if r.findings == nil {
			r.findings = map[occupancy.Code]int{}
		}
		r.findings[code] += n
	}
}

// Mean is the mean of people inside.
func (r Row) Mean() float64 { return r.truth / r.Shown }

// RMSE is the root of the mean squared error in persons, ours and that of the
// plain method.
func (r Row) RMSE() (ours, plain float64) {
	return math.Sqrt(r.ours / r.Shown), math.Sqrt(r.plain / r.Shown)
}

// Ratio is our error as a part of the plain method's.
func (r Row) Ratio() float64 {
	ours, plain := r.RMSE()
	return ours / plain
}

// Levels is the share of minutes with the right level.
func (r Row) Levels() (ours, plain float64) { return r.right / r.Shown, r.plainly / r.Shown }

// Coverage is the share of minutes in which the stated band held the truth.
func (r Row) Coverage() float64 { return r.covered / r.Shown }

// Trust is the share of all minutes with each trust.
func (r Row) Trust() (good, approximate, unknown float64) {
	return r.good / r.Minutes, (r.Shown - r.good) / r.Minutes, 1 - r.Shown/r.Minutes
}

// Print writes the table as text.
func (t Table) Print(w io.Writer) {
	fmt.Fprintf(w, "%d halls, %d days each, evaluated each minute; plain: reset at night and clamp at zero\n", t.Seeds, t.Days)
	fmt.Fprintf(w, "%-40s %6s %6s %6s %6s  %6s %6s  %6s %6s  %5s %5s %5s\n",
		"", "mean", "RMSE", "plain", "ratio", "level", "plain", "band", "width", "good", "appr.", "unkn.")
	for _, r := range t.Rows {
		ours, plain := r.RMSE()
		level, plainly := r.Levels()
		good, about, unknown := r.Trust()
		fmt.Fprintf(w, "%-40s %6.1f %6.2f %6.2f %6.2f  %5.1f%% %5.1f%%  %5.1f%% %6.1f  %4.0f%% %4.0f%% %4.0f%%",
			r.Name, r.Mean(), ours, plain, r.Ratio(), 100*level, 100*plainly, 100*r.Coverage(), r.width/r.Shown, 100*good, 100*about, 100*unknown)
		for _, code := range slices.Sorted(maps.Keys(r.findings)) {
			fmt.Fprintf(w, "  %s for %d min", code, r.findings[code])
		}
		fmt.Fprintln(w)
	}
}
