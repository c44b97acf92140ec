package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallagent/hallagent/device/sim"
)

type simReader struct {
	PTY       string        `help:"Name of the terminal to make: a link that takes the place of /dev/serial/by-id/…" xor:"where" required:"" placeholder:"PATH" name:"pty"`
	TCP       string        `help:"Address to listen on, as a serial device server does: one connection at a time." xor:"where" required:"" placeholder:"HOST:PORT" name:"tcp"`
	Baud      int           `help:"Rate of the reader, and pace of the bytes; 0 is as fast as it goes. On a terminal a host that set another rate is not understood." default:"115200"`
	Every     time.Duration `help:"Lay the next card on in this rhythm by itself, and lift it half-way." placeholder:"10s"`
	CardKinds []string      `help:"Only cards of these kinds: resident, foreigner_2017, foreigner_2023, hmt, unknown." placeholder:"KIND,…"`
	Mood      []string      `help:"A mood to begin with, such as \"slow 500ms\"; may be given several times." placeholder:"MOOD" sep:"none"`
	Script    string        `help:"Obey the lines of this file." placeholder:"FILE" type:"path"`
}

func (simReader) Help() string {
	var d desk
	return "Commands on standard input, or in a script:\n" + slices.Concat(d.orders(), always).String() +
		"\nMoods add up until \"mood well\":\n" + d.moods().String() +
		"\nExamples:\n  hallagent sim reader --pty /tmp/reader --every 10s\n" +
		"  hallagent sim reader --tcp 127.0.0.1:4001 --mood \"noisy 0.3\" --card-kinds hmt,unknown\n" +
		"  printf 'lay 1\\nwait 2s\\nmood half 700 1\\nswap 6\\n' | hallagent sim reader --pty /tmp/reader"
}

func (r simReader) Run(ctx context.Context, s streams) error {
	d := desk{streams: s, reader: sim.NewReader(sim.ReaderOptions{Baud: r.Baud})}
	if err := d.take(r.CardKinds); err != nil {
		return err
	}
	for _, m := range r.Mood {
		if err := d.moods().obey("mood", strings.Fields(m)); err != nil {
			return fmt.Errorf("--mood %q: %w", m, err)
		}
	}
	serve, where, err := r.serve(ctx, &d)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "reader on %s, %d cards; help lists the commands\n", where, len(d.cards))
	turn := 0
	return simulation{
		streams: s, serve: serve, every: r.Every / 2, script: r.Script, orders: d.orders(),
		act: func() {
			if turn++; turn%2 == 1 {
				d.lay(turn / 2 % len(d.cards))
			} else {
				d.lift()
			}
		},
	}.run(ctx)
}

// serve gives the way to serve the reader where the flags want it.
func (r simReader) serve(ctx context.Context, d *desk) (func(context.Context) error, string, error) {
	pty, l, name, err := place(ctx, "reader", r.PTY, r.TCP)
	switch {
	case err != nil:
		return nil, "", err
	case pty == nil:
		return func(ctx context.Context) error { return d.reader.ServeTCP(ctx, l) }, name, nil
	}
	d.pty = pty
	return func(ctx context.Context) error {
		defer pty.Close()
		return d.reader.Serve(ctx, pty)
	}, name, nil
}

// desk is a reader with a pack of cards beside it.
type desk struct {
	streams
	reader  *sim.Reader
	pty     *sim.PTY // nil on TCP
	persons []sim.Person
	cards   []sim.Card
	last    int // number of the card last laid, from 1; 0 before the first
}

// take fills the pack with the cards of these kinds; none means all.
func (d *desk) take(kinds []string) error {
	for _, k := range kinds {
		if !slices.Contains(sim.Kinds(), sim.Kind(k)) {
			return fmt.Errorf("--card-kinds: no kind %q; known: %s", k, strings.Trim(fmt.Sprint(sim.Kinds()), "[]"))
		}
	}
	for i, p := range sim.Persons() {
		if len(kinds) == 0 || slices.Contains(kinds, string(p.Kind)) {
			d.persons = append(d.persons, p)
			d.cards = append(d.cards, sim.Cards()[i])
		}
	}
	return nil
}

// name of the n-th card's holder, from 0.
func (d *desk) name(n int) string {
	p := d.persons[n]
	return strings.TrimSpace(p.Name + " " + p.EnglishName)
}

func (d *desk) lay(n int) {
	d.reader.Lay(d.cards[n])
	d.last = n + 1
	fmt.Fprintf(d.out, "laid %d, %s %s\n", n+1, d.persons[n].Kind, d.name(n))
}

func (d *desk) lift() {
	d.reader.Lift()
	fmt.Fprintln(d.out, "lifted")
}

func (d *desk) list() {
	for i, p := range d.persons {
		extra := ""
		if n := len(p.NewAddresses); n > 0 {
			extra += fmt.Sprintf(", %d new addresses", n)
		}
		if n := len(p.Fingers); n > 0 {
			extra += fmt.Sprintf(", %d fingerprints", n)
		}
		fmt.Fprintf(d.out, "%3d  %-14s  %s%s\n", i+1, p.Kind, d.name(i), extra)
	}
}

// chosen takes the number of a card, or the next one, and lays that card.
func (d *desk) chosen(args []string, next int) error {
	w := words{rest: args}
	n := w.number(next)
	if w.bad || len(w.rest) > 0 {
		return errUsage
	}
	if n < 1 || n > len(d.cards) {
		return fmt.Errorf("no card %d; there are %d, and cards lists them", n, len(d.cards))
	}
	d.lay(n - 1)
	return nil
}

// cable pulls the cable out or puts it in.
func (d *desk) cable(args []string, what string, do func(*sim.PTY) error) error {
	switch {
	case len(args) > 0:
		return errUsage
	case d.pty == nil:
		return errors.New("there is no cable on TCP; silent on comes near it")
	}
	if err := do(d.pty); err != nil {
		return err
	}
	fmt.Fprintln(d.out, what)
	return nil
}

// orders are those of the reader's desk.
func (d *desk) orders() orders {
	return orders{
		{"cards", "", "list the cards: number, kind, made-up name", func(args []string) error {
			w := words{rest: args}
			return w.then(d.list)
		}},
		{"lay", "[N]", "lay card N on the reader, or the next one", func(args []string) error {
			return d.chosen(args, d.last%max(1, len(d.cards))+1)
		}},
		{"lift", "", "take the card away", func(args []string) error {
			w := words{rest: args}
			return w.then(d.lift)
		}},
		{"swap", "N", "lift the card and lay card N in its place, at once", func(args []string) error {
			return d.chosen(args, -1)
		}},
		{"unplug", "", "pull the cable out", func(args []string) error {
			return d.cable(args, "unplugged", (*sim.PTY).Unplug)
		}},
		{"plug", "", "put the cable in; the reader starts", func(args []string) error {
			return d.cable(args, "plugged", func(p *sim.PTY) error {
				d.reader.PowerOn()
				return p.Plug()
			})
		}},
		{"silent", "on|off", "hear and do not answer", func(args []string) error {
			w := words{rest: args}
			on := w.onOff()
			return w.then(func() { d.reader.Silence(on) })
		}},
		{"mood", "NAME [ARGUMENTS]", "what is the matter with the reader, see the moods", func(args []string) error {
			if len(args) == 0 {
				fmt.Fprint(d.out, d.moods())
				return nil
			}
			return d.moods().obey("mood", args)
		}},
	}
}
