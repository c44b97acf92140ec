package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/outbox"
)

// hall is an agent's way up: outbox, uplink and MQTT client.
type hall struct {
	box    *outbox.Outbox
	up     *Uplink
	client *mqtt.Client
}

func startHall(t *testing.T, url string, central bool, adjust ...func(*mqtt.Options, *Options)) *hall {
	log := slog.New(slog.DiscardHandler)
	h := &hall{}
	h.box = outbox.New(outbox.Options{Path: filepath.Join(t.TempDir(), "visits.db"), Stream: "visits", Log: log,
		NewEpoch: func(string) (string, string, error) { return epoch, "", nil }})
	m := mqtt.Options{URL: url, ClientID: "hallagent-371003-wendeng", Log: log, Subscriptions: []string{"ack/visits"}, Echo: "echo/agent",
		Handle: func(_ string, b []byte, _ bool) {
			var word struct {
				Epoch  string
				Upto   uint64
				Resend bool
			}
			if err := json.Unmarshal(b, &word); err != nil {
				t.Error(err)
			}
			h.up.Acknowledged(word.Epoch, word.Upto, word.Resend)
		}}
	o := Options{Outbox: h.box, Topic: "visits", Encode: encode, Central: central, Log: log}
	for _, f := range adjust {
		f(&m, &o)
	}
	h.client = mqtt.New(m)
	o.Publisher = h.client
	h.up = New(o)
	h.up.resendPause = 100 * time.Millisecond
	background(t, h.box.Run) // ends last
	background(t, h.up.Run)
	background(t, h.client.Run)
	<-h.box.Opened()
	return h
}

// background runs something until the test ends.
func background(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// consumer takes records in order, drops what it has, and in mode central says
// how far it is and asks for what it misses.
type consumer struct {
	client *mqtt.Client

	mu         sync.Mutex
	values     []string
	duplicates int
	missed     int
	news       chan struct{} // closed at the next record
}

func startConsumer(t *testing.T, url string, central bool, adjust ...func(*mqtt.Options)) *consumer {
	c := &consumer{news: make(chan struct{})}
	o := mqtt.Options{URL: url, ClientID: "queue-service", Subscriptions: []string{"visits"},
		Log: slog.New(slog.DiscardHandler), Handle: c.take}
	for _, f := range adjust {
		f(&o)
	}
	c.client = mqtt.New(o)
	background(t, c.client.Run)
	if _, err := c.client.Session(t.Context()); err != nil {
		t.Fatal(err)
	}
	if central {
		background(t, c.acknowledge)
	}
	return c
}

func (c *consumer) take(_ string, b []byte, _ bool) {
	var p payload
	if err := json.Unmarshal(b, &p); err != nil {
		panic(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range p.Values {
		number, value, _ := strings.Cut(v, "=")
		var seq int
		fmt.Sscan(number, &seq)
		switch {
		case seq == len(c.values)+1:
			c.values = append(c.values, value)
			close(c.news)
			c.news = make(chan struct{})
		case seq <= len(c.values):
			c.duplicates++
		default:
			c.missed++
		}
	}
}

// acknowledge says every 20 ms how far it is; when it misses something, or hears
// nothing more, it asks to send again.
func (c *consumer) acknowledge(ctx context.Context) error {
	missed, last := 0, -1
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		c.mu.Lock()
		n, m := len(c.values), c.missed
		c.mu.Unlock()
		resend := m != missed || n == last
		word := fmt.Sprintf(`{"epoch":%q,"upto":%d,"resend":%t}`, epoch, n, resend)
		session, err := c.client.Session(ctx)
		if err != nil {
			return nil
		}
		c.client.Publish(session, "ack/visits", !resend, []byte(word), func(error) {})
		missed, last = m, n
	}
}

// wait waits until so many values came, in this order and none missing.
func (c *consumer) wait(t *testing.T, n int) {
	t.Helper()
	for deadline := time.After(30 * time.Second); ; {
		c.mu.Lock()
		have, news := len(c.values), c.news
		c.mu.Unlock()
		if have >= n {
			break
		}
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("%d of %d records came", have, n)
		}
	}
}

// load appends values from several goroutines; step is called in the midst of
// each tenth.
func load(t *testing.T, box *outbox.Outbox, n int, step func(i int)) {
	var wg sync.WaitGroup
	const callers = 8
	for part := range 10 {
		for range callers {
			wg.Go(func() {
				for range n / 10 / callers {
					if _, err := box.Append(context.Background(), []byte("visit")); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		step(part)
		wg.Wait()
	}
}

// The broker is killed twice under load, loses all it holds, and so does whoever
// was not connected: with the consumer's acknowledgement nothing is missing.
func TestBrokerKilledUnderLoad(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	c := startConsumer(t, b.URL, true)
	h := startHall(t, b.URL, true)
	const n = 8000
	load(t, h.box, n, func(part int) {
		if part == 3 || part == 6 {
			c.wait(t, 500) // something is under way
			b.Kill()
		}
		if part == 4 || part == 8 {
			b.Restart()
		}
	})
	c.wait(t, n)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.up.Flush(ctx); err != nil {
		t.Fatalf("flush: %v, %+v", err, h.up.Status())
	}
	s := h.box.Status()
	if s.Accepted != n || s.AcknowledgedCount != n || s.Pending != 0 || len(s.Dropped) != 0 {
		t.Errorf("books: %+v", s)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("%d records, %d duplicates, %d out of turn, uplink %+v", len(c.values), c.duplicates, c.missed, h.up.Status())
}

// With the broker's acknowledgement the line may break at any time.
func TestLineCutUnderLoad(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{Extra: []string{"max_inflight_messages 0"}})
	c := startConsumer(t, b.URL, false)
	line := newCable(t, b)
	h := startHall(t, line.url, false)
	const n = 8000
	load(t, h.box, n, func(part int) {
		if part%3 == 2 {
			c.wait(t, part*n/20)
			line.cut()
		}
	})
	c.wait(t, n)
	if err := h.up.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.values) != n || c.missed != 0 {
		t.Errorf("%d records, %d out of turn", len(c.values), c.missed)
	}
}
