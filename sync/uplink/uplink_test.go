package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/sync/outbox"
)

const epoch = "000001-9f3a77c2"

func encode(records []outbox.Record, replayed bool) ([]byte, error) {
	p := payload{Replayed: replayed}
	for _, r := range records {
		value := string(r.Value)
		if r.Gap != nil {
			value = fmt.Sprintf("gap %d-%d", r.Gap.From, r.Gap.To)
		}
		p.Values = append(p.Values, fmt.Sprintf("%d=%s", r.Seq, value))
	}
	return json.Marshal(p)
}

// sequences of deliveries, "1,2;3 r" for a message of 1 and 2 and a replayed 3.
func sequences(deliveries []delivery) string {
	var messages []string
	for _, d := range deliveries {
		var seqs []string
		for _, v := range d.payload.Values {
			seq, _, _ := strings.Cut(v, "=")
			seqs = append(seqs, seq)
		}
		message := strings.Join(seqs, ",")
		if d.payload.Replayed {
			message += " r"
		}
		messages = append(messages, message)
	}
	return strings.Join(messages, ";")
}

// parts are an outbox, an uplink and a broker that run in the test's bubble.
type parts struct {
	*testing.T
	box    *outbox.Outbox
	up     *Uplink
	broker *broker
	stop   func()
}

func start(t *testing.T, o Options) *parts {
	return startAt(t, filepath.Join(t.TempDir(), "visits.db"), o)
}

func startAt(t *testing.T, path string, o Options) *parts {
	p := &parts{T: t, broker: newBroker()}
	log := slog.New(slog.DiscardHandler)
	p.box = outbox.New(outbox.Options{Path: path, Stream: "visits", Log: log,
		NewEpoch: func(string) (string, string, error) { return epoch, "", nil }})
	o.Outbox, o.Publisher, o.Topic, o.Log = p.box, p.broker, "hall/visits", log
	if o.Encode == nil {
		o.Encode = encode
	}
	p.up = New(o)
	boxCtx, stopBox := context.WithCancel(context.Background())
	upCtx, stopUp := context.WithCancel(context.Background())
	var boxDone, upDone sync.WaitGroup
	boxDone.Go(func() { p.box.Run(boxCtx) })
	<-p.box.Opened()
	upDone.Go(func() {
		if err := p.up.Run(upCtx); err != nil {
			t.Error(err)
		}
	})
	p.stop = sync.OnceFunc(func() {
		stopUp()
		upDone.Wait()
		stopBox()
		boxDone.Wait()
	})
	t.Cleanup(p.stop)
	return p
}

func (p *parts) add(values ...string) {
	p.Helper()
	for _, v := range values {
		if _, err := p.box.Append(context.Background(), []byte(v)); err != nil {
			p.Fatal(err)
		}
	}
}

func (p *parts) expect(want string) []delivery {
	p.Helper()
	synctest.Wait()
	got := p.broker.taken()
	if sequences(got) != want {
		p.Fatalf("published %q, want %q", sequences(got), want)
	}
	return got
}

func (p *parts) acknowledged(want uint64) {
	p.Helper()
	synctest.Wait()
	if got := p.box.Status().Acknowledged; got != want {
		p.Fatalf("acknowledged up to %d, want %d", got, want)
	}
}

func TestBacklogThenLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{})
		p.add("a", "b", "c")
		p.expect("")
		p.broker.connect()
		backlog := p.expect("1,2,3 r")
		p.add("d")
		live := p.expect("4")
		p.acknowledged(0)
		live[0].done(nil) // out of order: 4 waits for 3
		p.acknowledged(0)
		backlog[0].done(nil)
		p.acknowledged(4)
		if s := p.up.Status(); s.Sent != 4 || s.Messages != 2 || s.Replayed != 3 || s.InFlight != 0 || s.Pending != 0 || s.LastProgress.IsZero() || !s.Session || s.Rate != 4 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestSessionLostInMidWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{})
		p.broker.connect()
		var sent []delivery
		for i := range 5 {
			p.add(fmt.Sprint(i))
			sent = append(sent, p.expect(fmt.Sprint(i+1))...)
		}
		sent[0].done(nil)
		sent[2].done(nil)
		p.acknowledged(1)
		p.broker.disconnect()
		p.add("f")
		p.expect("")
		if s := p.up.Status(); s.Session || s.InFlight != 0 || s.Pending != 5 {
			t.Errorf("status %+v", s)
		}
		p.broker.connect()
		again := p.expect("2,3,4,5,6 r")
		sent[4].done(nil) // late, of the session that is over
		p.acknowledged(1)
		again[0].done(nil)
		p.acknowledged(6)
	})
}

