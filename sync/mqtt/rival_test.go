package mqtt

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

// Two clients with the same id throw each other off: both find out, neither
// floods the broker, and when one goes the other is well.
func TestTortureRival(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	long := os.Getenv("HALLAGENT_TORTURE") != ""
	adjust := func(c *Client) {
		if long {
			c.backoff = jitter
			return
		}
		c.backoff = func(int) time.Duration { return 100*time.Millisecond + rand.N(100*time.Millisecond) }
		c.times.steady = time.Second
	}
	one, _ := run(t, Options{URL: b.URL, Echo: "echo/one"}, adjust)
	other, stop := run(t, Options{URL: b.URL, Echo: "echo/one"}, adjust)
	began := time.Now()
	for _, c := range []*Client{one, other} {
		s := untilWithin(t, c, time.Minute, "aware of the other", func(s Status) bool { return s.Code == CodeDuplicate })
		if !strings.Contains(s.Hint, "hallagent-371003-wendeng") {
			t.Errorf("hint %q", s.Hint)
		}
	}
	t.Logf("both know after %v", time.Since(began).Round(time.Millisecond))
	if long {
		time.Sleep(time.Minute - time.Since(began))
		first := [2]uint64{one.Status().Connects, other.Status().Connects}
		time.Sleep(2 * time.Minute)
		then := [2]uint64{one.Status().Connects, other.Status().Connects}
		t.Logf("connects in the first minute: %d and %d; then in each of two: %d and %d", first[0], first[1], (then[0]-first[0])/2, (then[1]-first[1])/2)
		if first[0]+first[1] > 40 || then[0]-first[0] > 24 || then[1]-first[1] > 24 {
			t.Errorf("too many connects")
		}
		if one.Status().Code != CodeDuplicate || other.Status().Code != CodeDuplicate {
			t.Errorf("no longer aware: %+v, %+v", one.Status(), other.Status())
		}
	}
	stop()
	gone := time.Now()
	untilWithin(t, one, 80*time.Second, "well again", func(s Status) bool { return s.State == Connected && s.Code == "" })
	t.Logf("well again %v after the other went; a connection is trusted after %v", time.Since(gone).Round(time.Millisecond), one.times.steady)
}

func untilWithin(t testing.TB, c *Client, limit time.Duration, what string, ok func(Status) bool) Status {
	t.Helper()
	for deadline := time.After(limit); ; {
		if s := c.Status(); ok(s) {
			return s
		}
		select {
		case <-deadline:
			t.Fatalf("not %s within %v: %+v", what, limit, c.Status())
		case <-time.After(time.Millisecond):
		}
	}
}

// A client that connects anew by itself, again and again, has no rival.
func TestReconnectsAreNoRival(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	var log bytes.Buffer
	c, stop := run(t, Options{URL: b.URL, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 8 {
		s := connected(t, c)
		c.Reconnect(s, "for a test")
		<-s.Done()
	}
	connected(t, c)
	stop()
	if strings.Contains(log.String(), errRival.Error()) || strings.Contains(log.String(), errTaken.Error()) {
		t.Errorf("taken for another client:\n%s", log.String())
	}
}

// A broker that starts again and again is not another client.
func TestRestartsAreNoRival(t *testing.T) {
	for name, end := range map[string]func(*mosquitto.Broker){"killed": (*mosquitto.Broker).Kill, "stopped": (*mosquitto.Broker).Stop} {
		t.Run(name, func(t *testing.T) {
			b := mosquitto.Start(t, mosquitto.Options{})
			var log bytes.Buffer
			c, stop := run(t, Options{URL: b.URL, Log: slog.New(slog.NewTextHandler(&log, nil))})
			for range 8 {
				s := connected(t, c)
				end(b)
				<-s.Done()
				until(t, c, "through with looking", func(st Status) bool { return st.State == Waiting })
				b.Restart()
			}
			connected(t, c)
			stop()
			if strings.Contains(log.String(), errRival.Error()) {
				t.Errorf("taken for another client:\n%s", log.String())
			}
		})
	}
}

// A message that is larger than the broker takes is not another client: mosquitto
// hangs up on it, whenever it comes.
func TestPacketLimitIsNoRival(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{Extra: []string{"max_packet_size 4096"}})
	var log bytes.Buffer
	c, stop := run(t, Options{URL: b.URL, Echo: "echo/one", Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 10 { // a race at the socket may hide that the broker ended one
		session := connected(t, c)
		done := make(chan error, 1)
		c.Publish(session, "visits", false, make([]byte, 5000), func(err error) { done <- err })
		if err := <-done; err == nil {
			t.Fatal("the broker took a message above its limit")
		}
	}
	if err := publish(t, c, "visits", false, "small"); err != nil {
		t.Error(err)
	}
	stop()
	if said := log.String(); strings.Contains(said, errRival.Error()) || !strings.Contains(said, errPacketLimit.Error()) || !strings.Contains(said, "max_packet_size") {
		t.Errorf("not told, or taken for another client:\n%s", said)
	}
}
