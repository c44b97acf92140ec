package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
)

type simCommand struct {
	Reader  simReader  `cmd:"" help:"A SAM reader on a pseudo terminal or on TCP, with made-up cards."`
	Counter simCounter `cmd:"" help:"An entrance counter of any kind, on TCP, on a pseudo terminal, or one that dials in."`
	Study   simStudy   `cmd:"" help:"How far the estimate of people is off, over days of made-up visitors."`
	Hall    simHall    `cmd:"" help:"A day of visitors through the doors of a hall, with the truth."`
}

// order is one that a line of the keyboard or of a script may give.
type order struct {
	name, args, help string
	do               func(args []string) error
}

// orders are what a simulator obeys.
type orders []order

// always are the orders that every simulator obeys itself.
var always = orders{
	{name: "wait", args: "TIME", help: "do nothing before the next line, as in wait 500ms"},
	{name: "script", args: "FILE", help: "obey the lines of a file; # begins a remark"},
	{name: "help", help: "list these commands"},
	{name: "quit", help: "end"},
}

// String is the list of the orders, each with what it does.
func (o orders) String() string {
	var b strings.Builder
	for _, x := range o {
		fmt.Fprintf(&b, "  %-34s %s\n", strings.TrimSpace(x.name+" "+x.args), x.help)
	}
	return b.String()
}

func (o orders) names() string {
	var names []string
	for _, x := range o {
		names = append(names, x.name)
	}
	return strings.Join(names, ", ")
}

// find gives the order of that name, or an error that names those there are.
func (o orders) find(what, name string) (order, error) {
	for _, x := range o {
		if x.name == name {
			return x, nil
		}
	}
	return order{}, fmt.Errorf("no %s %q; known: %s", what, name, o.names())
}

// obey does what a line says; what names such an order.
func (o orders) obey(what string, words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("no %s; known: %s", what, o.names())
	}
	x, err := o.find(what, words[0])
	if err != nil {
		return err
	}
	if err = x.do(words[1:]); errors.Is(err, errUsage) {
		return fmt.Errorf("not understood; it is %s", strings.TrimSpace(x.name+" "+x.args))
	}
	return err
}

// words are the arguments of an order, taken one by one. What does not fit is
// told at the end, by then.
type words struct {
	rest []string
	bad  bool
}

// next takes a word; false if there is none.
func (w *words) next() (string, bool) {
	if len(w.rest) == 0 {
		return "", false
	}
	word := w.rest[0]
	w.rest = w.rest[1:]
	return word, true
}

// number takes one that is not negative, or gives otherwise if there is none; a
// negative otherwise says that there must be one.
func (w *words) number(otherwise int) int {
	word, ok := w.next()
	if !ok {
		w.bad = w.bad || otherwise < 0
		return otherwise
	}
	n, err := strconv.Atoi(word)
	w.bad = w.bad || err != nil || n < 0
	return n
}

// chance takes a number between 0 and 1.
func (w *words) chance() float64 {
	word, _ := w.next()
	p, err := strconv.ParseFloat(word, 64)
	w.bad = w.bad || err != nil || !(p >= 0 && p <= 1)
	return p
}

// time takes a duration.
func (w *words) time() time.Duration {
	word, _ := w.next()
	d, err := time.ParseDuration(word)
	w.bad = w.bad || err != nil || d < 0
	return d
}

// bytes takes n bytes in hex.
func (w *words) bytes(n int) []byte {
	word, _ := w.next()
	b, err := hex.DecodeString(word)
	if err != nil || len(b) != n {
		w.bad = true
		return make([]byte, n)
	}
	return b
}

func (w *words) onOff() bool {
	word, _ := w.next()
	w.bad = w.bad || word != "on" && word != "off"
	return word == "on"
}

// then does f if all words fitted and none is left over.
func (w *words) then(f func()) error {
	if w.bad || len(w.rest) > 0 {
		return errUsage
	}
	f()
	return nil
}

// errUsage is returned by an order that does not understand its arguments.
var errUsage = errors.New("wrong arguments")

// place opens where a device is simulated: a terminal of that name or, without
// one, a listener on the address. name is how to find it.
func place(ctx context.Context, what, terminal, address string) (pty *sim.PTY, l net.Listener, name string, err error) {
	if terminal != "" {
		pty, err = sim.OpenPTY(terminal)
		return pty, nil, terminal, err
	}
	var lc net.ListenConfig
	if l, err = lc.Listen(ctx, "tcp", address); err != nil {
		return nil, nil, "", fmt.Errorf("simulate %s: %w", what, err)
	}
	return nil, l, l.Addr().String(), nil
}

// simulation is a simulated device with what drives it.
type simulation struct {
	streams
	serve  func(context.Context) error
	every  time.Duration // act in this rhythm; 0: never
	act    func()
	orders orders
	script string // file to begin with, if any
}

// run serves the device, acts in the rhythm if there is one, and obeys the lines
// of standard input and of scripts, until ctx ends or a line says quit. The end
// of the input ends nothing: a simulator may run without a keyboard.
func (s simulation) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	orders := slices.Concat(s.orders, always)
	var script <-chan string
	begin := func(name string) error {
		if script != nil {
			return errors.New("another script is still running")
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		lines := make(chan string)
		script = lines
		wg.Go(func() {
			defer f.Close()
			feed(ctx, f, lines)
		})
		return nil
	}
	if s.script != "" {
		if err := begin(s.script); err != nil {
			return err
		}
	}
	served := make(chan error, 1)
	wg.Go(func() { served <- s.serve(ctx) })
	keyboard := make(chan string)
	// Nothing can end a read from a keyboard, so this goroutine is not waited
	// for: it ends with the process or with its input.
	go feed(ctx, s.in, keyboard)
	typed := (<-chan string)(keyboard)
	var tick <-chan time.Time
	if s.every > 0 {
		t := time.NewTicker(s.every)
		defer t.Stop()
		tick = t.C
	}
	for {
		var line string
		var more bool
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return err
		case <-tick:
			s.act()
			continue
		case line, more = <-typed:
			if !more {
				typed = nil
				continue
			}
		case line, more = <-script:
			if !more {
				script = nil
				fmt.Fprintln(s.out, "script done")
				continue
			}
		}
		words := strings.Fields(line)
		var err error
		switch words[0] {
		case "quit":
			return nil
		case "help":
			fmt.Fprint(s.out, orders)
		case "script":
			if len(words) != 2 {
				err = errors.New("not understood; write script FILE")
			} else {
				err = begin(words[1])
			}
		case "wait": // one that could be kept went no further than feed
			err = errors.New("not understood; write wait TIME, as in wait 500ms")
		default:
			err = orders.obey("command", words)
		}
		if err != nil {
			fmt.Fprintf(s.err, "%s: %v\n", line, err)
		}
	}
}

// feed hands on the lines that say something, and waits where one says so.
func feed(ctx context.Context, r io.Reader, lines chan<- string) {
	defer close(lines)
	for scan := bufio.NewScanner(r); scan.Scan(); {
		line, _, _ := strings.Cut(scan.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if words[0] == "wait" && len(words) == 2 {
			if d, err := time.ParseDuration(words[1]); err == nil {
				if device.Pause(ctx, d) != nil {
					return
				}
				continue
			}
		}
		select {
		case lines <- strings.TrimSpace(line):
		case <-ctx.Done():
			return
		}
	}
}
