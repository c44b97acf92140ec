package counter_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
)

// Whatever happens to line, store and agent, each counter's passes are the last
// total less the first, through the ends of 16, 24 and 32 bits and of decimal
// counters: damaged and missing answers, outages, restarts from the stored mark.
func TestBooksBalance(t *testing.T) {
	for seed := range uint64(25) {
		synctest.Test(t, func(t *testing.T) {
			chance := rand.New(rand.NewPCG(seed, 0))
			devices, configs := onePair(0)
			for i := range configs {
				configs[i].Swap = seed%2 == 1
			}
			var s store
			start := func() (stop func() error) {
				stop, _ = use(t, newBus(t, serialLine, &s, configs...), onBus(devices)...)
				return stop
			}
			stop := start()
			time.Sleep(2 * time.Second)
			crowd := func(most int) {
				for _, d := range devices {
					d.Pass(uint64(chance.IntN(most+1)), uint64(chance.IntN(most+1)))
				}
			}
			for range 40 {
				crowd(2)
				d := devices[chance.IntN(len(devices))]
				switch chance.IntN(10) {
				case 0: // nothing runs
					if err := stop(); !errors.Is(err, context.Canceled) {
						t.Fatal(err)
					}
					crowd(12)
					time.Sleep(time.Duration(chance.IntN(2000)) * time.Second)
					stop = start()
				case 1: // the disk is full for a while
					s.fill(errors.New("no space"))
					crowd(5)
					time.Sleep(5 * time.Second)
					s.fill(nil)
				case 2: // one does not answer for a while
					d.Silence(true)
					time.Sleep(time.Duration(chance.IntN(20)) * time.Second)
					crowd(5)
					d.Silence(false)
				case 3, 4, 5: // the line is disturbed
					n := 1 + chance.IntN(3)
					d.SetFaults(sim.CounterFaults{
						Noise: chance.IntN(2) * n, Halves: chance.IntN(2) * n, Lost: chance.IntN(2) * n, Wrong: wrong(d, chance) * n,
					})
				}
				time.Sleep(time.Duration(500+chance.IntN(3000)) * time.Millisecond)
			}
			time.Sleep(15 * time.Second)
			if err := stop(); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			checkBooks(t, &s, devices, configs, seed%2 == 1)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
}

// wrong is a fault only where a checksum shows it.
func wrong(d simulated, chance *rand.Rand) int {
	if _, text := d.(*sim.TextCounter); text {
		return 0
	}
	return chance.IntN(2)
}

// What a counter does wrong is seen, or passes as its own word.
func TestCountersThatAreWrong(t *testing.T) {
	for i, c := range func() []counter.Config { _, c := onePair(0); return c }() {
		t.Run(c.ID, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				devices, configs := onePair(0)
				d, config := devices[i], configs[i]
				d.Reset()
				d.Pass(500, 500) // far from where a reset would look like a rollover
				var s store
				b := newBus(t, serialLine, &s, config)
				stop, _ := use(t, b, d)
				time.Sleep(2 * time.Second)
				d.Pass(2, 0)
				time.Sleep(2 * time.Second)
				d.Reset()
				d.Pass(3, 0)
				time.Sleep(3 * time.Second)
				if in, _ := s.sum(config.Door); in != 5 || b.Status()[0].Resets != 1 {
					t.Errorf("after a reset %d in, status %+v", in, b.Status()[0])
				}
				d.SetFaults(sim.CounterFaults{Doubles: true})
				d.Pass(2, 0)
				time.Sleep(2 * time.Second)
				if in, _ := s.sum(config.Door); in != 9 {
					t.Errorf("a counter that doubles is believed: %d in", in)
				}
				if c.ID == "modbus-decimal" || c.ID == "line" { // has one direction, or no checksum
					stop()
					return
				}
				d.SetFaults(sim.CounterFaults{Turned: true, Wrong: 1000})
				d.Pass(1, 0)
				time.Sleep(20 * time.Second)
				if st := b.Status()[0]; st.State != device.Wedged || st.Code != "garbled" || st.Hint == "" {
					t.Errorf("with wrong checksums %+v", st)
				}
				if err := stop(); !errors.Is(err, device.ErrSilent) {
					t.Errorf("nothing on the line is understood, and Use ended with %v", err)
				}
				d.SetFaults(sim.CounterFaults{})
				stop, _ = use(t, b, d)
				time.Sleep(2 * time.Second)
				stop()
				if _, out := s.sum(config.Door); out != 1 {
					t.Errorf("turned round %d out", out)
				}
			})
		})
	}
}

// A counter whose registers fall to 0 when they are read loses what was in an
// answer that did not come; the agent says that it does not know.
func TestDeltasOfRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := sim.ModbusRegisters{Function: 3, Address: 0, Words: 1, Clears: true}
		out := sim.ModbusRegisters{Function: 3, Address: 1, Words: 1, Clears: true}
		d := sim.NewModbusCounter(sim.ModbusOptions{Station: 1, In: in, Out: out})
		var s store
		uncertain := 0
		sink := func(ctx context.Context, u counter.Update) error {
			if u.Pass.Uncertain {
				uncertain++
			}
			return s.sink(ctx, u)
		}
		b, err := counter.NewBus(serialLine, []counter.Config{{ID: "c", Kind: "modbus", Door: "D1", Settings: &counter.Modbus{
			Station: 1, Value: "delta", Timeout: 100 * time.Millisecond, Map: counter.RegisterMap{
				In: &counter.Registers{Function: 3, Address: 0, Words: 1}, Out: &counter.Registers{Function: 3, Address: 1, Words: 1},
			},
		}}}, 0, s.mark, sink, discard)
		if err != nil {
			t.Fatal(err)
		}
		stop, _ := use(t, b, d)
		for range 30 {
			d.Pass(2, 1)
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		if in, out := s.sum("D1"); in != 60 || out != 30 || uncertain != 0 {
			t.Errorf("%d in, %d out, %d uncertain", in, out, uncertain)
		}
		d.SetFaults(sim.CounterFaults{Lost: 1})
		d.Pass(5, 5)
		time.Sleep(3 * time.Second)
		if in, _ := s.sum("D1"); in != 60 || uncertain != 1 {
			t.Errorf("one answer was lost: %d in, %d uncertain", in, uncertain)
		}
		stop()
	})
}

// A level is a measurement, each time it is read; nobody passes.
func TestLevelsOfRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sim.NewModbusCounter(sim.ModbusOptions{Station: 1, Level: sim.ModbusRegisters{Function: 4, Address: 3, Words: 1}})
		var levels []string
		sink := func(_ context.Context, u counter.Update) error {
			if u.Level == nil || u.Pass.In+u.Pass.Out > 0 {
				t.Errorf("update %+v", u)
				return nil
			}
			levels = append(levels, fmt.Sprint(*u.Level))
			return nil
		}
		b, err := counter.NewBus(serialLine, []counter.Config{{ID: "c", Kind: "modbus", Door: "D1", Settings: &counter.Modbus{
			Station: 1, Value: "level", Map: counter.RegisterMap{Level: &counter.Registers{Function: 4, Address: 3, Words: 1}},
		}}}, 0, func(string) ([]byte, error) { return nil, nil }, sink, discard)
		if err != nil {
			t.Fatal(err)
		}
		stop, _ := use(t, b, d)
		time.Sleep(500 * time.Millisecond)
		d.Pass(42, 0)
		time.Sleep(time.Second)
		d.Pass(0, 44)
		time.Sleep(time.Second)
		stop()
		if got := fmt.Sprint(levels); got != "[0 42 0]" {
			t.Errorf("levels %s", got)
		}
	})
}
