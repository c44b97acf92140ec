package counter_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
)

// store is a sink that keeps what a store would.
type store struct {
	mu     sync.Mutex
	full   error
	passes []counter.Pass
	notes  []counter.Note
	marks  map[string][]byte
}

func (s *store) sink(_ context.Context, u counter.Update) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full != nil {
		return s.full
	}
	if u.Pass.In+u.Pass.Out > 0 {
		s.passes = append(s.passes, u.Pass)
	}
	if u.Note != "" {
		s.notes = append(s.notes, u.Note)
	}
	if s.marks == nil {
		s.marks = map[string][]byte{}
	}
	s.marks[u.Pass.Device] = u.Mark
	return nil
}

func (s *store) mark(device string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marks[device], s.full
}

func (s *store) fill(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = err
}

// sum of the passes of a door.
func (s *store) sum(door string) (in, out uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.passes {
		if p.Door == door {
			in, out = in+p.In, out+p.Out
		}
	}
	return in, out
}

var serialLine = device.Address{Scheme: device.SchemeSerial, Path: "/dev/ttyS0", Baud: 9600}

// gate is a simulated counter and the configuration that fits it.
func gate(id string, station byte, door string) (*sim.ModbusCounter, counter.Config) {
	return gateAt(9600, id, station, door)
}

// gateAt is a gate whose bytes come at another rate; at 0 each answer is one write.
func gateAt(baud int, id string, station byte, door string) (*sim.ModbusCounter, counter.Config) {
	c := sim.NewModbusCounter(sim.ModbusOptions{
		Station: station, Baud: baud, Start: [2]uint64{70000, 65000},
		In: sim.ModbusRegisters{Function: 3, Address: 0, Words: 2}, Out: sim.ModbusRegisters{Function: 3, Address: 2, Words: 2},
	})
	return c, counter.Config{ID: id, Kind: "modbus", Door: door, Settings: &counter.Modbus{
		Station: int(station), Timeout: 100 * time.Millisecond,
		Map: counter.RegisterMap{
			In:  &counter.Registers{Function: 3, Address: 0, Words: 2, Order: "high"},
			Out: &counter.Registers{Function: 3, Address: 2, Words: 2, Order: "high"},
		},
	}}
}

func newBus(t *testing.T, line device.Address, s *store, cs ...counter.Config) *counter.Bus {
	t.Helper()
	b, err := counter.NewBus(line, cs, 0, s.mark, s.sink, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// use runs the bus on a pipe with these counters at its other end until stop.
func use(t *testing.T, b *counter.Bus, devices ...sim.OnBus) (stop func() error, heard *int) {
	host, dev := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended, served := make(chan error, 1), make(chan error, 1)
	heard = new(int)
	go func() { served <- sim.ServeBus(ctx, dev, devices...) }()
	go func() {
		ended <- b.Use(ctx, onlyReads{host, t}, func() { *heard++ })
		host.Close()
	}()
	return func() error {
		synctest.Wait()
		select {
		case err := <-ended:
			cancel()
			<-served
			return err
		default:
		}
		cancel()
		<-served
		return <-ended
	}, heard
}

// onlyReads fails the test when anything but a request to read is sent.
type onlyReads struct {
	device.Conn
	t *testing.T
}

func (c onlyReads) Write(b []byte) (int, error) {
	if asks(b) == "" {
		c.t.Errorf("sent % X", b)
	}
	return c.Conn.Write(b)
}

const textAsk = "R\r" // of the tests

// asks gives the kind whose one request to read b is, "" if it is none.
func asks(b []byte) string {
	switch {
	case string(b) == textAsk:
		return "line"
	case len(b) == 8 && b[0] == 0x7E && b[1] == 0 && bytes.Equal(b[3:7], []byte{0x10, 0, 0, 0}):
		return "gate-7e7f"
	case len(b) == 8 && (b[1] == 3 || b[1] == 4):
		return "modbus"
	case len(b) == 12 && b[0] == 2 && string(b[5:9]) == "1300" && b[11] == 3:
		return "hpc"
	}
	return ""
}

func TestBusReadsAllCountersOfALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, c1 := gate("gate-1", 1, "D1")
		two, c2 := gate("gate-2", 2, "D2")
		c2.Swap = true
		var s store
		b := newBus(t, serialLine, &s, c1, c2)
		stop, heard := use(t, b, one, two)
		for range 60 {
			one.Pass(1, 0)
			two.Pass(2, 1)
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		if in, out := s.sum("D1"); in < 59 || in > 60 || out != 0 {
			t.Errorf("door 1: %d in, %d out", in, out)
		}
		if in, out := s.sum("D2"); in < 59 || in > 60 || out < 118 || out > 120 {
			t.Errorf("door 2, swapped: %d in, %d out", in, out)
		}
		if n := one.Asked(); n < 60 || n > 64 {
			t.Errorf("asked %d times in 62 s", n)
		}
		if *heard != int(one.Asked()+two.Asked()) {
			t.Errorf("heard %d times", *heard)
		}
		st := b.Status()
		if st[1].In != 65060 || st[1].Out != 70120 || st[1].Door != "D2" || st[1].Errors != 0 {
			t.Errorf("status %+v", st[1])
		}
	})
}

