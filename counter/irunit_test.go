package counter_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
)

var (
	errLost = errors.New("no answer from the disk")
	irLine  = device.Address{Scheme: device.SchemeTCPListen, Host: "127.0.0.1:8085"}
)

func irConfig(id, serial, door string) counter.Config {
	return counter.Config{ID: id, Kind: "ir-tcp", Door: door, Settings: &counter.IR{Serial: serial}}
}

// lives lets a unit live until the test ends.
func lives(t *testing.T, u *sim.IRUnit, dial sim.Dial) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx, dial) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// oneUnit runs a test with a unit in virtual time, for each dialect.
func oneUnit(t *testing.T, sink func(*store) counter.Sink, test func(t *testing.T, u *sim.IRUnit, f *front)) {
	for _, o := range []sim.IROptions{{Dialect: "fa"}, {Dialect: "7e"}, {Dialect: "fa", Keep: true}, {Dialect: "7e", Keep: true}} {
		name := o.Dialect
		if o.Keep {
			name += ", one connection"
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o.Serial = "2410640A0B0C"
				f := newFront(t, irLine, sink, irConfig("ir-1", "2410640a0b0c", "D1"))
				u := sim.NewIRUnit(o)
				lives(t, u, f.dial)
				test(t, u, f)
			})
		})
	}
}

// busy lets people pass for a while, three in and one out a minute.
func busy(u *sim.IRUnit, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(30 * time.Second) {
		time.Sleep(30 * time.Second) // not as a period ends
		u.Pass(3, 1)
	}
}

func TestIRUnit(t *testing.T) {
	oneUnit(t, nil, func(t *testing.T, u *sim.IRUnit, f *front) {
		time.Sleep(time.Second)
		if st := f.status(); st.State != device.Online || u.Asked() != 1 || f.times() != 1 {
			t.Errorf("the first message: %+v, %d answered", st, u.Asked())
		}
		busy(u, 2*time.Hour)
		time.Sleep(10 * time.Minute)
		f.wants(t, 360, 120)
		if st := f.status(); st.State != device.Online || st.Code != "" || st.In != 360 || st.Out != 120 || st.Errors+st.Gaps+st.Duplicates+st.Rebases != 0 {
			t.Errorf("status %+v", st)
		}
		f.store.mu.Lock()
		defer f.store.mu.Unlock()
		for i, p := range f.store.passes {
			if took := p.To.Sub(p.From); p.Uncertain || took < 4*time.Minute || took > 6*time.Minute || p.To.After(time.Now()) || i > 0 && p.To.Before(f.store.passes[i-1].To) {
				t.Errorf("pass %d: %+v", i, p)
			}
		}
	})
}

