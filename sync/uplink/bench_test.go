package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/wire"
)

const (
	drainRecords  = 50_000 // of one repetition
	drainPatience = 30 * time.Second
)

// drain is a hall's way up, and at the other end of a real broker a subscriber.
type drain struct {
	b      *testing.B
	box    *outbox.Outbox
	client *mqtt.Client
	bare   paho.Client // the peer that publishes
	record []byte      // as it lies in the outbox

	mu       sync.Mutex
	came     [][]byte // messages since the last expect
	left     int      // records still to come
	complete chan time.Time
}

// BenchmarkRatioDrain measures how fast visits that wait on disk arrive at a
// subscriber, in the full envelope of the contract. Its peer is bare paho, which
// publishes the very same messages from memory, 64 in flight. Both in turns of
// one run; ratio is the median rate over the peer's.
func BenchmarkRatioDrain(b *testing.B) {
	b.Run(fmt.Sprintf("%d visits to a subscriber", drainRecords), benchDrain)
}

func benchDrain(b *testing.B) {
	d := newDrain(b)
	var a, z []float64
	for b.Loop() {
		d.fill(drainRecords)
		a = append(a, drainRecords/d.ours().Seconds())
		messages := d.came
		d.check(messages)
		z = append(z, drainRecords/d.theirs(messages).Seconds())
	}
	slices.Sort(a)
	slices.Sort(z)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(a[len(a)/2], "ours-records/s")
	b.ReportMetric(z[len(z)/2], "paho-records/s")
	b.ReportMetric(a[len(a)/2]/z[len(z)/2], "ratio")
}

func newDrain(b *testing.B) *drain {
	broker := mosquitto.Start(b, mosquitto.Options{Extra: []string{"max_inflight_messages 0"}})
	log := slog.New(slog.DiscardHandler)
	d := &drain{b: b}
	d.record = visit(b)
	d.box = outbox.New(outbox.Options{Path: filepath.Join(b.TempDir(), "visits.db"), Stream: "visits", Log: log,
		NewEpoch: func(string) (string, string, error) { return epoch, "", nil }})
	d.client = mqtt.New(mqtt.Options{URL: broker.URL, ClientID: "drain", Log: log})
	background(b, d.box.Run)
	background(b, d.client.Run)
	<-d.box.Opened()
	connect := func(id string) paho.Client {
		c := paho.NewClient(paho.NewClientOptions().AddBroker(broker.URL).SetClientID(id).SetAutoReconnect(false))
		d.wait(c.Connect())
		b.Cleanup(func() { c.Disconnect(100) })
		return c
	}
	d.bare = connect("bare")
	d.wait(connect("subscriber").Subscribe("visits", 1, func(_ paho.Client, m paho.Message) { d.take(m.Payload()) }))
	return d
}

// visit is a record as it lies in the outbox.
func visit(b *testing.B) []byte {
	at := time.Date(2020, 11, 23, 9, 30, 0, 0, time.UTC)
	record, err := wire.Store(wire.Hall{Area: "371003", ID: "bench"}, "k-D1", wire.TypeVisit, at, wire.Synced,
		wire.Visit{Door: "D1", Device: "k-D1", In: 3, Out: 1, From: at.Add(-time.Second), To: at})
	if err != nil {
		b.Fatal(err)
	}
	return record
}

// fillStore makes a store that holds n records.
func fillStore(b *testing.B, path string, record []byte, n int) {
	ctx, cancel := context.WithCancel(b.Context())
	d := &drain{b: b, record: record, box: outbox.New(outbox.Options{Path: path, Stream: "visits",
		Log: slog.New(slog.DiscardHandler), NewEpoch: func(string) (string, string, error) { return epoch, "", nil }})}
	var run sync.WaitGroup
	run.Go(func() { d.box.Run(ctx) })
	<-d.box.Opened()
	d.fill(n)
	cancel()
	run.Wait()
}

func (d *drain) wait(t paho.Token) {
	if !t.WaitTimeout(drainPatience) || t.Error() != nil {
		d.b.Fatalf("bare client: %v", t.Error())
	}
}

// take counts the records of a message and does no more: a subscriber that
// decodes would be what is measured.
func (d *drain) take(payload []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.came = append(d.came, payload)
	d.left -= bytes.Count(payload, []byte(`"sequence":"`))
	if d.left == 0 {
		d.complete <- time.Now()
	}
}

func (d *drain) expect() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.came, d.left, d.complete = nil, drainRecords, make(chan time.Time, 1)
}

// arrived gives the time from begin until the subscriber has all.
func (d *drain) arrived(begin time.Time) time.Duration {
	select {
	case at := <-d.complete:
		return at.Sub(begin)
	case <-time.After(drainPatience):
		d.b.Fatal("not all records arrived")
		return 0
	}
}

// fill puts the backlog on disk.
func (d *drain) fill(n int) {
	const writers = 500
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			for range n / writers {
				if _, errs[i] = d.box.Append(d.b.Context(), d.record); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		d.b.Fatal(err)
	}
}

// ours drains the backlog; the clock does not wait for the last record to leave
// the disk, this does.
func (d *drain) ours() time.Duration {
	ctx, cancel := context.WithTimeout(d.b.Context(), 2*drainPatience)
	defer cancel()
	if _, err := d.client.Session(ctx); err != nil {
		d.b.Fatal(err)
	}
	d.expect()
	up := New(Options{Outbox: d.box, Publisher: d.client, Topic: "visits", Encode: envelopes, Log: slog.New(slog.DiscardHandler)})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	begin := time.Now()
	wg.Go(func() { up.Run(ctx) })
	took := d.arrived(begin)
	if err := up.Flush(ctx); err != nil {
		d.b.Fatal(err)
	}
	return took
}

// envelopes encodes as the agent does.
func envelopes(records []outbox.Record, replayed bool) (batch []byte, err error) {
	for _, r := range records {
		if r.Gap != nil {
			return nil, fmt.Errorf("a gap in a backlog without losses: %+v", r.Gap)
		}
		batch = wire.AppendRecord(batch, r.Value, wire.Place{
			Stream: "visits", Epoch: r.Epoch, Sequence: r.Seq, Recorded: r.Recorded, Replayed: replayed,
		})
	}
	return batch, nil
}

// theirs publishes the same messages.
func (d *drain) theirs(messages [][]byte) time.Duration {
	d.expect()
	tokens := make(chan paho.Token, 63) // and the one that is waited for
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() {
		for t := range tokens {
			if t.Wait(); t.Error() != nil {
				failed = t.Error()
			}
		}
	})
	begin := time.Now()
	for _, m := range messages {
		tokens <- d.bare.Publish("visits", 1, false, m)
	}
	close(tokens)
	wg.Wait()
	if failed != nil {
		d.b.Fatal(failed)
	}
	return d.arrived(begin)
}

// check makes sure that what came was this backlog: every record once, in order.
func (d *drain) check(messages [][]byte) {
	next := d.box.Status().Last - drainRecords + 1
	for _, m := range messages {
		events, err := wire.Decode(m)
		if err != nil {
			d.b.Fatal(err)
		}
		for _, e := range events {
			if want := fmt.Sprintf("%020d", next); e.Sequence != want || e.Type != wire.TypeVisit {
				d.b.Fatalf("record %s of type %s, want %s", e.Sequence, e.Type, want)
			}
			next++
		}
	}
	if last := d.box.Status().Last; next != last+1 {
		d.b.Fatalf("records up to %d of %d came", next-1, last)
	}
}
