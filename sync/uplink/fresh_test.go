package uplink

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

// freshWithin bounds what a draining backlog may delay: the 250 ms that may stand
// in the line, one message, and the way.
const freshWithin = time.Second

// On a line of 100 kB/s that drains a backlog, a new state and a message that is
// published ahead arrive within a bound.
func TestFreshOvertakesDrain(t *testing.T) {
	t.Parallel()
	b := mosquitto.Start(t, mosquitto.Options{})
	came := make(chan string, 100)
	ears := mqtt.New(mqtt.Options{URL: b.URL, ClientID: "ears", Subscriptions: []string{"occupancy", "lookup"}, Log: slog.New(slog.DiscardHandler),
		Handle: func(topic string, payload []byte, _ bool) { came <- topic + "=" + string(payload) }})
	background(t, ears.Run)
	if _, err := ears.Session(t.Context()); err != nil {
		t.Fatal(err)
	}
	line := newCable(t, b)
	line.rate = 100_000
	h := startHall(t, line.url, false)
	value := []byte(strings.Repeat("v", 300))
	const writers, each = 400, 10
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				if _, err := h.box.Append(t.Context(), value); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for h.up.Status().Rate == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	took := map[string][]time.Duration{}
	for i := range 5 {
		for topic, send := range map[string]func(string){
			"occupancy": func(v string) { h.client.Retain("occupancy", []byte(v)) },
			"lookup": func(v string) {
				session, err := h.client.Session(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				h.client.PublishAhead(session, "lookup", false, []byte(v), func(error) {})
			},
		} {
			began := time.Now()
			want := fmt.Sprint(i)
			send(want)
			select {
			case got := <-came:
				if got != topic+"="+want {
					t.Fatalf("came %s, want %s=%s", got, topic, want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s did not come", topic)
			}
			took[topic] = append(took[topic], time.Since(began))
		}
	}
	s := h.up.Status()
	if s.Pending == 0 {
		t.Error("the backlog was drained too early: nothing was measured")
	}
	for topic, all := range took {
		slices.Sort(all)
		t.Logf("%s: median %v, longest %v, beside %.0f records/s (%.0f kB/s) with %d messages in flight",
			topic, all[len(all)/2].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond), s.Rate, s.Rate*0.3, s.InFlight)
		if longest := all[len(all)-1]; longest > freshWithin {
			t.Errorf("%s arrived after %v", topic, longest)
		}
	}
}
