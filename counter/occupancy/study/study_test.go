package study

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hallagent/hallagent/device/sim/visitors"
)

// bars of each row: our error as a part of the plain method's, and the share of
// the time that a band of 90 per cent holds the truth. Gates hardly err within a
// day, and who stays how long says little more about so few: a bar of their own.
var bars = map[string]struct{ ratio, least, most float64 }{
	"gates":                 {1.2, 0.83, 0.98},
	"cameras":               {0.75, 0.83, 0.98},
	"beams, calibrated":     {0.65, 0.83, 0.97},
	"beams, not calibrated": {1.3, 0.75, 1},
	"beams, calibrated, a door dies at times": {0.7, 0.8, 0.97},
}

// A few days hold the bars loosely, whatever the stays, and normal days give no
// finding.
func TestBars(t *testing.T) {
	for name, stays := range map[string]visitors.Stays{"mixed": visitors.Mixed, "log-normal": visitors.LogNormal} {
		t.Run(name, func(t *testing.T) {
			table := Run(Options{Seeds: []uint64{1, 2}, Learn: 10, Days: 8, Hall: visitors.Hall{Stays: stays}})
			for _, r := range table.Rows {
				bar := bars[r.Name]
				if r.Ratio() > bar.ratio || r.Coverage() < bar.least || r.Coverage() > bar.most {
					t.Errorf("%s: ratio %.2f, coverage %.3f, want %+v", r.Name, r.Ratio(), r.Coverage(), bar)
				}
				if len(r.findings) > 0 && !strings.Contains(r.Name, "dies") {
					t.Errorf("%s: found %v on normal days", r.Name, r.findings)
				}
			}
			table.Print(t.Output())
		})
	}
}

// The same seeds give the same table, in whatever order the halls are done.
func TestSameSeedsSameTable(t *testing.T) {
	o := Options{Seeds: []uint64{3, 4}, Learn: 2, Days: 2}
	var one, two strings.Builder
	Run(o).Print(&one)
	Run(o).Print(&two)
	if one.String() != two.String() {
		t.Errorf("%s\n%s", one.String(), two.String())
	}
}

// seeds are those of HALLAGENT_SEEDS, separated by commas; none if it is not set.
func seeds(b *testing.B) (seeds []uint64) {
	for s := range strings.SplitSeq(os.Getenv("HALLAGENT_SEEDS"), ",") {
		if s == "" {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
		if err != nil {
			b.Fatalf("read HALLAGENT_SEEDS: %v", err)
		}
		seeds = append(seeds, n)
	}
	return seeds
}

// BenchmarkRatioOccupancy compares the estimate with "reset at night and clamp at
// zero" on the same passes of halls of made-up visitors, 20 days to learn and 60
// evaluated each. ratio is our error over the peer's; in the rows of the band it
// is the share of the time in which the band of 90 per cent held the truth.
//
// Gates do not reach the aim: they miss three in and six out in a thousand at
// random, a balance without any bias is off by 1.8 persons for that, and an anchor
// that knows how everybody's stay is distributed brings it to 1.5.
func BenchmarkRatioOccupancy(b *testing.B) {
	table := Run(Options{Seeds: seeds(b)})
	for _, r := range table.Rows {
		b.Run("error,_"+strings.ReplaceAll(r.Name, " ", "_"), func(b *testing.B) {
			for b.Loop() {
			}
			ours, plain := r.RMSE()
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ours, "ours-persons")
			b.ReportMetric(plain, "clamp-persons")
			b.ReportMetric(r.Ratio(), "ratio")
			if slices.Contains([]string{"gates", "cameras", "beams, calibrated"}, r.Name) {
				b.ReportMetric(0.6, "aim-max")
			}
		})
		b.Run("band,_"+strings.ReplaceAll(r.Name, " ", "_"), func(b *testing.B) {
			for b.Loop() {
			}
			least := 0.85
			if r.Name == "beams, not calibrated" {
				least = 0.8
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(100*r.Coverage(), "ours-%")
			b.ReportMetric(90, "stated-%")
			b.ReportMetric(r.Coverage(), "ratio")
			b.ReportMetric(least, "aim-min")
		})
	}
	table.Print(os.Stderr)
}
