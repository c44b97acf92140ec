//go:build unix

package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

// put appends records.
func (h *hall) put(t *testing.T, n int) {
	t.Helper()
	for range n {
		if _, err := h.box.Append(t.Context(), []byte("visit")); err != nil {
			t.Fatal(err)
		}
	}
}

// settled waits until all is acknowledged and gives how long that took.
func (h *hall) settled(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := h.up.Flush(ctx); err != nil {
		t.Fatalf("not settled after %v: uplink %+v, broker %+v", limit, h.up.Status(), h.client.Status())
	}
	return time.Since(began)
}

// complete checks that the consumer has all that was put, in order.
func complete(t *testing.T, h *hall, c *consumer, n int) {
	t.Helper()
	c.wait(t, n)
	if s := h.box.Status(); s.Accepted != uint64(n) || s.AcknowledgedCount != uint64(n) || s.Pending != 0 || len(s.Dropped) != 0 {
		t.Errorf("books: %+v", s)
	}
}

// TestTortureBrokerFaults puts a broker, or the way to it, into trouble while
// records are accepted, and measures from the end of the trouble until everything
// is acknowledged. In full length the troubles last longer and the keep-alive is
// the usual one.
func TestTortureBrokerFaults(t *testing.T) {
	t.Parallel()
	long := os.Getenv("HALLAGENT_TORTURE") != ""
	keepAlive := func(m *mqtt.Options, _ *Options) {
		if !long {
			m.KeepAlive = time.Second
		}
	}
	lasting := func(short, full time.Duration) time.Duration {
		if long {
			return full
		}
		return short
	}
	recovered := func(t *testing.T, took time.Duration) {
		t.Logf("recovered after %v", took.Round(time.Millisecond))
	}

	t.Run("broker stands still", func(t *testing.T) {
		t.Parallel()
		b := mosquitto.Start(t, mosquitto.Options{})
		c := startConsumer(t, b.URL, false)
		h := startHall(t, b.URL, false, keepAlive)
		h.put(t, 10)
		h.settled(t, 10*time.Second)
		b.Pause()
		h.put(t, 200)
		time.Sleep(lasting(time.Second, 2*time.Minute)) // the trouble itself
		b.Resume()
		recovered(t, h.settled(t, 40*time.Second))
		complete(t, h, c, 210)
	})

	t.Run("half-open connection", func(t *testing.T) {
		t.Parallel()
		b := mosquitto.Start(t, mosquitto.Options{})
		c := startConsumer(t, b.URL, false)
		line := newCable(t, b)
		h := startHall(t, line.url, false, keepAlive)
		h.put(t, 10)
		h.settled(t, 10*time.Second)
		line.each(func(s *strand) { s.swallow.Store(true) })
		h.put(t, 200)
		took := h.settled(t, time.Minute)
		t.Logf("found and recovered after %v, with a ping every %v that waits 10 s", took.Round(time.Millisecond), lasting(time.Second, 20*time.Second))
		complete(t, h, c, 210)
	})

	t.Run("PUBACKs swallowed", func(t *testing.T) {
		t.Parallel()
		b := mosquitto.Start(t, mosquitto.Options{})
		wills := make(chan string, 10)
		ears := mqtt.New(mqtt.Options{URL: b.URL, ClientID: "ears", Subscriptions: []string{"status"}, Log: slog.New(slog.DiscardHandler),
			Handle: func(topic string, _ []byte, _ bool) { wills <- topic }})
		background(t, ears.Run)
		if _, err := ears.Session(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := startConsumer(t, b.URL, false)
		line := newCable(t, b)
		var up *Uplink
		h := startHall(t, line.url, false, func(m *mqtt.Options, _ *Options) {
			m.Will = func(uint64) mqtt.Message { return mqtt.Message{Topic: "status", Payload: []byte("lost")} }
		}, func(_ *mqtt.Options, o *Options) { o.patience = lasting(time.Second, 0) })
		up = h.up
		h.put(t, 10)
		h.settled(t, 10*time.Second)
		line.each(func(s *strand) { s.deaf.Store(true) })
		h.put(t, 200)
		took := h.settled(t, 3*time.Minute)
		s := up.Status()
		if s.Reconnects != 1 || h.client.Status().Connects != 2 || !s.Stalled.IsZero() {
			t.Errorf("uplink %+v, broker %+v", s, h.client.Status())
		}
		if len(wills) > 0 {
			t.Error("the will was published")
		}
		t.Logf("found and recovered after %v, with a patience of %v", took.Round(time.Millisecond), up.opts.patience)
		complete(t, h, c, 210)
	})

	t.Run("password refused then allowed", func(t *testing.T) {
		t.Parallel()
		users := func(password string) map[string]string {
			return map[string]string{"wendeng": password, "queue": "q"}
		}
		b := mosquitto.Start(t, mosquitto.Options{Users: users("new")})
		file := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(file, []byte("old\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		h := startHall(t, b.URL, true, func(m *mqtt.Options, _ *Options) { m.Username, m.PasswordFile = "wendeng", file })
		h.put(t, 200)
		for h.client.Status().Code != mqtt.CodeCredentials {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(lasting(100*time.Millisecond, 30*time.Second))
		if err := os.WriteFile(file, []byte("new\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		password := filepath.Join(t.TempDir(), "queue")
		if err := os.WriteFile(password, []byte("q"), 0o600); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c := startConsumer(t, b.URL, true, func(m *mqtt.Options) { m.Username, m.PasswordFile = "queue", password })
		h.settled(t, 30*time.Second)
		recovered(t, time.Since(began))
		complete(t, h, c, 200)
	})

	t.Run("client id taken over", func(t *testing.T) {
		t.Parallel()
		b := mosquitto.Start(t, mosquitto.Options{})
		c := startConsumer(t, b.URL, false)
		h := startHall(t, b.URL, false)
		h.put(t, 10)
		h.settled(t, 10*time.Second)
		other := mqtt.New(mqtt.Options{URL: b.URL, ClientID: "hallagent-371003-wendeng", Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithTimeout(t.Context(), lasting(2*time.Second, time.Minute))
		defer cancel()
		var stranger sync.WaitGroup
		stranger.Go(func() { other.Run(ctx) })
		for ctx.Err() == nil {
			h.put(t, 5)
			time.Sleep(50 * time.Millisecond)
		}
		stranger.Wait()
		took := h.settled(t, 30*time.Second)
		s := h.client.Status()
		t.Logf("recovered after %v; %d connects, code %s", took.Round(time.Millisecond), s.Connects, s.Code)
		complete(t, h, c, int(h.box.Status().Accepted))
	})

	t.Run("rights missing then given", func(t *testing.T) {
		if !long {
			t.Skip("an echo waits 10 s: in full length only")
		}
		t.Parallel()
		const ears = "user ears\ntopic readwrite #\n"
		b := mosquitto.Start(t, mosquitto.Options{ACL: "topic readwrite other/#\n" + ears, Extra: []string{"max_queued_messages 1000"}})
		c := startConsumer(t, b.URL, false, func(m *mqtt.Options) { m.Username = "ears" })
		h := startHall(t, b.URL, false)
		h.put(t, 200)
		for h.client.Status().Code != mqtt.CodeNotEchoed {
			time.Sleep(10 * time.Millisecond)
		}
		if s := h.box.Status(); s.Pending != 200 || h.up.Status().Sent != 0 {
			t.Errorf("records went over a connection without rights: %+v", s)
		}
		b.SetACL("topic readwrite visits\ntopic readwrite ack/#\ntopic readwrite echo/+\n" + ears)
		b.Reload()
		recovered(t, h.settled(t, 31*time.Second))
		complete(t, h, c, 200)
	})

	t.Run("queue limit of the broker", func(t *testing.T) {
		t.Parallel()
		b := mosquitto.Start(t, mosquitto.Options{Extra: []string{"max_queued_messages 20"}})
		slow := newSlowConsumer(t, b.URL)
		slow.connect(t)
		slow.client.Disconnect(100) // its session stays, and fills up
		h := startHall(t, b.URL, true, func(_ *mqtt.Options, o *Options) { o.MaxBytes = 60 })
		n := 70
		if long {
			n = 400
		}
		h.put(t, n)
		for h.up.Status().Sent < uint64(n) || h.up.Status().InFlight > 0 {
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		slow.connect(t)
		h.settled(t, time.Minute)
		recovered(t, time.Since(began))
		slow.mu.Lock()
		defer slow.mu.Unlock()
		if slow.mark != n || h.up.Status().Ignored[IgnoredBeyond] > 0 {
			t.Errorf("%d records, uplink %+v", slow.mark, h.up.Status())
		}
		t.Logf("%d records, %d came twice, %d out of turn; %d reminders", slow.mark, slow.twice, slow.missed, h.up.Status().Reminders)
	})

	t.Run("retained messages wiped", func(t *testing.T) {
		t.Parallel()
		b := mosquitto.Start(t, mosquitto.Options{}) // without persistence
		c := startConsumer(t, b.URL, true)
		h := startHall(t, b.URL, true)
		h.client.Retain("occupancy", []byte("12"))
		h.put(t, 100)
		h.settled(t, 10*time.Second)
		b.Kill()
		h.put(t, 100)
		b.Restart()
		began := time.Now()
		h.settled(t, 30*time.Second)
		recovered(t, time.Since(began))
		complete(t, h, c, 200)
		came := make(chan string, 10)
		ears := mqtt.New(mqtt.Options{URL: b.URL, ClientID: "ears", Subscriptions: []string{"occupancy"}, Log: slog.New(slog.DiscardHandler),
			Handle: func(_ string, payload []byte, retained bool) { came <- fmt.Sprint(string(payload), retained) }})
		background(t, ears.Run)
		select {
		case got := <-came:
			if got != "12true" {
				t.Errorf("state %s", got)
			}
		case <-time.After(10 * time.Second):
			t.Error("the retained state is not back")
		}
		if i := h.up.Status().Ignored; i[IgnoredBeyond]+i[IgnoredLower]+i[IgnoredEpoch] > 0 {
			t.Errorf("ignored %v", i)
		}
	})
}

// slowConsumer has a session that the broker keeps while it is away. It only
// acknowledges what it takes, and asks for nothing.
type slowConsumer struct {
	client paho.Client
	opts   *paho.ClientOptions

	mu                  sync.Mutex
	mark, twice, missed int
}

func newSlowConsumer(t *testing.T, url string) *slowConsumer {
	s := &slowConsumer{}
	s.opts = paho.NewClientOptions().AddBroker(strings.Replace(url, "mqtt://", "tcp://", 1)).SetClientID("slow").
		SetCleanSession(false).SetAutoReconnect(false)
	s.opts.SetDefaultPublishHandler(s.take)
	t.Cleanup(func() { s.client.Disconnect(100) })
	return s
}

func (s *slowConsumer) connect(t *testing.T) {
	t.Helper()
	s.client = paho.NewClient(s.opts)
	for _, token := range []func() paho.Token{s.client.Connect, func() paho.Token { return s.client.Subscribe("visits", 1, nil) }} {
		if got := token(); !got.WaitTimeout(10*time.Second) || got.Error() != nil {
			t.Fatal(got.Error())
		}
	}
}

func (s *slowConsumer) take(c paho.Client, m paho.Message) {
	var p payload
	if err := json.Unmarshal(m.Payload(), &p); err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range p.Values {
		var seq int
		fmt.Sscan(v, &seq)
		switch {
		case seq == s.mark+1:
			s.mark = seq
		case seq <= s.mark:
			s.twice++
		default:
			s.missed++
		}
	}
	c.Publish("ack/visits", 1, true, fmt.Sprintf(`{"epoch":%q,"upto":%d}`, epoch, s.mark))
}
