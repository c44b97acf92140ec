package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hallagent/hallagent/device/sim"
)

type simCounter struct {
	Kind    string        `help:"Kind: ${enum}; the cameras are hikvision, which pushes, and dahua." enum:"modbus,gate-7e7f,hpc,line,ir-tcp,hikvision,dahua" default:"modbus"`
	TCP     string        `help:"Address to listen on, such as 127.0.0.1:1502." xor:"where" required:"" placeholder:"HOST:PORT" name:"tcp"`
	PTY     string        `help:"Name of the terminal to make." xor:"where" required:"" placeholder:"PATH" name:"pty"`
	To      string        `help:"Where a unit dials in (ir-tcp) or a camera pushes (hikvision, with its secret)." xor:"where" required:"" placeholder:"HOST:PORT|URL"`
	Station int           `help:"Station of a Modbus counter, machine of a gate, id of an HPC counter." default:"1"`
	Serial  string        `help:"Serial number of an ir-tcp unit." default:"2410640A0B0C"`
	Dialect string        `help:"Dialect of an ir-tcp unit: ${enum}." enum:"fa,7e" default:"fa"`
	Period  time.Duration `help:"An ir-tcp unit uploads in this rhythm; 0 is as it is told." default:"0s"`
	User    string        `help:"Login of a dahua camera, as user:password." placeholder:"USER:PASSWORD"`
	Baud    int           `help:"Pace of the bytes on a terminal; 0 is as fast as it goes." default:"9600"`
	Every   time.Duration `help:"Somebody passes in this rhythm, in and out in turn." placeholder:"2s"`
}

func (c simCounter) Help() string {
	return "Of a Modbus counter, holding registers 0-1 are the total in, 2-3 the total out, high word first. A counter of kind line " +
		"sends IN=… OUT=… after each pass.\n\n" +
		"Commands on standard input:\n" + slices.Concat(c.orders(nil, nil), always).String() +
		"Of kinds modbus, gate-7e7f, hpc and line also:\n" + c.faults(new(tallied)).String() +
		"Of kind ir-tcp also:\n" + c.unitFaults(nil).String() +
		"\nExamples:\n  hallagent sim counter --tcp 127.0.0.1:1502 --every 2s\n" +
		"  hallagent sim counter --kind gate-7e7f --pty /tmp/gate\n" +
		"  hallagent sim counter --kind ir-tcp --to 127.0.0.1:8085 --period 10s"
}

// counted is what every simulated counter does.
type counted interface {
	Pass(in, out uint64)
	Totals() (in, out uint64)
	Reset()
	Silence(on bool)
}

// tallied is a counter with its faults as they are set.
type tallied struct {
	sim.Counter
	faults sim.CounterFaults
}

func (c simCounter) Run(ctx context.Context, s streams) error {
	if c.Station < 0 || c.Station > 255 {
		return fmt.Errorf("station %d is not between 0 and 255", c.Station)
	}
	counter, serve, where, err := c.make(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "counter %s, kind %s\n", where, c.Kind)
	pass := func(in, out uint64) {
		counter.Pass(in, out)
		in, out = counter.Totals()
		fmt.Fprintf(s.out, "in %d out %d\n", in, out)
	}
	own := c.orders(counter, pass)
	switch k := counter.(type) {
	case *sim.IRUnit:
		own = slices.Concat(own, c.unitFaults(k))
	case sim.Counter:
		own = slices.Concat(own, c.faults(&tallied{Counter: k}))
	}
	turn := 0
	return simulation{
		streams: s, serve: serve, every: c.Every, orders: own,
		act: func() {
			if turn++; turn%2 == 1 {
				pass(1, 0)
			} else {
				pass(0, 1)
			}
		},
	}.run(ctx)
}

func (simCounter) orders(counter counted, pass func(in, out uint64)) orders {
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
			return w.then(func() { counter.Reset() })
		}},
		{"silent", "on|off", "count and say nothing", func(args []string) error {
			w := words{rest: args}
			on := w.onOff()
			return w.then(func() { counter.Silence(on) })
		}},
	}
}

// faults are the orders that give a counter something that is the matter with it.
func (simCounter) faults(c *tallied) orders {
	toggle := func(name, help string, set func(bool)) order {
		return order{name, "on|off", help, func(args []string) error {
			w := words{rest: args}
			on := w.onOff()
			return w.then(func() { set(on); c.SetFaults(c.faults) })
		}}
	}
	times := func(name, help string, set func(int)) order {
		return order{name, "N", help, func(args []string) error {
			w := words{rest: args}
			n := w.number(-1)
			return w.then(func() { set(n); c.SetFaults(c.faults) })
		}}
	}
	return orders{
		toggle("double", "each pass counts twice", func(on bool) { c.faults.Doubles = on }),
		toggle("turned", "in counts as out", func(on bool) { c.faults.Turned = on }),
		times("noise", "the next N answers have rubbish before them", func(n int) { c.faults.Noise = n }),
		times("half", "the next N answers end half-way", func(n int) { c.faults.Halves = n }),
		times("wrong", "the next N answers have a wrong checksum", func(n int) { c.faults.Wrong = n }),
		times("lose", "the next N answers are not sent", func(n int) { c.faults.Lost = n }),
	}
}