// A publisher that refuses a message but keeps its session is asked again after
// a pause, not in a loop.
func TestRefusedMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{})
		p.broker.refused = errors.New("no")
		p.broker.connect()
		p.add("a")
		time.Sleep(10*time.Second + pause/2)
		synctest.Wait()
		if n := p.up.Status().Messages; n != 11 {
			t.Errorf("%d attempts in 10 s", n)
		}
		p.broker.mu.Lock()
		p.broker.refused = nil
		p.broker.mu.Unlock()
		time.Sleep(pause)
		p.expect("1 r")[0].done(nil)
		p.acknowledged(1)
	})
}

func TestCentral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{Central: true})
		p.broker.connect()
		p.add("a", "b", "c")
		for _, d := range p.broker.settle() {
			d.done(nil)
		}
		p.acknowledged(0) // a PUBACK is not the consumer's word
		p.up.Acknowledged(epoch, 2, false)
		p.acknowledged(2)
		p.up.Acknowledged(epoch, 2, false) // the retained word again: nothing wrong with that
		p.up.Acknowledged(epoch, 1, false)
		p.up.Acknowledged(epoch, 4, false)
		p.up.Acknowledged("000002-00000000", 3, false)
		p.acknowledged(2)
		s := p.up.Status()
		if len(s.Ignored) != 3 || s.Ignored[IgnoredLower] != 1 || s.Ignored[IgnoredBeyond] != 1 || s.Ignored[IgnoredEpoch] != 1 {
			t.Errorf("ignored %v", s.Ignored)
		}
		p.broker.disconnect()
		p.broker.connect()
		p.expect("3 r") // acknowledged + 1
		p.up.Acknowledged(epoch, 3, false)
		p.acknowledged(3)
	})
}

// After a restart the consumer may be ahead of what this run has sent.
func TestCentralAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "visits.db")
		p := startAt(t, path, Options{Central: true})
		p.add("a", "b", "c")
		p.stop()
		p = startAt(t, path, Options{Central: true})
		p.up.Acknowledged(epoch, 2, false)
		p.broker.connect()
		p.expect("3 r")
		p.acknowledged(2)
	})
}

func TestResend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{Central: true})
		p.broker.connect()
		p.add("a", "b", "c", "d")
		for _, d := range p.broker.settle() {
			d.done(nil)
		}
		p.up.Acknowledged(epoch, 1, true)
		for _, d := range p.expect("2,3,4 r") {
			d.done(nil)
		}
		p.acknowledged(1)
		time.Sleep(4 * time.Second)
		p.up.Acknowledged(epoch, 2, true) // too soon, but its mark counts
		p.expect("")
		p.acknowledged(2)
		time.Sleep(2 * time.Second)
		p.up.Acknowledged(epoch, 1, true) // what is acknowledged is gone
		p.expect("")
		p.up.Acknowledged(epoch, 2, true)
		p.expect("3,4 r")
		s := p.up.Status()
		if s.Rewinds != 2 || s.Ignored[IgnoredResend] != 1 || s.Ignored[IgnoredLower] != 1 {
			t.Errorf("status %+v", s)
		}
		p.add("e")
		p.expect("5")
	})
}

func TestAcknowledgementInModeBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{})
		p.broker.connect()
		p.add("a")
		p.up.Acknowledged(epoch, 1, true)
		p.expect("1")
		p.acknowledged(0)
		if s := p.up.Status(); s.Ignored[IgnoredMode] != 1 {
			t.Errorf("status %+v", s)
		}
		for range 400 {
			p.up.Acknowledged(epoch, 1, true)
		}
	})
}

func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{MaxBytes: 1000})
		value := strings.Repeat("v", 900)
		for range 80 {
			p.add(value)
		}
		p.broker.connect()
		first := p.broker.settle()
		if n := len(first); n < 60 || n > maxMessages+2 { // 64 KiB until something is measured
			t.Fatalf("%d messages in flight", n)
		}
		if s := p.up.Status(); s.InFlight != len(first) {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Second) // a slow line: all of it took a second
		for _, d := range first {
			d.done(nil)
		}
		if next := p.broker.settle(); len(next) != 80-len(first) {
			t.Errorf("%d messages more", len(next))
		}
		p.acknowledged(uint64(len(first)))
	})
}

func TestMaxBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// An envelope that nobody expects: ten times the value.
		fat := func(records []outbox.Record, replayed bool) ([]byte, error) {
			b, err := encode(records, replayed)
			return append(b, strings.Repeat(" ", 3000*len(records))...), err
		}
		p := start(t, Options{Encode: fat})
		for i := range 100 {
			p.add(fmt.Sprintf("%0300d", i))
		}
		total := 0
		p.broker.auto = func(d delivery) {
			last := strings.HasPrefix(d.payload.Values[len(d.payload.Values)-1], "100=")
			measured := total > firstBytes // before that, messages are small
			total += d.bytes
			if d.bytes > 64<<10 || measured && d.bytes < 40<<10 && len(d.payload.Values) > 1 && !last {
				t.Errorf("a message of %d bytes, %d records", d.bytes, len(d.payload.Values))
			}
			d.done(nil)
		}
		p.broker.connect()
		p.acknowledged(100)
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{Rate: 20})
		for range 200 {
			p.add("x")
		}
		p.broker.auto = func(d delivery) { d.done(nil) }
		p.broker.connect()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s := p.up.Status(); s.Sent < 95 || s.Sent > 106 || s.Rate < 15 || s.Rate > 25 || s.ETA < 3*time.Second || s.ETA > 8*time.Second {
			t.Errorf("after 5 s at 20 per second: %+v", s)
		}
		time.Sleep(5500 * time.Millisecond)
		p.acknowledged(200)
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{})
		if err := p.up.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		p.add("a", "b")
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.up.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		p.broker.connect()
		sent := p.expect("1,2 r")
		flushed := make(chan error, 1)
		go func() { flushed <- p.up.Flush(t.Context()) }()
		synctest.Wait()
		select {
		case <-flushed:
			t.Fatal("flushed before the confirmation")
		default:
		}
		sent[0].done(nil)
		if err := <-flushed; err != nil {
			t.Error(err)
		}
	})
}

func TestEncodeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{})
		wrong := errors.New("wrong")
		up := New(Options{Outbox: p.box, Publisher: p.broker, Topic: "hall/visits", Log: slog.New(slog.DiscardHandler),
			Encode: func([]outbox.Record, bool) ([]byte, error) { return nil, wrong }})
		p.stop()
		p.box = outbox.New(outbox.Options{Path: filepath.Join(t.TempDir(), "x.db"), Stream: "visits", Log: slog.New(slog.DiscardHandler),
			NewEpoch: func(string) (string, string, error) { return epoch, "", nil }})
		up.opts.Outbox = p.box
		ctx, cancel := context.WithCancel(context.Background())
		var box sync.WaitGroup
		box.Go(func() { p.box.Run(ctx) })
		<-p.box.Opened()
		p.add("a")
		p.broker.connect()
		if err := up.Run(t.Context()); !errors.Is(err, wrong) {
			t.Errorf("Run: %v", err)
		}
		cancel()
		box.Wait()
	})
}
