package counter_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/serial"
	"github.com/hallagent/hallagent/device/sim"
)

// simulated is a device that is asked.
type simulated interface {
	sim.Counter
	sim.OnBus
}

// onePair are counters of all kinds that are asked, at doors named by their kind
// and with their totals just below the end of their width; the configuration fits.
func onePair(baud int) (devices []simulated, configs []counter.Config) {
	const timeout = 100 * time.Millisecond
	near16, near24, near32 := uint64(1<<16-5), uint64(1<<24-5), uint64(1<<32-5)
	add := func(kind, name string, d simulated, s counter.Settings) {
		devices = append(devices, d)
		configs = append(configs, counter.Config{ID: name, Kind: kind, Door: name, Settings: s})
	}
	for i, bits := range []int{16, 24, 32} {
		words := (bits + 15) / 16
		in := sim.ModbusRegisters{Function: 3, Address: 8, Words: words, LowFirst: true, Bits: bits, Above: 0x5A}
		out := in
		out.Address, out.Function = 20, 4
		registers := func(r sim.ModbusRegisters) *counter.Registers {
			return &counter.Registers{Function: int(r.Function), Address: int(r.Address), Words: words, Order: "low", Bits: bits}
		}
		add("modbus", fmt.Sprintf("modbus-%d", bits),
			sim.NewModbusCounter(sim.ModbusOptions{Station: byte(10 + i), In: in, Out: out, Start: [2]uint64{1<<bits - 5, 1<<bits - 9}, Baud: baud}),
			&counter.Modbus{Station: 10 + i, Timeout: timeout, Map: counter.RegisterMap{In: registers(in), Out: registers(out)}})
	}
	decimal := sim.ModbusRegisters{Function: 3, Address: 0, Words: 2, Swapped: true, Modulus: 1_000_000}
	add("modbus", "modbus-decimal",
		sim.NewModbusCounter(sim.ModbusOptions{Station: 20, In: decimal, Start: [2]uint64{999_995, 0}, Baud: baud}),
		&counter.Modbus{Station: 20, Timeout: timeout, Modulus: 1_000_000, Map: counter.RegisterMap{In: &counter.Registers{Function: 3, Words: 2, Order: "high", Swap: true}}})
	add("gate-7e7f", "gate",
		sim.NewGate(sim.GateOptions{Machine: 3, Start: [2]uint64{near24, near24 - 7}, Baud: baud}),
		&counter.Gate7F{Station: 3, Timeout: timeout})
	add("hpc", "hpc",
		sim.NewHPC(sim.HPCOptions{ID: 4, Start: [2]uint64{near32, near16}, Baud: baud}),
		&counter.HPC{Station: 4, Timeout: timeout})
	add("line", "line",
		sim.NewTextCounter(sim.TextOptions{Form: sim.TextTotals, Ask: textAsk, Start: [2]uint64{70, 60}, Baud: baud}),
		&counter.Text{Preset: "in-out", End: "crlf", Ask: textAsk, Timeout: timeout})
	return devices, configs
}

func onBus(devices []simulated) (all []sim.OnBus) {
	for _, d := range devices {
		all = append(all, d)
	}
	return all
}

// timed notes when which kind was asked, and when the line was last in use before.
type timed struct {
	device.Conn
	mu    sync.Mutex
	busy  time.Time
	kind  string
	quiet time.Duration // the shortest between two kinds
	turns int
}

func (c *timed) Write(b []byte) (int, error) {
	c.mu.Lock()
	if kind := asks(b); kind != c.kind {
		if d := time.Since(c.busy); c.kind != "" && (d < c.quiet || c.turns == 0) {
			c.quiet = d
		}
		if c.kind != "" {
			c.turns++
		}
		c.kind = kind
	}
	c.mu.Unlock()
	n, err := c.Conn.Write(b)
	c.touch()
	return n, err
}

func (c *timed) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.touch()
	}
	return n, err
}

func (c *timed) touch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = time.Now()
}

// Four protocols share one pair: each counter keeps its books, nothing but
// questions goes out, and the line is quiet for 50 ms between two protocols.
func TestProtocolsShareALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		devices, configs := onePair(9600)
		var s store
		b := newBus(t, serialLine, &s, configs...)
		host, dev := pipe(t)
		line := &timed{Conn: onlyReads{host, t}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- sim.ServeBus(ctx, dev, onBus(devices)...) }()
		go func() { ended <- b.Use(ctx, line, func() {}) }()
		time.Sleep(2 * time.Second) // the first readings are no passes
		for i := range 20 {
			for j, d := range devices {
				d.Pass(uint64(i+j)%3, uint64(i*j)%2)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		cancel()
		<-ended
		<-ended
		checkBooks(t, &s, devices, configs, false)
		for _, st := range b.Status() {
			if st.State != device.Waiting || st.Errors != 0 || st.Resets+st.Rebases != 0 {
				t.Errorf("status %+v", st)
			}
		}
		if line.turns < 60 || line.quiet < 50*time.Millisecond || line.quiet > 60*time.Millisecond {
			t.Errorf("%d changes of protocol, quiet for %v at least", line.turns, line.quiet)
		}
	})
}

// checkBooks compares the passes of each counter with what passed since its start.
func checkBooks(t *testing.T, s *store, devices []simulated, configs []counter.Config, swapped bool) {
	t.Helper()
	fresh, _ := onePair(0)
	for i, d := range devices {
		in0, out0 := fresh[i].Totals()
		in1, out1 := d.Totals()
		wantIn, wantOut := in1-in0, out1-out0
		if configs[i].ID == "modbus-decimal" {
			wantOut = 0 // it has one direction
		}
		if swapped {
			wantIn, wantOut = wantOut, wantIn
		}
		if in, out := s.sum(configs[i].Door); in != wantIn || out != wantOut {
			t.Errorf("%s: %d in and %d out, passed were %d and %d", configs[i].ID, in, out, wantIn, wantOut)
		}
	}
}

func TestProtocolsShareARealTerminal(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("pseudo terminals: linux only")
	}
	pty, err := sim.OpenPTY(filepath.Join(t.TempDir(), "ttyGATES"))
	if err != nil {
		t.Fatal(err)
	}
	devices, configs := onePair(0)
	run(t, func(ctx context.Context) error { return sim.ServeBus(ctx, pty, onBus(devices)...) })
	line, err := device.ParseAddress("serial://" + pty.Name + "?baud=115200")
	if err != nil {
		t.Fatal(err)
	}
	var s store
	dial := serial.Dial(line)
	b := keep(t, func(ctx context.Context) (device.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return drained{onlyReads{c, t}}, nil
	}, line, &s, configs...)
	online := func() bool {
		for _, st := range b.Status() {
			if st.State != device.Online {
				return false
			}
		}
		return true
	}
	eventually(t, "a reading of each", online)
	for _, d := range devices {
		d.Pass(7, 12)
		if c, ok := d.(interface{ SetFaults(sim.CounterFaults) }); ok {
			c.SetFaults(sim.CounterFaults{Noise: 1})
		}
	}
	eventually(t, "the passes", func() bool {
		for _, c := range configs {
			if in, _ := s.sum(c.Door); in != 7 {
				return false
			}
		}
		return true
	})
	checkBooks(t, &s, devices, configs, false)
}

// drained lets a wrapped line be emptied as the line itself.
type drained struct{ onlyReads }

func (d drained) ResetInput() error { return device.Drain(d.Conn) }
