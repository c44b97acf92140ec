package study

import (
	"slices"
	"testing"
	"time"

	"github.com/hallagent/hallagent/counter/occupancy"
	"github.com/hallagent/hallagent/device/sim/visitors"
)

// fault is something wrong with a hall on one day.
type fault struct {
	name  string
	doors []float64 // shares
	want  occupancy.Finding
	wrong func(sensors []visitors.Sensor, hall *visitors.Hall)
}

// twisted mixes up the directions of a door.
func twisted(door int) func([]visitors.Sensor, *visitors.Hall) {
	return func(s []visitors.Sensor, _ *visitors.Hall) { s[door].Swapped = true }
}

// silenced makes a door count nobody from a time on.
func silenced(door int, from time.Duration) func([]visitors.Sensor, *visitors.Hall) {
	return func(s []visitors.Sensor, _ *visitors.Hall) {
		s[door].Silent = []visitors.Window{{From: from, To: 24 * time.Hour}}
	}
}

var faults = []fault{
	{"the main door turned", []float64{0.6, 0.4}, occupancy.Finding{Code: occupancy.Direction, Door: "A"}, twisted(0)},
	{"the lesser door turned", []float64{0.6, 0.4}, occupancy.Finding{Code: occupancy.Direction, Door: "B"}, twisted(1)},
	{"the only door turned", []float64{1}, occupancy.Finding{Code: occupancy.Direction, Door: "A"}, twisted(0)},
	{"the main door dead all day", []float64{0.6, 0.4}, occupancy.Finding{Code: occupancy.DoorSilent, Door: "A"}, silenced(0, 0)},
	{"the lesser door dead from ten on", []float64{0.6, 0.4}, occupancy.Finding{Code: occupancy.DoorSilent, Door: "B"}, silenced(1, 10*time.Hour)},
	{"the only door dead all day", []float64{1}, occupancy.Finding{Code: occupancy.DoorSilent, Door: "A"}, silenced(0, 0)},
	{"the only door dead from noon on", []float64{1}, occupancy.Finding{Code: occupancy.DoorSilent, Door: "A"}, silenced(0, 12*time.Hour)},
	{"staff that leaves by another door", []float64{0.6, 0.4}, occupancy.Finding{Code: occupancy.Imbalance}, func(_ []visitors.Sensor, h *visitors.Hall) {
		h.Leak = 0.16
		h.Visitors *= 1 / 0.84
	}},
}

// Each fault is found within its day, for every technique, after normal days and
// on the first day of an installation; from then on the number is not good.
func TestFaultsAreFound(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			for _, s := range scenarios[:4] {
				for _, before := range []int{0, 10} {
					for seed := range uint64(1) {
						h := newHall(Options{Hall: visitors.Hall{Shares: f.doors}}.filled(), s, 100+seed)
						begin := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
						for range before {
							h.day(begin)
							begin = begin.AddDate(0, 0, 1)
						}
						h.wrong, h.every = f.wrong, 5
						found := time.Time{}
						h.look = func(now time.Time, _ int, s occupancy.Snapshot) {
							if slices.Contains(s.Findings, f.want) {
								if found.IsZero() {
									found = now
								}
								if s.Trust == occupancy.Good {
									t.Fatalf("good at %v with %v", now, s.Findings)
								}
							}
						}
						h.day(begin)
						if found.IsZero() {
							t.Errorf("%s, %d days before, seed %d: not found", s.name, before, seed)
						}
					}
				}
			}
		})
	}
}
