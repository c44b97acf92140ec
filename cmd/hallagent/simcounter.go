package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hallagent/hallagent/device/sim"
)

type simCounter struct {
	TCP     string        `help:"Address to listen on, such as 127.0.0.1:1502." xor:"where" required:"" placeholder:"HOST:PORT" name:"tcp"`
	PTY     string        `help:"Name of the terminal to make." xor:"where" required:"" placeholder:"PATH" name:"pty"`
	Station int           `help:"Modbus station." default:"1"`
	Baud    int           `help:"Pace of the bytes on a terminal; 0 is as fast as it goes." default:"9600"`
	Every   time.Duration `help:"Somebody passes in this rhythm, in and out in turn." placeholder:"2s"`
}

func (c simCounter) Help() string {
	return "Holding registers 0-1 are the total in, 2-3 the total out, high word first.\n\n" +
		"Commands on standard input:\n" + slices.Concat(c.orders(nil, nil), always).String() +
		"\nExample:\n  hallagent sim counter --tcp 127.0.0.1:1502 --every 2s"
}

func (c simCounter) Run(ctx context.Context, s streams) error {
	if c.Station < 0 || c.Station > 255 {
		return fmt.Errorf("station %d is not between 0 and 255", c.Station)
	}
	counter := sim.NewModbusCounter(sim.ModbusOptions{
		Station: byte(c.Station), Baud: c.Baud,
		In:  sim.ModbusRegisters{Function: 3, Address: 0, Words: 2},
		Out: sim.ModbusRegisters{Function: 3, Address: 2, Words: 2},
	})
	serve, where, err := c.serve(ctx, counter)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "counter on %s, station %d\n", where, c.Station)
	pass := func(in, out uint64) {
		counter.Pass(in, out)
		in, out = counter.Totals()
		fmt.Fprintf(s.out, "in %d out %d\n", in, out)
	}
	turn := 0
	return simulation{
		streams: s, serve: serve, every: c.Every, orders: c.orders(counter, pass),
		act: func() {
			if turn++; turn%2 == 1 {
				pass(1, 0)
			} else {
				pass(0, 1)
			}
		},
	}.run(ctx)
}

func (simCounter) orders(counter *sim.ModbusCounter, pass func(in, out uint64)) orders {
	return orders{
		{"in", "[N]", "N people come in (1)", func(args []string) error {
			w := words{rest: args}
			n := w.number(1)
			return w.then(func() { pass(uint64(n), 0) })
		}},
		{"out", "[N]", "N people go out (1)", func(args []string) error {
			w := words{rest: args}
			n := w.number(1)
			return w.then(func() { pass(0, uint64(n)) })
		}},
		{"reset", "", "set the totals to zero, as a power failure does", func(args []string) error {
			w := words{rest: args}
			return w.then(counter.Reset)
		}},
		{"silent", "on|off", "count and do not answer", func(args []string) error {
			w := words{rest: args}
			on := w.onOff()
			return w.then(func() { counter.Silence(on) })
		}},
	}
}

// serve gives the way to serve the counter where the flags want it.
func (c simCounter) serve(ctx context.Context, counter *sim.ModbusCounter) (func(context.Context) error, string, error) {
	pty, l, name, err := place(ctx, "counter", c.PTY, c.TCP)
	switch {
	case err != nil:
		return nil, "", err
	case pty == nil:
		return func(ctx context.Context) error { return sim.ServeModbusTCP(ctx, l, counter) }, name, nil
	}
	return func(ctx context.Context) error {
		defer pty.Close()
		return sim.ServeModbusRTU(ctx, pty, counter)
	}, name, nil
}
