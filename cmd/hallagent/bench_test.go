package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

const (
	cardLimit    = 15 * time.Millisecond // from the last byte on the line to the workstation
	cardTurns    = 20                    // cards of each window in one repetition
	readAnswer   = 1295                  // bytes of the answer to 30 01
	cardPatience = 10 * time.Second
)

// benchWindow is a window with its reader, and the stream of its workstation.
type benchWindow struct {
	id, pace string
	reader   *sim.Reader
	sent     lastByte
	events   <-chan sse
	took     []time.Duration
}

// BenchmarkRatioCard measures from the last byte of a card on a line to its
// event at the workstation that claimed the window: the built program, readers
// on pseudo terminals, the stream over HTTP. A pseudo terminal has no UART and
// no USB behind it; what those add is not in the figures.
//
// ratio is the time over the limit of 15 ms.
func BenchmarkRatioCard(b *testing.B) {
	broker := mosquitto.Start(b, mosquitto.Options{})
	w := newWorld(b, broker.URL)
	windows := []*benchWindow{
		w.addBenchWindow("05", "pty as fast as it goes", 0),
		w.addBenchWindow("06", "pty at 115200 baud", 115200),
	}
	w.configure("")
	w.start()
	w.ready()
	for _, v := range windows {
		v.events = w.follow(v.id, w.pair(v.id))
	}
	turn := 0
	for b.Loop() {
		for range cardTurns {
			for _, v := range windows { // the next one works while this one sees its card lifted
				v.read(b, sim.MadeUp(turn))
			}
			turn++
		}
	}
	for _, v := range windows {
		slices.Sort(v.took)
		for _, p := range []int{50, 99} {
			took := v.took[(len(v.took)*p+99)/100-1]
			b.Run(fmt.Sprintf("%s, p%d of %d", v.pace, p, len(v.took)), func(b *testing.B) {
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(took.Seconds()*1000, "ours-ms")
				b.ReportMetric(cardLimit.Seconds()*1000, "limit-ms")
				b.ReportMetric(float64(took)/float64(cardLimit), "ratio")
				b.ReportMetric(1, "aim-max")
			})
		}
	}
}

// addBenchWindow adds a window whose reader is asked more often than usual, for
// a shorter run; the figure begins after the card was read.
func (w *world) addBenchWindow(id, pace string, baud int) *benchWindow {
	v := &benchWindow{id: id, pace: pace, sent: make(lastByte, 1)}
	v.reader, _ = w.addReader(id, sim.ReaderOptions{Baud: baud, Sent: v.sent.note})
	last := &w.readers[len(w.readers)-1]
	*last = strings.TrimSuffix(*last, "}") + ", poll: 50ms}"
	return v
}

// lastByte is when the last byte of a card was handed to the line.
type lastByte chan time.Time

// note is for sim.ReaderOptions.
func (c lastByte) note(frame []byte, at time.Time) {
	if len(frame) == readAnswer {
		select {
		case c <- at:
		default: // read twice: the earlier time stands
		}
	}
}

// read lays a card on and lifts it when it has arrived. The one before has gone
// when its removal has arrived.
func (v *benchWindow) read(b *testing.B, p sim.Person) {
	card, err := p.Card()
	if err != nil {
		b.Fatal(err)
	}
	if len(v.took) > 0 {
		v.next(b, "removed")
	}
	v.reader.Lay(card)
	e := v.next(b, "card")
	var got struct {
		Card struct {
			Number string `json:"id_number"`
		}
	}
	if err := json.Unmarshal(e.data, &got); err != nil || got.Card.Number != p.Number {
		b.Fatalf("window %s: not the card that was laid on: %v", v.id, err)
	}
	v.took = append(v.took, e.at.Sub(<-v.sent))
	v.reader.Lift()
}

func (v *benchWindow) next(b *testing.B, want string) sse {
	timeout := time.After(cardPatience)
	for {
		select {
		case e := <-v.events:
			if e.name == want {
				return e
			}
		case <-timeout:
			b.Fatalf("window %s: no %s event", v.id, want)
		}
	}
}
