package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/device/sim/visitors"
)

type simHall struct {
	TCP      string   `help:"Address of the Modbus gateway with the doors' counters, station 1 and up." default:"127.0.0.1:1502" placeholder:"HOST:PORT" name:"tcp"`
	PTY      string   `help:"Name of a terminal to make instead." placeholder:"PATH" name:"pty"`
	Doors    int      `help:"Doors; the first takes most." default:"2"`
	Sensor   string   `help:"What counts at the doors: gate, camera or beam, with the errors of each." enum:"gate,camera,beam" default:"gate"`
	Visitors float64  `help:"Visitors a day, on average." default:"700"`
	Staff    int      `help:"Staff that comes by these doors before opening." default:"0"`
	Leak     float64  `help:"Share of those who came in that leaves by an uncounted door."`
	Swapped  []int    `help:"Doors whose in and out are mixed up." placeholder:"DOOR"`
	Dead     []string `help:"A door that counts nobody for a while, as in 2@10:00-10:45." placeholder:"DOOR@FROM-TO"`
	Seed     uint64   `help:"Another seed is another day." default:"1"`
	From     string   `help:"Time at which the day begins." default:"08:00"`
	Speed    float64  `help:"Seconds of the day for each second. At other paces than 1 set occupancy.stay to the visitors' stay by the clock." default:"1"`
}

func (simHall) Help() string {
	return "A day of visitors passes through the doors. Holding registers 0-1 of each station are the total in, 2-3 the " +
		"total out, high word first. What is printed is the truth, in columns by commas: the time of the day, the visitors " +
		"and the staff really inside, then in and out as each door counted them. The day begins when the agent reads all " +
		"counters.\n\nExample:\n  hallagent sim hall --sensor beam --seed 7 --dead 2@10:00-10:45"
}

// Validate refuses doors that do not exist.
func (h simHall) Validate() error {
	if h.Doors < 1 || h.Doors > 16 {
		return fmt.Errorf("--doors: %d is not 1 to 16", h.Doors)
	}
	if !(h.Speed > 0 && h.Speed <= 300) {
		return fmt.Errorf("--speed: %v is not between 0 and 300: a faster hall would not be believed", h.Speed)
	}
	if !(h.Leak >= 0 && h.Leak <= 1) {
		return fmt.Errorf("--leak: %v is no share", h.Leak)
	}
	for _, d := range h.Swapped {
		if d < 1 || d > h.Doors {
			return fmt.Errorf("--swapped: there is no door %d", d)
		}
	}
	if _, err := clockTime(h.From); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	_, err := h.sensors()
	return err
}

// clockTime reads a time of the day.
func clockTime(text string) (time.Duration, error) {
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of the day; write it as 08:30", text)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// sensors are what stands at the doors.
func (h simHall) sensors() ([]visitors.Sensor, error) {
	all := make([]visitors.Sensor, h.Doors)
	for i := range all {
		all[i] = visitors.Sensor{Technique: visitors.Technique(h.Sensor), Swapped: slices.Contains(h.Swapped, i+1)}
	}
	for _, text := range h.Dead {
		door, window, _ := strings.Cut(text, "@")
		from, to, _ := strings.Cut(window, "-")
		n, err := strconv.Atoi(door)
		a, errA := clockTime(from)
		b, errB := clockTime(to)
		if err = cmp.Or(err, errA, errB); err != nil || n < 1 || n > h.Doors || a >= b {
			return nil, fmt.Errorf("--dead: %q is not like 2@10:00-10:45", text)
		}
		all[n-1].Silent = append(all[n-1].Silent, visitors.Window{From: a, To: b})
	}
	return all, nil
}

func (h simHall) Run(ctx context.Context, s streams) error {
	var counters []*sim.ModbusCounter
	for n := range h.Doors {
		counters = append(counters, sim.NewModbusCounter(sim.ModbusOptions{
			Station: byte(n + 1), Baud: 9600,
			In:  sim.ModbusRegisters{Function: 3, Address: 0, Words: 2},
			Out: sim.ModbusRegisters{Function: 3, Address: 2, Words: 2},
		}))
	}
	pty, l, name, err := place(ctx, "hall", h.PTY, h.TCP)
	if err != nil {
		return err
	}
	serve := func(ctx context.Context) error { return sim.ServeModbusTCP(ctx, l, counters...) }
	if pty != nil {
		defer pty.Close()
		serve = func(ctx context.Context) error { return sim.ServeModbusRTU(ctx, pty, counters...) }
	}
	fmt.Fprintf(s.err, "hall of %d doors on %s, stations 1 to %d\n", h.Doors, name, h.Doors)
	inner, cancel := context.WithCancelCause(ctx)
	served := make(chan struct{})
	go func() {
		defer close(served)
		cancel(serve(inner)) // a device that fails ends the day
	}()
	err = h.live(inner, s.out, counters)
	if err != nil && ctx.Err() == nil {
		err = cmp.Or(context.Cause(inner), err)
	}
	cancel(nil)
	<-served
	return err
}

// live waits for the agent and lets the day pass.
func (h simHall) live(ctx context.Context, out io.Writer, counters []*sim.ModbusCounter) error {
	for slices.ContainsFunc(counters, func(c *sim.ModbusCounter) bool { return c.Asked() < 2 }) {
		if err := device.Pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	sensors, err := h.sensors()
	if err != nil {
		return err
	}
	from, err := clockTime(h.From)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(h.Seed, 1))
	people := visitors.Hall{Visitors: h.Visitors, Shares: visitors.Shares(h.Doors, 0.6), Leak: h.Leak}
	if h.Staff > 0 {
		people.Staff = []visitors.Shift{{From: 8*time.Hour + 20*time.Minute, People: h.Staff}, {From: 17*time.Hour + 40*time.Minute}}
	}
	day := people.Day(rnd)
	counts := day.Counted(rnd, sensors)
	const printed = time.Minute // of the day
	start := time.Now()
	for at := from; at < 24*time.Hour; at += printed {
		for ; len(counts) > 0 && counts[0].At <= at; counts = counts[1:] {
			c := counts[0]
			if err := device.Pause(ctx, time.Until(start.Add(h.real(c.At-from)))); err != nil {
				return err
			}
			counters[c.Door].Pass(uint64(c.In), uint64(c.Out))
		}
		if err := device.Pause(ctx, time.Until(start.Add(h.real(at-from)))); err != nil {
			return err
		}
		row := []string{fmt.Sprintf("%02d:%02d", int(at.Hours()), int(at.Minutes())%60), strconv.Itoa(day.Inside(at, false)), strconv.Itoa(day.Inside(at, true))}
		for _, c := range counters {
			in, out := c.Totals()
			row = append(row, strconv.FormatUint(in, 10), strconv.FormatUint(out, 10))
		}
		if _, err := fmt.Fprintln(out, strings.Join(row, ",")); err != nil {
			return err
		}
		if len(counts) == 0 && at > 18*time.Hour {
			break
		}
	}
	return nil
}

// real is how long a time of the day takes here.
func (h simHall) real(d time.Duration) time.Duration { return time.Duration(float64(d) / h.Speed) }
