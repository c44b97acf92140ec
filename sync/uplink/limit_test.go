package uplink

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

func TestLimit(t *testing.T) {
	l := limit{bytes: 64 << 10, most: 64 << 10}
	expect := func(what string, got, changed bool, bytes int) {
		t.Helper()
		if got != changed || l.bytes != bytes {
			t.Fatalf("%s: changed %t, %d bytes; want %t, %d", what, got, l.bytes, changed, bytes)
		}
	}
	expect("one lost", l.sessionLost(16<<10), false, 64<<10)
	expect("confirmed at the top", l.messageConfirmed(), false, 64<<10)
	expect("not in a row", l.sessionLost(16<<10), false, 64<<10)
	expect("two in a row", l.sessionLost(16<<10), true, 8<<10)
	l.sessionLost(20 << 10)
	expect("below the limit, whatever was sent", l.sessionLost(20<<10), true, 4<<10)
	l.sessionLost(0)
	expect("single records", l.sessionLost(0), false, 4<<10)
	for _, want := range []int{8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		for range provenMessages - 1 {
			expect("too few", l.messageConfirmed(), false, want/2)
		}
		expect("many confirmed", l.messageConfirmed(), true, want)
	}
	expect("at the top again", l.messageConfirmed(), false, 64<<10)
}

// A broker that hangs up on large messages gets smaller ones.
func TestSmallerMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{})
		value := strings.Repeat("x", 500)
		for range 40 {
			p.add(value)
		}
		most, largest := 1500, 0
		p.broker.answer(func(d delivery) {
			if d.bytes > most {
				p.broker.Reconnect(d.session, "")
				d.done(errors.New("connection lost"))
				return
			}
			largest = max(largest, d.bytes)
			d.done(nil)
		})
		p.broker.connect()
		p.acknowledged(40)
		s := p.up.Status()
		if s.MessageLimit > most || s.MessageLimit < most/4 || largest < 1000 {
			t.Errorf("limit %d after a packet limit of %d; the largest had %d", s.MessageLimit, most, largest)
		}
	})
}

// A cut that comes once, or after confirmations, leaves the messages as they are.
func TestCutsKeepMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{})
		p.broker.connect()
		for i := range 4 {
			p.add("a", "b")
			sent := p.broker.settle()
			if i%2 == 0 {
				for _, d := range sent {
					d.done(nil)
				}
				p.add("c")
			}
			p.broker.settle()
			p.broker.disconnect()
			synctest.Wait()
			p.broker.connect()
			synctest.Wait()
		}
		if s := p.up.Status(); s.MessageLimit != 64<<10 {
			t.Errorf("status %+v", s)
		}
	})
}

// safeLog is a log that may be read while it is written.
type safeLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// mosquitto with a packet limit below a usual message gets a backlog all the same,
// and its hanging up is not taken for another client.
func TestPacketLimit(t *testing.T) {
	for _, central := range []bool{false, true} {
		t.Run(fmt.Sprintf("central %t", central), func(t *testing.T) {
			t.Parallel()
			b := mosquitto.Start(t, mosquitto.Options{Extra: []string{"max_packet_size 4096"}})
			b.Kill()
			var log safeLog
			h := startHall(t, b.URL, central, func(m *mqtt.Options, o *Options) {
				m.Log = slog.New(slog.NewTextHandler(&log, nil))
				o.Log = m.Log
			})
			for range 240 {
				if _, err := h.box.Append(t.Context(), bytes.Repeat([]byte("x"), 500)); err != nil {
					t.Fatal(err)
				}
			}
			b.Restart()
			began := time.Now()
			c := startConsumer(t, b.URL, central)
			c.wait(t, 240)
			if err := h.up.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			s := h.up.Status()
			t.Logf("all there after %v, uplink %+v", time.Since(began).Round(time.Millisecond), s)
			if s.MessageLimit > 4096 || s.MessageLimit < 1024 {
				t.Errorf("limit %d", s.MessageLimit)
			}
			said := log.String()
			if code := h.client.Status().Code; code != "" || strings.Contains(said, "Another client uses") || !strings.Contains(said, "messages made smaller") {
				t.Errorf("code %q, log:\n%s", code, said)
			}
		})
	}
}