// A crash at any moment and a restart neither lose nor double a pass: what the
// store has is all the bus goes by.
func TestBusRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate1, config := gate("gate-1", 1, "D1")
		var s store
		for i := range 20 {
			stop, _ := use(t, newBus(t, serialLine, &s, config), gate1)
			time.Sleep(3 * time.Second)
			gate1.Pass(3, 1)
			time.Sleep(time.Duration(i) * 150 * time.Millisecond)
			if err := stop(); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			gate1.Pass(1, 1)
			time.Sleep(time.Duration(i) * time.Second)
		}
		stop, _ := use(t, newBus(t, serialLine, &s, config), gate1)
		time.Sleep(3 * time.Second)
		stop()
		if in, out := s.sum("D1"); in != 80 || out != 40 {
			t.Errorf("%d in, %d out; 80 and 40 passed", in, out)
		}
	})
}

func TestBusWithAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate1, config := gate("gate-1", 1, "D1")
		full := errors.New("no space")
		var s store
		stop, _ := use(t, newBus(t, serialLine, &s, config), gate1)
		time.Sleep(3 * time.Second)
		stop()

		s.fill(full) // from before the start: not even the mark can be read
		b := newBus(t, serialLine, &s, config)
		stop, _ = use(t, b, gate1)
		defer stop()
		gate1.Pass(5, 2)
		time.Sleep(10 * time.Second)
		if st := b.Status()[0]; st.State != device.Online || st.Code != "mark" || !st.LastReading.IsZero() {
			t.Errorf("without its mark: %+v", st)
		}
		s.fill(nil)
		time.Sleep(2 * time.Second)
		if in, out := s.sum("D1"); in != 5 || out != 2 {
			t.Errorf("after the first outage %d in, %d out", in, out)
		}
		s.fill(full)
		read := b.Status()[0].LastReading
		gate1.Pass(4, 4)
		time.Sleep(10 * time.Second)
		gate1.Pass(0, 1)
		if st := b.Status()[0]; st.Code != "unstored" || st.Err != full.Error() || st.LastReading.Sub(read) > 2*time.Second {
			t.Errorf("with a full disk: %+v", st)
		}
		s.fill(nil)
		time.Sleep(3 * time.Second)
		if in, out := s.sum("D1"); in != 9 || out != 7 {
			t.Errorf("after the second outage %d in, %d out", in, out)
		}
		if st := b.Status()[0]; st.Code != "" || st.Err != "" || st.Resets+st.Rebases != 0 {
			t.Errorf("at the end: %+v", st)
		}
	})
}

func TestBusOneSilentCounterDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, c1 := gate("gate-1", 1, "D1")
		two, c2 := gate("gate-2", 2, "D2")
		var s store
		b := newBus(t, serialLine, &s, c1, c2)
		stop, _ := use(t, b, one, two)
		time.Sleep(5 * time.Second)
		two.Silence(true)
		time.Sleep(10 * time.Second)
		if st := b.Status(); st[0].State != device.Online || st[1].State != device.Wedged || st[1].Code != "silent" || st[1].Hint == "" {
			t.Fatalf("states %+v", st)
		}
		before := one.Asked()
		one.Pass(7, 0)
		two.Pass(0, 9)
		time.Sleep(60 * time.Second)
		if n := one.Asked() - before; n < 58 {
			t.Errorf("the other was asked %d times in a minute", n)
		}
		two.Silence(false)
		time.Sleep(10 * time.Second)
		if st := b.Status()[1]; st.State != device.Online || st.Code != "" {
			t.Errorf("back again: %+v", st)
		}
		if in, _ := s.sum("D1"); in != 7 {
			t.Errorf("%d in at door 1", in)
		}
		if _, out := s.sum("D2"); out != 9 {
			t.Errorf("%d out at door 2", out)
		}
		one.Silence(true)
		two.Silence(true)
		time.Sleep(20 * time.Second)
		if err := stop(); !errors.Is(err, device.ErrSilent) {
			t.Errorf("with all silent Use ended with %v", err)
		}
		if st := b.Status()[0]; st.State != device.Wedged || st.Code != "silent" {
			t.Errorf("state after the end: %+v", st)
		}
	})
}

func TestBusWithAWrongMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, c1 := gate("gate-1", 1, "D1")
		c1.Settings.(*counter.Modbus).Map.Out.Address = 4
		var s store
		b := newBus(t, serialLine, &s, c1)
		stop, heard := use(t, b, one)
		time.Sleep(time.Minute)
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("a device that refuses is not silent, but Use ended with %v", err)
		}
		if st := b.Status()[0]; st.Code != "exception" || st.Hint == "" || *heard == 0 || len(s.marks) != 0 {
			t.Errorf("status %+v, heard %d", st, *heard)
		}
	})
}

func TestBusWithANoisyLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, config := gateAt(0, "gate-1", 1, "D1")
		var s store
		b := newBus(t, serialLine, &s, config)
		host, dev := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		served, ended := make(chan error, 1), make(chan error, 1)
		go func() { served <- sim.ServeModbusRTU(ctx, &noisy{ReadWriteCloser: dev}, one) }()
		go func() { ended <- b.Use(ctx, host, func() {}) }()
		for range 200 {
			one.Pass(1, 2)
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Second)
		cancel()
		<-served
		<-ended
		if in, out := s.sum("D1"); in < 199 || in > 200 || out < 398 || out > 400 {
			t.Errorf("%d in, %d out", in, out)
		}
		if st := b.Status()[0]; st.Resets+st.Rollovers+st.Rebases != 0 || one.Asked() < 220 {
			t.Errorf("asked %d times, status %+v", one.Asked(), st)
		}
	})
}

func TestNewBusRefuses(t *testing.T) {
	_, good := gate("gate-1", 1, "D1")
	for name, change := range map[string]func(*counter.Config){
		"unknown kind":     func(c *counter.Config) { c.Kind = "modbuss" },
		"no settings":      func(c *counter.Config) { c.Settings = nil },
		"a wrong register": func(c *counter.Config) { c.Settings = &counter.Modbus{Station: 1} },
	} {
		c := good
		change(&c)
		if _, err := counter.NewBus(serialLine, []counter.Config{c}, 0, nil, nil, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := counter.NewBus(serialLine, []counter.Config{good, good}, 0, nil, nil, nil); err == nil {
		t.Error("the same counter twice: no error")
	}
}

// pipe is a line of no length.
func pipe(t *testing.T) (host, dev net.Conn) {
	host, dev = net.Pipe()
	t.Cleanup(func() { host.Close(); dev.Close() })
	return host, dev
}

var discard = slog.New(slog.DiscardHandler)