// TestIRUnitWithoutClock is one that comes up each time with its factory's clock.
func TestIRUnitWithoutClock(t *testing.T) {
	oneUnit(t, nil, func(t *testing.T, u *sim.IRUnit, f *front) {
		u.Fail(func(x *sim.IRFaults) { x.NoClock = true })
		for range 5 {
			busy(u, 30*time.Minute)
			time.Sleep(6 * time.Minute)
			u.Reset() // from here its clock shows once more what it has shown
		}
		f.wants(t, 450, 150)
		if st := f.status(); st.Duplicates != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestIRUnitSendsAgain loses answers: the unit sends the same once more, and it
// counts once.
func TestIRUnitSendsAgain(t *testing.T) {
	for _, noClock := range []bool{false, true} {
		oneUnit(t, nil, func(t *testing.T, u *sim.IRUnit, f *front) {
			u.Fail(func(x *sim.IRFaults) { x.Resend, x.NoClock = true, noClock })
			time.Sleep(time.Minute)
			for range 12 {
				u.Pass(5, 2)
				u.Fail(func(x *sim.IRFaults) { x.DeafTo = 2 })
				time.Sleep(5 * time.Minute)
			}
			time.Sleep(10 * time.Minute)
			f.wants(t, 60, 24)
			if st := f.status(); st.Duplicates == 0 || st.Rebases != 0 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// TestIRUnitWithAFullDisk acknowledges nothing that is not stored, and what it
// acknowledges then counts once.
func TestIRUnitWithAFullDisk(t *testing.T) {
	for _, faults := range []sim.IRFaults{{}, {Resend: true}, {Resend: true, NoClock: true}} {
		oneUnit(t, nil, func(t *testing.T, u *sim.IRUnit, f *front) {
			u.Fail(func(x *sim.IRFaults) { *x = faults })
			busy(u, 20*time.Minute)
			answered := u.Asked()
			f.store.fill(errLost)
			busy(u, time.Hour)
			if st := f.status(); st.Code != "unstored" || st.State != device.Online {
				t.Errorf("status %+v", st)
			}
			if n := u.Asked() - answered; n > 130 { // heartbeats alone
				t.Errorf("%d messages were answered well", n)
			}
			f.store.fill(nil)
			busy(u, 20*time.Minute)
			time.Sleep(10 * time.Minute)
			f.wants(t, 300, 100)
			if st := f.status(); st.Code != "" || st.Rebases != 0 {
				t.Errorf("status at the end %+v", st)
			}
		})
	}
}

func TestIRUnitWithASinkThatLies(t *testing.T) {
	oneUnit(t, liar, func(t *testing.T, u *sim.IRUnit, f *front) {
		u.Fail(func(x *sim.IRFaults) { x.Resend = true })
		busy(u, 2*time.Hour)
		time.Sleep(15 * time.Minute)
		f.wants(t, 360, 120)
	})
}

// TestIRUnitOverNight has the disk full for so long that more has been sent than
// may wait: what is sent again waits once, and nothing is missing.
func TestIRUnitOverNight(t *testing.T) {
	oneUnit(t, nil, func(t *testing.T, u *sim.IRUnit, f *front) {
		u.Fail(func(x *sim.IRFaults) { x.Resend = true })
		busy(u, 20*time.Minute)
		f.store.fill(errLost)
		busy(u, 14*time.Hour)
		f.store.fill(nil)
		busy(u, 20*time.Minute)
		time.Sleep(10 * time.Minute)
		f.wants(t, 2640, 880)
		if st := f.status(); st.Gaps > 1 || st.Duplicates != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestIRUnitLosesUploads tells that something is missing; what is missing stays so.
func TestIRUnitLosesUploads(t *testing.T) {
	oneUnit(t, nil, func(t *testing.T, u *sim.IRUnit, f *front) {
		busy(u, 30*time.Minute)
		u.Fail(func(x *sim.IRFaults) { x.Lose = 2 })
		busy(u, 30*time.Minute)
		time.Sleep(6 * time.Minute)
		f.wants(t, 150, 50)
		if n := f.noted(counter.Gap); n != 1 {
			t.Errorf("%d gaps", n)
		}
	})
}

// TestIRUnitMiscounts is what nobody can see: the agent takes what it is told.
func TestIRUnitMiscounts(t *testing.T) {
	oneUnit(t, nil, func(t *testing.T, u *sim.IRUnit, f *front) {
		u.Fail(func(x *sim.IRFaults) { x.TwiceIn, x.WrongIn = 10, 8 })
		busy(u, time.Hour)
		time.Sleep(6 * time.Minute)
		in, out := f.store.sum("D1")
		if in+out != 264 || in == 180 {
			t.Errorf("%d in, %d out", in, out)
		}
	})
}

func TestIRUnitBattery(t *testing.T) {
	oneUnit(t, nil, func(t *testing.T, u *sim.IRUnit, f *front) {
		u.Fail(func(x *sim.IRFaults) { x.Offline = true })
		busy(u, 11*time.Minute)
		if st := f.status(); st.Code != "" {
			t.Errorf("a transmitter that says it is offline: %+v", st)
		}
		u.Fail(func(x *sim.IRFaults) { x.Battery = 19 })
		busy(u, 11*time.Minute)
		if st := f.status(); st.State != device.Online || st.Code != "battery" || st.Hint == "" {
			t.Errorf("with a low battery: %+v", st)
		}
		u.Fail(func(x *sim.IRFaults) { x.Battery = 0 })
		busy(u, 11*time.Minute)
		if st := f.status(); st.State != device.Online || st.Code != "" || st.Hint != "" {
			t.Errorf("with a new battery: %+v", st)
		}
	})
}

func TestIRUnitFallsSilent(t *testing.T) {
	oneUnit(t, nil, func(t *testing.T, u *sim.IRUnit, f *front) {
		busy(u, 20*time.Minute)
		u.Silence(true)
		time.Sleep(10 * time.Minute)
		if st := f.status(); st.State != device.Online {
			t.Errorf("after 10 min: %+v", st)
		}
		time.Sleep(10 * time.Minute)
		if st := f.status(); st.State != device.Wedged || st.Code != "silent" || st.Hint == "" {
			t.Errorf("after 20 min: %+v", st)
		}
		u.Silence(false)
		busy(u, 10*time.Minute)
		if st := f.status(); st.State != device.Online || st.Code != "" {
			t.Errorf("back: %+v", st)
		}
	})
}

// TestIRUnitThatIsNotKnown is told so, and named to the operator.
func TestIRUnitThatIsNotKnown(t *testing.T) {
	oneUnit(t, nil, func(t *testing.T, u *sim.IRUnit, f *front) {
		stranger := sim.NewIRUnit(sim.IROptions{Dialect: "fa", Serial: "FFFF"})
		lives(t, stranger, f.dial)
		other := sim.NewIRUnit(sim.IROptions{Dialect: "7e", Serial: "EEEE"})
		lives(t, other, f.dial)
		stranger.Pass(7, 7)
		busy(u, time.Hour)
		time.Sleep(6 * time.Minute)
		f.wants(t, 180, 60)
		if stranger.Asked()+other.Asked() != 0 {
			t.Error("a stranger was answered well")
		}
		if s := f.owner.Strangers(); !slices.Equal(s, []string{"EEEE", "FFFF"}) {
			t.Errorf("strangers %q", s)
		}
	})
}

// TestIRUnitSlow takes a message that comes byte by byte, and none that takes
// longer than ten seconds.
func TestIRUnitSlow(t *testing.T) {
	oneUnit(t, nil, func(t *testing.T, u *sim.IRUnit, f *front) {
		u.Fail(func(x *sim.IRFaults) { x.Slow = 10 * time.Millisecond })
		busy(u, 30*time.Minute)
		time.Sleep(6 * time.Minute)
		f.wants(t, 90, 30)
		u.Fail(func(x *sim.IRFaults) { x.Slow = time.Second })
		busy(u, 30*time.Minute)
		f.wants(t, 90, 30)
	})
}

// TestIRConnectionsEnd closes those who say nothing, stop in the middle or speak
// another language.
func TestIRConnectionsEnd(t *testing.T) {
	for name, test := range map[string]struct {
		send string
		most time.Duration
	}{
		"nothing":          {"", 31 * time.Second},
		"half a head":      {"\xFA\xF5", 11 * time.Second},
		"half an XML":      {"\xFA\xF5\xF6\x00\x01\x21\x01\x0B<UP", 11 * time.Second},
		"half a 7E":        {"\x7E\xFF\xFF", 11 * time.Second},
		"another language": {"GET / HTTP/1.1\r\n\r\n", time.Second},
		"rubbish":          {"\xFA\x00\x00\x00\x00\x00\x00\x00", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFront(t, irLine, nil, irConfig("ir-1", "A", "D1"))
				if st := f.status(); st.State != device.Waiting || st.Code != "" {
					t.Errorf("before anybody comes: %+v", st)
				}
				c, _ := f.dial(t.Context())
				defer c.Close()
				go io.WriteString(c, test.send) // who closes does not read it all
				start := time.Now()
				if n, err := c.Read(make([]byte, 1)); err == nil {
					t.Errorf("%d bytes of an answer", n)
				}
				if took := time.Since(start); took > test.most {
					t.Errorf("closed after %v", took)
				}
				if f.times() != 0 {
					t.Error("something valid was heard")
				}
			})
		})
	}
}

// TestIRDialectsOnOnePort is two units of either dialect over TCP.
func TestIRDialectsOnOnePort(t *testing.T) {
	f := newFront(t, irLine, nil, irConfig("ir-1", "AAAA", "D1"), irConfig("ir-2", "BBBB", "D2"))
	_, dial := f.listen(t)
	a := sim.NewIRUnit(sim.IROptions{Dialect: "fa", Serial: "AAAA", Period: 50 * time.Millisecond})
	b := sim.NewIRUnit(sim.IROptions{Dialect: "7e", Serial: "BBBB", Period: 50 * time.Millisecond})
	// The stamps of such short periods are the same for a second: without a clock,
	// and with other figures, they are told apart.
	a.Fail(func(x *sim.IRFaults) { x.NoClock = true })
	b.Fail(func(x *sim.IRFaults) { x.NoClock = true })
	lives(t, a, dial)
	lives(t, b, dial)
	eventually(t, "the first messages", func() bool { return a.Asked() > 0 && b.Asked() > 0 })
	a.Pass(3, 1)
	b.Pass(2, 5)
	eventually(t, "the passes of one", func() bool { in, out := f.store.sum("D1"); return in == 3 && out == 1 })
	eventually(t, "the passes of the other", func() bool { in, out := f.store.sum("D2"); return in == 2 && out == 5 })
	for _, st := range f.owner.Status() {
		if st.State != device.Online || st.Code != "" {
			t.Errorf("status %+v", st)
		}
	}
}
