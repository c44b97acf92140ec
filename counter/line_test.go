package counter_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/serial"
	"github.com/hallagent/hallagent/device/sim"
)

// noisy spoils some of what a device sends: bits, tails and whole answers are
// lost, rubbish is added, and an answer comes again.
type noisy struct {
	io.ReadWriteCloser
	n    int
	last []byte
}

func (c *noisy) Write(b []byte) (int, error) {
	size := len(b)
	b = append([]byte(nil), b...)
	switch c.n++; c.n % 37 {
	case 3:
		b[size/2] ^= 0x10
	case 9:
		b = b[:size/2]
	case 15:
		return size, nil
	case 21:
		b = append(b, 0xFF, 0x00, 0x01)
	case 27:
		b = append([]byte{0x00}, b...)
	case 33:
		b = append(b, c.last...)
	}
	c.last = b
	if _, err := c.ReadWriteCloser.Write(b); err != nil {
		return 0, err
	}
	return size, nil
}

// eventually waits until ok holds; what it waits for is driven by other goroutines and real devices.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s did not happen", what)
		}
	}
}

// keep runs a bus behind a link until the test ends.
func keep(t *testing.T, dial device.Dial, line device.Address, s *store, cs ...counter.Config) *counter.Bus {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	b, err := counter.NewBus(line, cs, 20*time.Millisecond, s.mark, s.sink, quiet)
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error { return device.NewLink("line", dial, b.Use, quiet).Run(ctx) })
	return b
}

func run(t *testing.T, f func(context.Context) error) (cancel func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
	return cancel
}

func TestRTUOverARealTerminal(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("pseudo terminals: linux only")
	}
	pty, err := sim.OpenPTY(filepath.Join(t.TempDir(), "ttyGATES"))
	if err != nil {
		t.Fatal(err)
	}
	one, config := gateAt(0, "gate-1", 1, "D1")
	run(t, func(ctx context.Context) error { return sim.ServeModbusRTU(ctx, pty, one) })
	line, err := device.ParseAddress("serial://" + pty.Name + "?baud=115200")
	if err != nil {
		t.Fatal(err)
	}
	var s store
	b := keep(t, serial.Dial(line), line, &s, config)
	want := uint64(0)
	for range 3 {
		eventually(t, "a reading", func() bool { return b.Status()[0].State == device.Online })
		one.Pass(2, 1)
		want += 2
		eventually(t, "the pass", func() bool { in, _ := s.sum("D1"); return in == want })
		if err := pty.Unplug(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the loss of the line", func() bool { st := b.Status()[0]; return st.State == device.Waiting && st.Code == "line" })
		one.Pass(2, 1) // the hall does not wait for the cable
		want += 2
		if err := pty.Plug(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pass behind the pulled cable", func() bool { in, _ := s.sum("D1"); return in == want })
	}
	if in, out := s.sum("D1"); in != 12 || out != 6 {
		t.Errorf("%d in, %d out", in, out)
	}
}

func TestOverTCP(t *testing.T) {
	for framing, serve := range map[string]func(context.Context, net.Listener, *sim.ModbusCounter) error{
		"": func(ctx context.Context, ln net.Listener, c *sim.ModbusCounter) error {
			return sim.ServeModbusTCP(ctx, ln, c)
		},
		"rtu": func(ctx context.Context, ln net.Listener, c *sim.ModbusCounter) error {
			defer context.AfterFunc(ctx, func() { ln.Close() })()
			for {
				conn, err := ln.Accept()
				if err != nil {
					return ctx.Err()
				}
				sim.ServeModbusRTU(ctx, conn, c) // until the peer goes, or ctx ends
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
		},
	} {
		t.Run("framing "+framing, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			one, config := gateAt(0, "gate-1", 1, "D1")
			config.Settings.(*counter.Modbus).Framing = framing
			run(t, func(ctx context.Context) error { return serve(ctx, ln, one) })
			line := device.Address{Scheme: device.SchemeTCP, Host: ln.Addr().String()}
			var s store
			b := keep(t, device.TCP(line), line, &s, config)
			eventually(t, "a reading", func() bool { return b.Status()[0].State == device.Online })
			one.Pass(3, 2)
			eventually(t, "the pass", func() bool { in, out := s.sum("D1"); return in == 3 && out == 2 })
			one.Silence(true)
			eventually(t, "silence", func() bool { return b.Status()[0].State == device.Wedged })
			one.Silence(false)
			one.Pass(1, 0)
			eventually(t, "the pass after silence", func() bool { in, _ := s.sum("D1"); return in == 4 })
		})
	}
}
