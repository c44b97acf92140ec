package sim_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/device/sim"
)

// between runs a driver and a simulated reader against each other until act has
// returned and the dust has settled, and gives what was reported meanwhile.
func between(t *testing.T, o sim.ReaderOptions, act func(module *sim.Reader)) string {
	t.Helper()
	reader, events := meet(t)
	host, dev := net.Pipe()
	module := sim.NewReader(o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- module.Serve(ctx, dev) }()
	go func() { ended <- reader.Use(ctx, host, func() {}) }()
	time.Sleep(time.Second) // greeted
	act(module)
	time.Sleep(5 * time.Second)
	cancel()
	<-ended
	<-ended
	var all []string
	for len(events) > 0 {
		e := <-events
		s := string(e.Type)
		if e.Trouble != nil {
			s += ":" + e.Trouble.Code
		}
		if e.Card != nil {
			s += ":" + string(e.Card.Name)
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

func madeUp(t *testing.T, n int) (sim.Card, string) {
	t.Helper()
	p := sim.MadeUp(n)
	c, err := p.Card()
	if err != nil {
		t.Fatal(err)
	}
	return c, p.Name
}

var wired = sim.ReaderOptions{Baud: 115200, Work: 300 * time.Millisecond}

func TestUnmovedCardIsReportedOnce(t *testing.T) {
	card, name := madeUp(t, 1)
	synctest.Test(t, func(t *testing.T) {
		got := between(t, wired, func(module *sim.Reader) {
			module.Lay(card)
			time.Sleep(10 * time.Minute)
		})
		if got != "card:"+name {
			t.Errorf("reported: %s", got)
		}
	})
}

// Two cards are swapped within 300 ms at every moment of the cycle.
func TestQuickSwapIsTwoCards(t *testing.T) {
	first, one := madeUp(t, 1)
	second, two := madeUp(t, 2)
	want := fmt.Sprintf("card:%s removed card:%s", one, two)
	for _, gap := range []time.Duration{0, 50 * time.Millisecond, 300 * time.Millisecond} {
		for phase := time.Duration(0); phase < 450*time.Millisecond; phase += 7 * time.Millisecond {
			synctest.Test(t, func(t *testing.T) {
				got := between(t, wired, func(module *sim.Reader) {
					module.Lay(first)
					time.Sleep(time.Second + phase)
					if gap > 0 {
						module.Lift()
						time.Sleep(gap)
					}
					module.Lay(second)
				})
				if got != want {
					t.Errorf("swapped in %v after %v: %s", gap, time.Second+phase, got)
				}
			})
		}
	}
}

// A card is lifted at every moment of being read: at most one message, never a
// card that did not lie there long enough, and the next card works.
func TestLiftedInMidRead(t *testing.T) {
	first, one := madeUp(t, 1)
	second, two := madeUp(t, 2)
	told := 0
	for phase := time.Duration(0); phase < 700*time.Millisecond; phase += 5 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			got := between(t, wired, func(module *sim.Reader) {
				module.Lay(first)
				time.Sleep(phase)
				module.Lift()
				time.Sleep(time.Second)
				module.Lay(second)
			})
			switch got {
			case "card:" + two: // never found
			case "card:" + one + " removed card:" + two: // read in time
			case "trouble:read_failed card:" + two, "trouble:select_failed card:" + two:
				told++
			default:
				t.Errorf("lifted after %v: %s", phase, got)
			}
		})
	}
	if told < 50 {
		t.Errorf("lifted in mid-read %d times only", told)
	}
}

// At the slowest rate a card is still read.
func TestSlowestRate(t *testing.T) {
	card, name := madeUp(t, 3)
	synctest.Test(t, func(t *testing.T) {
		got := between(t, sim.ReaderOptions{Baud: 9600, Work: 500 * time.Millisecond}, func(module *sim.Reader) {
			module.Lay(card)
			time.Sleep(3 * time.Second)
			module.Lift()
		})
		if got != "card:"+name+" removed" {
			t.Errorf("reported: %s", got)
		}
	})
}
