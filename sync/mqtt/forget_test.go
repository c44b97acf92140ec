package mqtt

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

// A topic that was forgotten stays at the broker and is not renewed: not by what
// had still to be sent, and not after a connect.
func TestForget(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{Persistence: true})
	c, _ := run(t, Options{URL: b.URL})
	s := connected(t, c)
	c.Retain("ack/visits", []byte("1"))
	c.Retain("occupancy", []byte("12"))
	if err := publish(t, c, "visits", false, "behind the states"); err != nil {
		t.Fatal(err)
	}
	inner := sessionOf(s)
	inner.mu.Lock() // hold the pump
	c.mu.Lock()
	c.states["ack/visits"].payload = []byte("2")
	c.mu.Unlock()
	inner.dirty = append(inner.dirty, "ack/visits")
	inner.mu.Unlock()
	c.Forget("ack/visits")
	c.Forget("never set")
	if _, ok := c.state("ack/visits"); ok {
		t.Error("a forgotten topic has a state")
	}
	b.Stop() // keeps what is retained
	until(t, c, "waiting", func(s Status) bool { return s.State == Waiting })
	b.Restart()
	connected(t, c)
	other, leave := run(t, Options{URL: b.URL, ClientID: "other"})
	connected(t, other)
	other.Retain("ack/visits", []byte("7"))
	if err := publish(t, other, "visits", false, "behind the states"); err != nil {
		t.Fatal(err)
	}
	leave()
	b.Stop()
	until(t, c, "waiting", func(s Status) bool { return s.State == Waiting })
	b.Restart()
	connected(t, c)
	listen(t, b.URL).expect("ack/visits=7 r", "occupancy=12 r")
}

// A Forget that comes while the farewell is being said does not touch what that
// goes through; the race detector sees it otherwise.
func TestForgetDuringFarewell(t *testing.T) {
	c := New(Options{})
	s := newSession(context.Background(), c)
	defer s.cancel(nil)
	for i := range 1000 {
		s.dirty = append(s.dirty, fmt.Sprint(i))
	}
	var late sync.WaitGroup
	late.Go(func() {
		for i := range 1000 {
			s.untouch(fmt.Sprint(i))
		}
	})
	c.farewell(s)
	late.Wait()
	if len(s.dirty) != 0 {
		t.Errorf("%d states are still to be sent", len(s.dirty))
	}
}
