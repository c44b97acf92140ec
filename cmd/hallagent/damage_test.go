package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/wire"
)

// judge holds every message of the hall against the published schemas: the whole
// of it, and the data of each event by its type.
type judge struct {
	t testing.TB
	c *jsonschema.Compiler

	mu   sync.Mutex
	seen map[string]int // messages by schema
}

// judged judges what the broker gives from now on.
func judged(t testing.TB, broker string) *judge {
	t.Helper()
	j := &judge{t: t, c: jsonschema.NewCompiler(), seen: map[string]int{}}
	j.c.AssertFormat()
	names, err := fs.Glob(wire.Schemas, "schemas/*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no schemas: %v", err)
	}
	for _, name := range names {
		text, err := wire.Schemas.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err == nil {
			err = j.c.AddResource(wire.Base+path.Base(name), doc)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	client := mqtt.New(mqtt.Options{
		URL: broker, ClientID: "judge-" + rand.Text(), Log: slog.New(slog.DiscardHandler),
		Subscriptions: []string{hall.Prefix() + "#"},
		Handle:        func(topic string, payload []byte, _ bool) { j.hear(topic, payload) },
	})
	owned(t, func(ctx context.Context) { client.Run(ctx) })
	return j
}

func (j *judge) hear(topic string, payload []byte) {
	if len(payload) == 0 || strings.HasPrefix(topic, hall.Prefix()+"echo/") {
		return
	}
	switch {
	case strings.HasPrefix(topic, hall.Prefix()+"ack/"):
		j.hold("ack.json", topic, payload)
		return
	case topic == hall.Stream("visits"):
		j.hold("batch.json", topic, payload)
	default:
		j.hold("event.json", topic, payload)
	}
	events, err := wire.Decode(payload)
	if err != nil {
		j.t.Errorf("%s: %v", topic, err)
	}
	for _, e := range events {
		kind := strings.TrimSuffix(strings.TrimPrefix(e.Type, "hall."), ".v1")
		j.hold(kind+".json", topic, e.Data)
	}
}

func (j *judge) hold(schema, topic string, payload []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err == nil {
		var s *jsonschema.Schema
		if s, err = j.c.Compile(wire.Base + schema); err == nil {
			err = s.Validate(doc)
		}
	}
	if err != nil {
		j.t.Errorf("%s against %s: %v\n%s", topic, schema, err, payload)
	}
	j.seen[schema]++
}

// sampled gives the value of a metric, summed over its labels.
func sampled(metrics []byte, name string) (sum float64) {
	for _, m := range regexp.MustCompile(`(?m)^`+name+`(?:\{[^}]*\})? (\S+)$`).FindAllSubmatch(metrics, -1) {
		n, _ := strconv.ParseFloat(string(m[1]), 64)
		sum += n
	}
	return sum
}

// balanced wants books in the metrics that balance, of so many records at least.
func (w *world) balanced(least uint64) error {
	m, err := get(w.url + "/metrics")
	if err != nil {
		return err
	}
	accepted, acked := sampled(m, "hallagent_stream_accepted_total"), sampled(m, "hallagent_stream_acknowledged_total")
	pending, dropped := sampled(m, "hallagent_stream_pending"), sampled(m, "hallagent_stream_dropped_total")
	if accepted != acked+pending+dropped || accepted < float64(least) {
		return fmt.Errorf("%v accepted (of %d), %v acknowledged, %v pending, %v dropped", accepted, least, acked, pending, dropped)
	}
	return nil
}

// alarmed wants an alarm at the broker for whoever comes late.
func alarmed(t testing.TB, broker, code string, active bool) {
	t.Helper()
	late := subscribe(t, broker, nil)
	eventually(t, 15*time.Second, fmt.Sprintf("the retained alarm %s is %v", code, active), func() error {
		var a wire.Alarm
		_, err := late.last(hall.Alarm(code, "visits"), &a)
		if err == nil && (a.Active != active || active && a.Hint == "") {
			err = fmt.Errorf("it is %+v", a)
		}
		return err
	})
}

// zero overwrites every page of a file in which part of value lies, old pages
// too, and tells for each of values whether part of it lay there.
func zero(t *testing.T, path string, value []byte, values [][]byte) (hit []bool) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize() // of a store's file, too
	pagesOf := func(v []byte) map[int]bool {
		all := map[int]bool{}
		for at := 0; ; at++ {
			n := bytes.Index(b[at:], v)
			if n < 0 {
				return all
			}
			at += n
			all[at/page], all[(at+len(v)-1)/page] = true, true
		}
	}
	gone := pagesOf(value)
	if len(gone) == 0 {
		t.Fatalf("not in %s: %s", path, value)
	}
	for n := range gone {
		if _, err := f.WriteAt(make([]byte, page), int64(n*page)); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range values {
		struck := false
		for n := range pagesOf(v) {
			struck = struck || gone[n]
		}
		hit = append(hit, struck)
	}
	return hit
}

// TestStoreDamaged zeroes pages of the store under a running agent, and kills it.
// After the next start all but the records of those pages arrives, with a gap for
// what does not, and everybody is told.
func TestStoreDamaged(t *testing.T) {
	t.Parallel()
	b := mosquitto.Start(t, mosquitto.Options{})
	j := judged(t, b.URL)
	w := newWorld(t, b.URL)
	w.poll = 100 * time.Millisecond
	gate := w.addCounter("D1", true)
	w.configure(", acknowledge: central")
	w.start()
	w.ready()
	eventually(t, 10*time.Second, "the counter is read", w.countersRead)
	const count = 40
	for n := range uint64(count) { // the consumer is away
		gate.Pass(1, n%3)
		eventually(t, 5*time.Second, "the pass is on disk", func() error {
			h, err := w.hallView()
			if err == nil && h.Streams[0].Last != n+1 {
				err = fmt.Errorf("at %d", h.Streams[0].Last)
			}
			return err
		})
	}
	out, _ := w.hallagent("outbox", "export")
	lines := exported(t, out)
	if len(lines) != count {
		t.Fatalf("%d of %d records exported", len(lines), count)
	}
	var values [][]byte
	for _, l := range lines {
		values = append(values, l.Value)
	}
	file := agent.StorePath(w.data(), "visits")
	hit := zero(t, file, values[count/2], values)
	w.kill()

	c := &centre{marks: map[string]uint64{}, sums: map[string][2]uint64{}}
	s := subscribe(t, b.URL, c.receive)
	eventually(t, 10*time.Second, "the consumer listens", func() error { _, err := s.last(hall.Status(), &wire.Status{}); return err })
	began := time.Now()
	w.start()
	w.ready()
	old := lines[0].Epoch
	eventually(t, 30*time.Second, "the new epoch arrives", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.marks) < 2 {
			return fmt.Errorf("at %v", c.marks)
		}
		return nil
	})
	gate.Pass(5, 1)
	lost, lostIn := 0, uint64(0)
	var order []wire.Event
	eventually(t, 30*time.Second, "the consumer has all but what is lost", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		order = slices.Clone(c.order)
		lost, lostIn = lostOf(t, order, old, hit)
		if want := uint64(count) + 5 - lostIn; c.sums["k-D1"][0] != want {
			return fmt.Errorf("%v arrived, %d came in", c.sums, want)
		}
		return nil
	})
	t.Logf("%d of %d records in the pages, %d lost; all told %v after the start", trues(hit), count, lost, time.Since(began).Round(time.Millisecond))
	i := slices.IndexFunc(order, func(e wire.Event) bool { return e.Epoch != old })
	var g wire.Gap
	if err := json.Unmarshal(order[i].Data, &g); err != nil || order[i].Type != wire.TypeGap || order[i].Sequence != fmt.Sprintf("%020d", 1) ||
		g.Epoch != old || g.From != count+1 || g.To != count || g.Reason != outbox.ReasonSalvage || order[i].Epoch <= old {
		t.Errorf("the new epoch begins with %+v", order[i])
	}
	if slices.ContainsFunc(order[i:], func(e wire.Event) bool { return e.Epoch == old }) {
		t.Error("the old epoch comes after the new one")
	}

	alarmed(t, b.URL, "store_damaged", true)
	h, err := w.hallView()
	if err != nil || len(h.Streams[0].Damages) != 1 || h.Streams[0].Damages[0].Lost != uint64(lost) || h.Streams[0].Damages[0].Saved != uint64(count-lost) {
		t.Fatalf("/v1/hall says %+v, %v", h.Streams, err)
	}
	eventually(t, 10*time.Second, "all is acknowledged", func() error {
		h, err := w.hallView()
		if err == nil && h.Streams[0].Pending > 0 {
			err = fmt.Errorf("%d pending", h.Streams[0].Pending)
		}
		return errors.Join(err, w.balanced(count+1))
	})
	m, err := get(w.url + "/metrics")
	if err != nil || sampled(m, "hallagent_stream_damaged_files") != 1 || sampled(m, "hallagent_stream_dropped_total") != float64(lost) {
		t.Errorf("metrics: %v\n%s", err, m)
	}
	if err := os.Rename(h.Streams[0].Damages[0].File, filepath.Join(w.dir, "damaged.db")); err != nil {
		t.Fatal(err)
	}
	alarmed(t, b.URL, "store_damaged", false)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, schema := range []string{"batch.json", "visit.json", "gap.json", "alarm.json", "ack.json", "status.json"} {
		if j.seen[schema] == 0 {
			t.Errorf("nothing was held against %s: %v", schema, j.seen)
		}
	}
}

