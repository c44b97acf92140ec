package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device/sim"
)

type simCommand struct {
	Reader  simReader  `cmd:"" help:"A SAM reader on a pseudo terminal, with made-up cards."`
	Counter simCounter `cmd:"" help:"A Modbus counter on TCP or on a pseudo terminal."`
}

type simReader struct {
	PTY   string        `help:"Name of the terminal to make: a link that takes the place of /dev/serial/by-id/…" required:"" placeholder:"PATH" name:"pty"`
	Baud  int           `help:"Pace of the bytes; 0 is as fast as it goes." default:"115200"`
	Every time.Duration `help:"Lay the next card on in this rhythm by itself, and lift it half-way." placeholder:"10s"`
}

func (simReader) Help() string {
	return "Commands on standard input: lay N (the Nth card), lift, unplug, plug, silent on|off, quit.\n\nExample:\n  hallagent sim reader --pty /tmp/reader --every 10s"
}

func (r simReader) Run(ctx context.Context, s streams) error {
	pty, err := sim.OpenPTY(r.PTY)
	if err != nil {
		return err
	}
	defer pty.Close()
	reader := sim.NewReader(sim.ReaderOptions{Baud: r.Baud})
	cards := sim.Cards()
	fmt.Fprintf(s.out, "reader on %s, %d cards\n", r.PTY, len(cards))
	lay := func(n int) {
		reader.Lay(cards[(n-1)%len(cards)])
		fmt.Fprintf(s.out, "laid %d\n", (n-1)%len(cards)+1)
	}
	lift := func() {
		reader.Lift()
		fmt.Fprintln(s.out, "lifted")
	}
	turn := 0
	return simulate(ctx, s, r.Every/2,
		func(ctx context.Context) error { return reader.Serve(ctx, pty) },
		func() {
			if turn++; turn%2 == 1 {
				lay(turn/2 + 1)
			} else {
				lift()
			}
		},
		func(words []string) error {
			switch words[0] {
			case "lay":
				n, err := number(words)
				if err != nil || n < 1 {
					return errUnknown
				}
				lay(n)
			case "lift":
				lift()
			case "unplug":
				return pty.Unplug()
			case "plug":
				return pty.Plug()
			case "silent":
				reader.Silence(len(words) > 1 && words[1] == "on")
			default:
				return errUnknown
			}
			return nil
		})
}

type simCounter struct {
	TCP     string        `help:"Address to listen on, such as 127.0.0.1:1502." xor:"where" required:"" placeholder:"HOST:PORT" name:"tcp"`
	PTY     string        `help:"Name of the terminal to make." xor:"where" required:"" placeholder:"PATH" name:"pty"`
	Station int           `help:"Modbus station." default:"1"`
	Baud    int           `help:"Pace of the bytes on a terminal; 0 is as fast as it goes." default:"9600"`
	Every   time.Duration `help:"Somebody passes in this rhythm, in and out in turn." placeholder:"2s"`
}

func (simCounter) Help() string {
	return "Holding registers 0-1 are the total in, 2-3 the total out, high word first.\n" +
		"Commands on standard input: in N, out N, reset, silent on|off, quit.\n\nExample:\n  hallagent sim counter --tcp 127.0.0.1:1502 --every 2s"
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
	return simulate(ctx, s, c.Every, serve,
		func() {
			if turn++; turn%2 == 1 {
				pass(1, 0)
			} else {
				pass(0, 1)
			}
		},
		func(words []string) error {
			n, err := number(words)
			switch words[0] {
			case "in", "out":
				if err != nil || n < 0 {
					return errUnknown
				}
				if words[0] == "in" {
					pass(uint64(n), 0)
				} else {
					pass(0, uint64(n))
				}
			case "reset":
				counter.Reset()
			case "silent":
				counter.Silence(len(words) > 1 && words[1] == "on")
			default:
				return errUnknown
			}
			return nil
		})
}

// serve gives the way to serve the counter where the flags want it.
func (c simCounter) serve(ctx context.Context, counter *sim.ModbusCounter) (func(context.Context) error, string, error) {
	if c.PTY != "" {
		pty, err := sim.OpenPTY(c.PTY)
		if err != nil {
			return nil, "", err
		}
		return func(ctx context.Context) error {
			defer pty.Close()
			return sim.ServeModbusRTU(ctx, pty, counter)
		}, c.PTY, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.TCP)
	if err != nil {
		return nil, "", fmt.Errorf("simulate counter: %w", err)
	}
	return func(ctx context.Context) error { return sim.ServeModbusTCP(ctx, l, counter) }, l.Addr().String(), nil
}

var errUnknown = errors.New("not understood")

func number(words []string) (int, error) {
	if len(words) < 2 {
		return 1, nil
	}
	return strconv.Atoi(words[1])
}

// simulate serves a device, acts in a rhythm if there is one, and obeys the
// lines of standard input, until ctx ends or a line says quit. The end of the
// input ends nothing: a simulator may run without a keyboard.
func simulate(ctx context.Context, s streams, every time.Duration, serve func(context.Context) error, act func(), obey func([]string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	served := make(chan error, 1)
	wg.Go(func() { served <- serve(ctx) })
	lines := readLines(ctx, s.in)
	var tick <-chan time.Time
	if every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return err
		case <-tick:
			act()
		case line, ok := <-lines:
			if !ok {
				lines = nil
				continue
			}
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			if words[0] == "quit" {
				return nil
			}
			if err := obey(words); err != nil {
				fmt.Fprintf(s.err, "%s: %v\n", line, err)
			}
		}
	}
}

// readLines hands on the lines of a reader. Nothing can end a read from a
// keyboard, so this goroutine is not waited for: it ends with the process or
// with its input.
func readLines(ctx context.Context, r io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(r); scan.Scan(); {
			select {
			case lines <- scan.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}
