package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/central/store"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/uplink"
	"github.com/hallagent/hallagent/sync/wire"
)

// pick gives the count of a short run, or of a whole one.
func pick(short, torture int) int {
	if os.Getenv("HALLAGENT_TORTURE") != "" {
		return torture
	}
	return short
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

// realAgent is a hall's way up as the agent has it.
type realAgent struct {
	box *outbox.Outbox
	up  *uplink.Uplink
}

func startAgent(t testing.TB, url string, h wire.Hall) *realAgent {
	a := &realAgent{}
	a.box = outbox.New(outbox.Options{Path: filepath.Join(t.TempDir(), "visits.db"), Stream: "visits", Log: testLog(),
		NewEpoch: func(string) (string, string, error) { return first, "", nil }})
	client := mqtt.New(mqtt.Options{
		URL: url, ClientID: h.ClientID(), Log: testLog(), Subscriptions: []string{h.Ack("+")},
		Birth: func(session uint64) mqtt.Message {
			b := a.box.Status()
			state, err := wire.State(h, h.Status(), "agent", wire.TypeStatus, "1", time.Now(), wire.Status{
				State: wire.Ready, Session: wire.Session(1, session),
				Streams: map[string]wire.StreamState{"visits": {Epoch: b.Epoch, Last: b.Last, Pending: b.Pending}}})
			if err != nil {
				t.Error(err)
			}
			return mqtt.Message{Topic: h.Status(), Retain: true, Payload: state}
		},
		Handle: func(topic string, payload []byte, _ bool) {
			word, err := wire.ParseAck(payload)
			if err != nil || topic != h.Ack("visits") {
				t.Errorf("%s: %v", topic, err)
			}
			a.up.Acknowledged(word.Epoch, word.Upto, word.Resend)
		},
	})
	a.up = uplink.New(uplink.Options{Outbox: a.box, Publisher: client, Topic: h.Stream("visits"), Central: true, Log: testLog(),
		Encode: func(records []outbox.Record, replayed bool) (batch []byte, err error) {
			for _, r := range records {
				batch = wire.AppendRecord(batch, r.Value, wire.Place{Stream: "visits", Epoch: r.Epoch, Sequence: r.Seq, Recorded: r.Recorded, Replayed: replayed})
			}
			return batch, nil
		}})
	background(t, a.box.Run) // ends last
	background(t, a.up.Run)
	<-a.box.Opened()
	background(t, client.Run)
	return a
}

// visit is a record as it lies in the outbox.
func visit(t testing.TB, h wire.Hall) []byte {
	at := time.Date(2020, 11, 23, 9, 30, 0, 0, time.UTC)
	r, err := wire.Store(h, "k-D1", wire.TypeVisit, at, wire.Synced, wire.Visit{Door: "D1", Device: "k-D1", In: 1, From: at, To: at})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// consumer is an inbox with a real client.
func startConsumer(t testing.TB, url string, db *store.DB, effect Effect) (*Inbox, *mqtt.Client) {
	in := New(Options{Service: "queue", Instance: "a", Streams: []string{"visits"}, Store: db, Effect: effect, Log: testLog()})
	client := mqtt.New(mqtt.Options{URL: url, ClientID: "queue-a", Subscriptions: in.Subscriptions(), Handle: in.Handle, Log: testLog()})
	background(t, client.Run)
	background(t, func(ctx context.Context) error { return in.Run(ctx, client) })
	return in, client
}

// mark gives how far an inbox is with a hall.
func mark(in *Inbox, h wire.Hall) Stream {
	return (&link{in: in}).books(h)
}

// A broker that keeps nothing is killed again and again while records are
// appended: each has its effect once and in order, and in the end nothing is left
// in the outbox.
func TestTortureBrokerKilled(t *testing.T) {
	t.Parallel()
	b := mosquitto.Start(t, mosquitto.Options{})
	w := newWorld(t, filepath.Join(t.TempDir(), "central.db"))
	db := w.open()
	in, _ := startConsumer(t, b.URL, db, write)
	a := startAgent(t, b.URL, hallOne)
	record := visit(t, hallOne)
	appending, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for appending.Err() == nil {
				if _, err := a.box.Append(t.Context(), record); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
			}
		})
	}
	var took []time.Duration
	for range pick(5, 50) {
		upto := mark(in, hallOne).Mark + 20
		eventually(t, 60*time.Second, "records are applied", func() bool { return mark(in, hallOne).Mark > upto })
		// A connection that lasted 5 s is tried again at once after it broke.
		time.Sleep(time.Duration(pick(0, 5500)) * time.Millisecond)
		b.Kill()
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		b.Restart()
		begin, last := time.Now(), a.box.Status().Last
		eventually(t, 60*time.Second, "what was appended while the broker was away is applied", func() bool { return mark(in, hallOne).Mark >= last })
		took = append(took, time.Since(begin))
	}
	stop()
	writers.Wait()
	eventually(t, 60*time.Second, "the outbox is empty", func() bool { return a.box.Status().Pending == 0 })
	last := a.box.Status().Last
	got, _ := applied(t, db, hallOne)
	for i, item := range got {
		if item != fmt.Sprintf("%s/%d", first, i+1) {
			t.Fatalf("effect %d is of %s", i+1, item)
		}
	}
	books := mark(in, hallOne)
	if uint64(len(got)) != last || books.Applied != last || books.Mark != last {
		t.Errorf("%d effects and %+v of %d records", len(got), books, last)
	}
	slices.Sort(took)
	t.Logf("broker killed %d times, %d records; all applied again after %v in the median, %v at the longest; %d duplicates, %d holes, %d resends asked, %d reminders",
		len(took), last, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), books.Duplicates, books.Holes, books.Resends, a.up.Status().Reminders)
	for reason, n := range a.up.Status().Ignored {
		if reason != uplink.IgnoredResend && n > 0 {
			t.Errorf("%d words of the consumer ignored: %s", n, reason)
		}
	}
}

// A backlog comes faster than it can be applied: what is dropped comes again.
func TestTortureBacklog(t *testing.T) {
	t.Parallel()
	b := mosquitto.Start(t, mosquitto.Options{Extra: []string{"max_inflight_messages 0"}})
	w := newWorld(t, filepath.Join(t.TempDir(), "central.db"))
	db := w.open()
	a := startAgent(t, b.URL, hallOne)
	record := visit(t, hallOne)
	n := pick(2_000, 300_000)
	var writers sync.WaitGroup
	for range 200 {
		writers.Go(func() {
			for range n / 200 {
				if _, err := a.box.Append(t.Context(), record); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	begin := time.Now()
	in, client := startConsumer(t, b.URL, db, write)
	eventually(t, 5*time.Minute, "the outbox is empty", func() bool { return a.box.Status().Pending == 0 })
	took := time.Since(begin)
	books := mark(in, hallOne)
	got, _ := applied(t, db, hallOne)
	if len(got) != n || books.Applied != uint64(n) {
		t.Errorf("%d effects of %d records", len(got), n)
	}
	text, err := json.Marshal(books)
	t.Logf("%d records in %v, %.0f/s; dropped by the client %d; %s %v", n, took.Round(time.Millisecond), float64(n)/took.Seconds(), client.Status().Overflow, text, err)
}