// lostOf counts what gaps tell to be lost of an epoch, and those who came in by
// it: one by each record. What lay in no page that was hit must have come.
func lostOf(t *testing.T, order []wire.Event, epoch string, hit []bool) (records int, in uint64) {
	for _, e := range order {
		var g wire.Gap
		if e.Type != wire.TypeGap || json.Unmarshal(e.Data, &g) != nil || g.Epoch != epoch || g.Reason != outbox.ReasonCorruption {
			continue
		}
		for seq := g.From; seq <= g.To; seq++ {
			if records++; !hit[seq-1] {
				t.Fatalf("record %d is lost and lay in no page that was hit", seq)
			}
		}
	}
	return records, uint64(records)
}

func trues(all []bool) (n int) {
	for _, b := range all {
		if b {
			n++
		}
	}
	return n
}

// TestStoreReplaced takes the store away while the agent is stopped.
func TestStoreReplaced(t *testing.T) {
	t.Parallel()
	b := mosquitto.Start(t, mosquitto.Options{})
	w := newWorld(t, b.URL)
	gate := w.addCounter("D1", true)
	w.configure(", acknowledge: central")
	c := &centre{marks: map[string]uint64{}, sums: map[string][2]uint64{}}
	subscribe(t, b.URL, c.receive)
	arrived := func(epochs int, in uint64) (epoch string) {
		t.Helper()
		eventually(t, 20*time.Second, "the passes arrive", func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.marks) != epochs || c.sums["k-D1"][0] != in {
				return fmt.Errorf("%v, %v", c.marks, c.sums)
			}
			epoch = c.order[len(c.order)-1].Epoch
			return nil
		})
		return epoch
	}
	w.start()
	w.ready()
	eventually(t, 10*time.Second, "the counter is read", w.countersRead)
	gate.Pass(3, 1)
	old := arrived(1, 3)
	w.stop()
	if err := os.Remove(agent.StorePath(w.data(), "visits")); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.ready()
	eventually(t, 10*time.Second, "the counter is read again", w.countersRead)
	gate.Pass(4, 1)
	arrived(2, 7)
	c.mu.Lock()
	first := c.order[slices.IndexFunc(c.order, func(e wire.Event) bool { return e.Epoch != old })]
	c.mu.Unlock()
	var g wire.Gap
	if err := json.Unmarshal(first.Data, &g); err != nil || first.Type != wire.TypeGap || g.Epoch != old || !g.Open || g.Reason != outbox.ReasonRestore {
		t.Errorf("the new epoch begins with %+v", first)
	}
	alarmed(t, b.URL, "store_replaced", true)
	if h, err := w.hallView(); err != nil || !h.Streams[0].Replaced {
		t.Errorf("/v1/hall says %+v, %v", h.Streams, err)
	}
}
