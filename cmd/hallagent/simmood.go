package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hallagent/hallagent/device/sim"
)

// moods are what can be the matter with a reader, by name.
func (d *desk) moods() orders {
	say := func(name string, args []string) {
		fmt.Fprintln(d.out, strings.Join(slices.Concat([]string{"mood", name}, args), " "))
	}
	// one makes an order of a mood: read takes its arguments and gives the change.
	one := func(name, args, help string, read func(w *words) func(*sim.Mood)) order {
		return order{name, args, help, func(given []string) error {
			w := words{rest: given}
			change := read(&w)
			return w.then(func() {
				d.reader.ChangeMood(change)
				say(name, given)
			})
		}}
	}
	// refuse makes one of a status that takes the place of answers.
	refuse := func(f sim.Force) func(*sim.Mood) {
		return func(m *sim.Mood) { m.Force = append(m.Force, f) }
	}
	newAddress := [2]byte{0x30, 0x03}
	return orders{
		one("well", "", "nothing", func(*words) func(*sim.Mood) {
			return func(m *sim.Mood) { *m = sim.Mood{} }
		}),
		one("slow", "TIME [BAUD]", "before each answer; and bytes no faster than BAUD", func(w *words) func(*sim.Mood) {
			delay, pace := w.time(), w.number(0)
			return func(m *sim.Mood) { m.Delay, m.Pace = delay, pace }
		}),
		one("late", "TIME", "before the next answer alone; longer than the host waits", func(w *words) func(*sim.Mood) {
			late := w.time()
			return func(m *sim.Mood) { m.Late = late }
		}),
		one("noisy", "CHANCE [SEED]", "rubbish before and behind answers; CHANCE is 0 to 1", func(w *words) func(*sim.Mood) {
			p, seed := w.chance(), w.number(0)
			return func(m *sim.Mood) { m.Rubbish, m.Seed = p, uint64(seed) }
		}),
		one("flips", "CHANCE [SEED]", "a wrong bit in a byte, CHANCE for each byte", func(w *words) func(*sim.Mood) {
			p, seed := w.chance(), w.number(0)
			return func(m *sim.Mood) { m.Flip, m.Seed = p, uint64(seed) }
		}),
		one("disturbed", "[TIMES]", "one wrong byte in the next read (1)", func(w *words) func(*sim.Mood) {
			n := w.number(1)
			return func(m *sim.Mood) { m.Disturb = n }
		}),
		one("half", "BYTES [TIMES]", "answers end after so many bytes; always without TIMES", func(w *words) func(*sim.Mood) {
			cut := sim.Cut{After: w.number(-1), Times: w.number(0)}
			return func(m *sim.Mood) { m.Cut = cut }
		}),
		one("pieces", "BYTES TIME", "answers in pieces, with a pause between", func(w *words) func(*sim.Mood) {
			pieces := sim.Pieces{Size: w.number(-1), Pause: w.time()}
			return func(m *sim.Mood) { m.Pieces = pieces }
		}),
		one("swallow", "[TIMES]", "the next answer is lost (1)", func(w *words) func(*sim.Mood) {
			n := w.number(1)
			return func(m *sim.Mood) { m.Swallow = n }
		}),
		one("wedged", "", "silent until plug; on TCP until the host hangs up", func(*words) func(*sim.Mood) {
			return func(m *sim.Mood) { m.Wedged = true }
		}),
		one("echo", "", "the host hears its own requests", func(*words) func(*sim.Mood) {
			return func(m *sim.Mood) { m.Echo = true }
		}),
		{"baud", "RATE", "the reader is set to another rate", func(args []string) error {
			w := words{rest: args}
			rate := w.number(-1)
			return w.then(func() {
				d.reader.SetBaud(rate)
				say("baud", args)
			})
		}},
		{"starting", "TIME [WRONG_IDS [BANNER]]", "switched on: silent so long, then a text, then wrong SAM ids", func(args []string) error {
			w := words{rest: args}
			up, wrong := w.time(), w.number(0)
			banner := strings.Join(w.rest, " ")
			w.rest = nil
			if banner != "" {
				banner += "\r\n"
			}
			return w.then(func() {
				d.reader.ChangeMood(func(m *sim.Mood) { m.StartUp, m.WrongIDs, m.Banner = up, wrong, banner })
				d.reader.PowerOn()
				say("starting", args)
			})
		}},
		one("ill", "", "self-test failed: every answer is 60", func(*words) func(*sim.Mood) {
			return refuse(sim.Force{Status: [3]byte{0, 0, 0x60}})
		}),
		one("unauthorised", "", "every answer is 66", func(*words) func(*sim.Mood) {
			return refuse(sim.Force{Status: [3]byte{0, 0, 0x66}})
		}),
		one("refuse", "COMMAND STATUS [TIMES]", "as in refuse 3001 000041 2: SW1 SW2 SW3, 000000 for no answer", func(w *words) func(*sim.Mood) {
			f := sim.Force{Command: [2]byte(w.bytes(2)), Status: [3]byte(w.bytes(3)), Times: w.number(0)}
			return refuse(f)
		}),
		one("no-presence", "", "30 03 gets no answer", func(*words) func(*sim.Mood) {
			return refuse(sim.Force{Command: newAddress})
		}),
		one("presence-unknown", "", "30 03 is answered 21, a bad command", func(*words) func(*sim.Mood) {
			return refuse(sim.Force{Command: newAddress, Status: [3]byte{0, 0, 0x21}})
		}),
		one("presence-once", "", "30 03 gets no more answer after its first 91", func(*words) func(*sim.Mood) {
			return func(m *sim.Mood) { m.PresenceOnce = true }
		}),
		one("finds-again", "", "find says 9F of an unmoved card that was read", func(*words) func(*sim.Mood) {
			return func(m *sim.Mood) { m.FindsAgain = true }
		}),
		one("rereads", "", "select and read serve an unmoved card, though find says 80", func(*words) func(*sim.Mood) {
			return func(m *sim.Mood) { m.Rereads = true }
		}),
	}
}
