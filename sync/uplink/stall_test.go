package uplink

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestReminder follows a broker that confirms and loses: what the consumer never
// saw comes again by itself, first one message, then the rest.
func TestReminder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{Central: true})
		p.broker.connect()
		confirm := func(want string) {
			t.Helper()
			for _, d := range p.expect(want) {
				d.done(nil)
			}
		}
		p.add("a")
		confirm("1")
		p.add("b")
		confirm("2")
		p.add("c")
		confirm("3")
		time.Sleep(stallAfter - time.Second)
		confirm("")
		time.Sleep(time.Second)
		confirm("1,2,3 r")
		p.up.Acknowledged(epoch, 2, false) // it got some of that, from elsewhere
		confirm("")
		time.Sleep(stallAfter)
		confirm("3 r")
		p.up.Acknowledged(epoch, 3, false)
		p.acknowledged(3)
		time.Sleep(time.Hour)
		confirm("") // nothing is owed
		p.add("d")
		confirm("4") // an hour of silence before it is no fault of the consumer
		if s := p.up.Status(); s.Reminders != 2 {
			t.Errorf("%d reminders", s.Reminders)
		}
	})
}

// TestReminderOfABacklog reminds a consumer that is away for a day, of a backlog
// of many messages: with one message, ever more seldom, and sends everything
// once it is back.
func TestReminderOfABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, Options{Central: true, MaxBytes: 60})
		var messages atomic.Int64
		p.broker.answer(func(d delivery) { messages.Add(1); d.done(nil) })
		for i := range 40 {
			p.add(fmt.Sprint("record ", i))
		}
		p.broker.connect()
		synctest.Wait()
		all := messages.Load()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if extra := messages.Load() - all; extra < 24*59 || extra > 24*61+10 {
			t.Errorf("%d messages for the backlog, %d reminders in a day", all, extra)
		}
		last := uint64(0)
		p.broker.answer(func(d delivery) { // the consumer is back and takes what follows its mark
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
		p.acknowledged(40)
	})
}

// TestLossyBroker loses a third of what it confirms; everything arrives.
func TestLossyBroker(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			random, pause := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			p := start(t, Options{Central: true, MaxBytes: 80})
			last := uint64(0)
			p.broker.answer(func(d delivery) {
				d.done(nil)
				if random.IntN(3) == 0 {
					return
				}
				for _, v := range d.payload.Values {
					var seq uint64
					if _, err := fmt.Sscanf(v, "%d=", &seq); err != nil {
						t.Error(err)
					}
					if seq == last+1 {
						last = seq
					}
				}
				if random.IntN(3) > 0 {
					p.up.Acknowledged(epoch, last, false)
				}
			})
			p.broker.connect()
			for i := range 60 {
				p.add(fmt.Sprint("record ", i))
				time.Sleep(time.Duration(pause.IntN(2000)) * time.Millisecond)
			}
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			if s := p.box.Status(); s.Acknowledged != 60 || s.Pending != 0 {
				text, _ := json.Marshal(p.up.Status())
				t.Errorf("seed %d: acknowledged %d, the consumer has %d: %s", seed, s.Acknowledged, last, text)
			}
		})
	}
}