// unitFaults are those of a wireless unit.
func (simCounter) unitFaults(u *sim.IRUnit) orders {
	toggle := func(name, help string, set func(*sim.IRFaults, bool)) order {
		return order{name, "on|off", help, func(args []string) error {
			w := words{rest: args}
			on := w.onOff()
			return w.then(func() { u.Fail(func(f *sim.IRFaults) { set(f, on) }) })
		}}
	}
	number := func(name, args, help string, set func(*sim.IRFaults, int)) order {
		return order{name, args, help, func(args []string) error {
			w := words{rest: args}
			n := w.number(-1)
			return w.then(func() { u.Fail(func(f *sim.IRFaults) { set(f, n) }) })
		}}
	}
	return orders{
		toggle("factory", "it has its factory clock and keeps no other", func(f *sim.IRFaults, on bool) { f.NoClock = on }),
		toggle("resend", "what is not answered is sent again", func(f *sim.IRFaults, on bool) { f.Resend = on }),
		number("lose", "N", "the next N uploads go nowhere", func(f *sim.IRFaults, n int) { f.Lose = n }),
		number("deaf", "N", "the next N answers do not reach it", func(f *sim.IRFaults, n int) { f.DeafTo = n }),
		number("double", "N", "one in N passes counts twice; 0: none", func(f *sim.IRFaults, n int) { f.TwiceIn = n }),
		number("turn", "N", "one in N passes counts the other way; 0: none", func(f *sim.IRFaults, n int) { f.WrongIn = n }),
		number("battery", "PERCENT", "what is left in it", func(f *sim.IRFaults, n int) { f.Battery = n }),
	}
}

// make makes the counter and gives the way to serve it where the flags want it.
func (c simCounter) make(ctx context.Context) (counted, func(context.Context) error, string, error) {
	pushes := c.Kind == "ir-tcp" || c.Kind == "hikvision"
	switch {
	case pushes != (c.To != ""):
		return nil, nil, "", fmt.Errorf("--to is for kinds ir-tcp and hikvision, which come by themselves; others have --tcp or --pty")
	case c.Kind == "ir-tcp":
		unit := sim.NewIRUnit(sim.IROptions{Dialect: c.Dialect, Serial: c.Serial, Period: c.Period})
		return unit, func(ctx context.Context) error { return unit.Run(ctx, dialTo(c.To)) }, "dials " + c.To, nil
	case c.Kind == "hikvision":
		u, err := url.Parse(c.To)
		if err != nil || u.Scheme != "http" || u.Host == "" {
			return nil, nil, "", fmt.Errorf("--to: %q is not like http://127.0.0.1:8086/secret", c.To)
		}
		camera := sim.NewHikvision(sim.HikvisionOptions{URL: c.To})
		return camera, func(ctx context.Context) error { return camera.Run(ctx, dialTo(u.Host)) }, "pushes to " + u.Host, nil
	case c.Kind == "dahua" && c.PTY != "":
		return nil, nil, "", fmt.Errorf("a camera is on --tcp")
	}
	pty, l, name, err := place(ctx, "counter", c.PTY, c.TCP)
	if err != nil {
		return nil, nil, "", err
	}
	counter, serve := c.served(pty, l)
	return counter, serve, "on " + name, nil
}

func dialTo(address string) sim.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
}

// served makes a counter to which the agent comes: on a terminal, or on TCP.
func (c simCounter) served(pty *sim.PTY, l net.Listener) (counted, func(context.Context) error) {
	both := func(one func(context.Context, io.ReadWriteCloser) error) func(context.Context) error {
		return func(ctx context.Context) error {
			if pty != nil {
				defer pty.Close()
				return one(ctx, pty)
			}
			return sim.ServeTCP(ctx, l, one)
		}
	}
	bus := func(d sim.OnBus) func(context.Context) error {
		return both(func(ctx context.Context, rw io.ReadWriteCloser) error { return sim.ServeBus(ctx, rw, d) })
	}
	switch c.Kind {
	case "gate-7e7f":
		k := sim.NewGate(sim.GateOptions{Machine: byte(c.Station), Baud: c.Baud})
		return k, bus(k)
	case "hpc":
		k := sim.NewHPC(sim.HPCOptions{ID: uint16(c.Station), Baud: c.Baud})
		return k, bus(k)
	case "line":
		k := sim.NewTextCounter(sim.TextOptions{Form: sim.TextTotals, Baud: c.Baud})
		return k, both(k.Serve)
	case "dahua":
		user, password, _ := strings.Cut(c.User, ":")
		k := sim.NewDahua(sim.DahuaOptions{User: user, Password: password})
		return k, func(ctx context.Context) error { return k.Serve(ctx, l) }
	}
	k := sim.NewModbusCounter(sim.ModbusOptions{
		Station: byte(c.Station), Baud: c.Baud,
		In:  sim.ModbusRegisters{Function: 3, Address: 0, Words: 2},
		Out: sim.ModbusRegisters{Function: 3, Address: 2, Words: 2},
	})
	if pty == nil {
		return k, func(ctx context.Context) error { return sim.ServeModbusTCP(ctx, l, k) }
	}
	return k, bus(k)
}
