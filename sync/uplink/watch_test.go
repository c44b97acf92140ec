package uplink

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A broker that confirms nothing is a stall after a minute, and gets new
// connections ever more seldom, until something is confirmed.
func TestStallBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{})
		p.broker.connect()
		time.Sleep(time.Hour) // nothing to do is no stall
		p.add("a")
		began := time.Now()
		stalledFor := func(after time.Duration, stalled bool, reconnects uint64) {
			t.Helper()
			time.Sleep(time.Until(began.Add(after)))
			synctest.Wait()
			s := p.up.Status()
			if s.Stalled.IsZero() == stalled || s.Reconnects != reconnects {
				t.Fatalf("after %v: %+v", after, s)
			}
			if stalled && (s.Stalled.Before(began.Add(-5*time.Second)) || s.Stalled.After(began.Add(5*time.Second))) {
				t.Errorf("stalled since %v, began %v", s.Stalled, began)
			}
		}
		stalledFor(54*time.Second, false, 0)
		stalledFor(66*time.Second, true, 1)
		stalledFor(174*time.Second, true, 1)
		stalledFor(186*time.Second, true, 2)
		stalledFor(3*time.Hour, true, 4+11) // at 1, 3, 7 and 15 min, then every 15 min
		sent := p.broker.settle()
		sent[len(sent)-1].done(nil)
		p.acknowledged(1)
		if s := p.up.Status(); !s.Stalled.IsZero() {
			t.Errorf("still stalled: %+v", s)
		}
		p.add("b")
		began = time.Now()
		stalledFor(54*time.Second, false, 15) // patience is as at first
		stalledFor(66*time.Second, true, 16)
	})
}

// A stream that moves a little is no stall, nor is one without a connection.
func TestNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{MaxBytes: 50})
		for i := range 100 {
			p.add(fmt.Sprint("a record of a backlog ", i))
		}
		time.Sleep(time.Hour)
		p.broker.connect()
		for range 20 {
			time.Sleep(50 * time.Second)
			synctest.Wait()
			p.broker.mu.Lock()
			first := p.broker.table[0]
			p.broker.table = p.broker.table[1:]
			p.broker.mu.Unlock()
			first.done(nil)
		}
		synctest.Wait()
		if s := p.up.Status(); !s.Stalled.IsZero() || s.Reconnects != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// Short connections do not hide that nothing moves.
func TestStallOverShortConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{})
		p.add("a")
		for range 5 {
			p.broker.connect()
			time.Sleep(16 * time.Second)
			p.broker.disconnect()
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if s := p.up.Status(); s.Stalled.IsZero() {
			t.Errorf("status %+v", s)
		}
	})
}

// A consumer that is away for a day is a stall, and no reason to send it the
// backlog again and again; it gets all when it is back.
func TestStallCentral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{Central: true, MaxBytes: 60})
		p.broker.answer(func(d delivery) { d.done(nil) })
		for i := range 100 {
			p.add(fmt.Sprint("record ", i))
		}
		p.broker.connect()
		synctest.Wait()
		all := p.up.Status().Messages
		time.Sleep(100 * time.Second)
		synctest.Wait()
		if s := p.up.Status(); !s.Stalled.IsZero() || s.Reconnects != 0 {
			t.Errorf("a consumer may be away for a moment: %+v", s)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		s := p.up.Status()
		if s.Stalled.IsZero() || s.Reconnects < 90 || s.Reconnects > 100 {
			t.Errorf("status %+v", s)
		}
		if extra := s.Messages - all; extra > 24*60+10 {
			t.Errorf("%d messages for the backlog, %d more in a day", all, extra)
		}
		last := uint64(0)
		p.broker.answer(func(d delivery) {
			for _, v := range d.payload.Values {
				var seq uint64
				fmt.Sscanf(v, "%d=", &seq)
				if seq == last+1 {
					last = seq
				}
			}
			d.done(nil)
			p.up.Acknowledged(epoch, last, false)
		})
		time.Sleep(2 * time.Minute)
		p.acknowledged(100)
		if s := p.up.Status(); !s.Stalled.IsZero() {
			t.Errorf("status %+v", s)
		}
	})
}
