package visitors

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// A day begins and ends empty, is in order, and has about as many visitors as it
// should, who stay about as long.
func TestDay(t *testing.T) {
	rnd := source(1)
	var entered, stay float64
	const days = 200
	for range days {
		d := Hall{Staff: []Shift{{8 * time.Hour, 12}, {12 * time.Hour, 5}, {17 * time.Hour, 0}}}.Day(rnd)
		entered += float64(d.Entered)
		stay += d.Stay.Minutes()
		last := time.Duration(0)
		for _, p := range d.Passes {
			if p.At < last {
				t.Fatal("not in order")
			}
			last = p.At
		}
		if d.Inside(0, false) != 0 || d.Inside(24*time.Hour, false) != 0 || d.Inside(24*time.Hour, true) != 0 {
			t.Fatal("somebody stays overnight")
		}
		if d.Inside(9*time.Hour, true) != 12 || d.Inside(13*time.Hour, true) != 5 {
			t.Fatal("the staff is not on its shift")
		}
	}
	if mean := entered / days; mean < 660 || mean > 740 {
		t.Errorf("%.0f visitors a day, want 700", mean)
	}
	if mean := stay / days; mean < 32 || mean > 37 {
		t.Errorf("%.1f minutes, want about 35", mean)
	}
	if !reflect.DeepEqual(Hall{}.Day(source(5)), Hall{}.Day(source(5))) {
		t.Error("another day from the same seed")
	}
}

func TestStays(t *testing.T) {
	for name, stays := range map[string]Stays{"mixed": Mixed, "gamma": Gamma, "exponential": Exponential, "log-normal": LogNormal} {
		rnd, sum := source(2), 0.0
		for range 100_000 {
			sum += stays(rnd)
		}
		if mean := sum / 100_000; math.Abs(mean-1) > 0.02 {
			t.Errorf("%s: mean %.3f, want 1", name, mean)
		}
	}
}

// Sensors count the share of people that their rates leave.
func TestCounted(t *testing.T) {
	for technique, want := range map[Technique][2]float64{
		Gate: {0.997, 0.994}, Camera: {0.99, 0.98},
		// 1.356 of 1.22 people are seen as bodies, less what is missed, more what is doubled.
		Beam: {(0.78 + 0.22*1.2) / 1.22 * 0.98 * 1.01, (0.78 + 0.22*1.2) / 1.22 * 0.965 * 1.01},
	} {
		rnd := source(3)
		var people, in, out float64
		for range 100 {
			d := Hall{}.Day(rnd)
			people += float64(d.Entered)
			for _, c := range d.Counted(rnd, []Sensor{{Technique: technique}, {Technique: technique}}) {
				in, out = in+float64(c.In), out+float64(c.Out)
			}
		}
		if math.Abs(in/people-want[0]) > 0.01 || math.Abs(out/people-want[1]) > 0.01 {
			t.Errorf("%s counts %.3f in and %.3f out, want %.3f", technique, in/people, out/people, want)
		}
	}
}

func TestFaults(t *testing.T) {
	rnd := source(4)
	d := Hall{Leak: 0.2}.Day(rnd)
	gone := Window{From: 10 * time.Hour, To: 11 * time.Hour}
	sensors := []Sensor{{Technique: Gate, Swapped: true, Dead: []Window{gone}}, {Technique: Gate, Silent: []Window{gone}}}
	var in, out [2]int
	for _, c := range d.Counted(rnd, sensors) {
		if within([]Window{gone}, c.At) {
			t.Fatalf("door %d counts at %v", c.Door, c.At)
		}
		in[c.Door], out[c.Door] = in[c.Door]+c.In, out[c.Door]+c.Out
	}
	if in[0] >= out[0] || in[1] <= out[1] {
		t.Errorf("in %v, out %v: a fifth leaves by another door, and door 0 is swapped", in, out)
	}
	if sensors[0].Heard(gone.From) || !sensors[1].Heard(gone.From) || !sensors[0].Heard(gone.To) {
		t.Error("a dead sensor is not heard, a blocked one is")
	}
	if s := d.HandCount(rnd, Beam, 1, 9*time.Hour, 150); s < 1.05 || s > 1.4 {
		t.Errorf("scale %.2f", s)
	}
	if s := d.HandCount(rnd, Beam, 1, 17*time.Hour, 150); s != 0 {
		t.Errorf("scale %.2f of hardly anybody", s)
	}
}
