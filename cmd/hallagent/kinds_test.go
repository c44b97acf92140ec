package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/wire"
)

// passer is a simulated counter of any kind.
type passer interface {
	Pass(in, out uint64)
	Totals() (in, out uint64)
}

// addLine adds a line, and addKind a counter at a door of its own.
func (w *world) addLine(id, url string) {
	w.lines = append(w.lines, fmt.Sprintf("{id: %s, url: %q, poll: %v}", id, url, w.poll))
}

func (w *world) addKind(id, kind, line, keys string) {
	w.doors = append(w.doors, fmt.Sprintf("{id: D-%s}", id))
	w.counter = append(w.counter, fmt.Sprintf("{id: %s, kind: %s, line: %s, door: D-%s, %s}", id, kind, line, id, keys))
}

// listener gives one on a free port for a device that is gone to.
func (w *world) listener() net.Listener {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func dialer(address string) sim.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
}

// addEveryKind puts a simulated counter of each kind into the hall, totals close
// to where their registers roll over, and gives them by id.
func (w *world) addEveryKind() map[string]passer {
	w.t.Helper()
	all := map[string]passer{}
	start := func(bits int) [2]uint64 { return [2]uint64{1<<bits - 3, 1<<bits - 5} }

	// One pair with three protocols.
	pty := w.pty("mixed")
	m16 := sim.NewModbusCounter(sim.ModbusOptions{Station: 1, Baud: 9600, Start: start(16),
		In: sim.ModbusRegisters{Function: 4, Address: 0, Words: 1}, Out: sim.ModbusRegisters{Function: 4, Address: 1, Words: 1}})
	gate := sim.NewGate(sim.GateOptions{Machine: 2, Baud: 9600, Start: start(24)})
	hpc := sim.NewHPC(sim.HPCOptions{ID: 3, Baud: 9600, Start: start(32)})
	level := sim.NewModbusCounter(sim.ModbusOptions{Station: 4, Baud: 9600, Start: [2]uint64{12, 0}, Level: sim.ModbusRegisters{Function: 3, Address: 8, Words: 1}})
	owned(w.t, func(ctx context.Context) { sim.ServeBus(ctx, pty, m16, gate, hpc, level) })
	w.counter = append(w.counter, "{id: zone, kind: modbus, line: mixed, station: 4, value: level, map: {level: {function: 3, address: 8, words: 1}}}")
	w.addLine("mixed", "serial://"+pty.Name+"?baud=9600")
	w.addKind("m16", "modbus", "mixed", "station: 1, map: {in: {function: 4, address: 0, words: 1}, out: {function: 4, address: 1, words: 1}}")
	w.addKind("gate", "gate-7e7f", "mixed", "station: 2")
	w.addKind("hpc", "hpc", "mixed", "station: 3")
	all["m16"], all["gate"], all["hpc"] = m16, gate, hpc

	text := sim.NewTextCounter(sim.TextOptions{Form: sim.TextTotals})
	l := w.listener()
	owned(w.t, func(ctx context.Context) {
		sim.ServeTCP(ctx, l, func(ctx context.Context, rw io.ReadWriteCloser) error { return text.Serve(ctx, rw) })
	})
	w.addLine("text", "tcp://"+l.Addr().String())
	w.addKind("text", "line", "text", "preset: in-out")
	all["text"] = text

	ir := freeAddress(w.t)
	w.addLine("wifi", "tcp-listen://"+ir)
	for dialect, serial := range map[string]string{"fa": "2410640A0B0C", "7e": "20190101A001"} {
		unit := sim.NewIRUnit(sim.IROptions{Dialect: dialect, Serial: serial, Period: time.Second})
		unit.Fail(func(f *sim.IRFaults) { f.Resend = true })
		owned(w.t, func(ctx context.Context) { unit.Run(ctx, dialer(ir)) })
		w.addKind("ir-"+dialect, "ir-tcp", "wifi", fmt.Sprintf("serial: %q", serial))
		all["ir-"+dialect] = unit
	}

	const secret = "k3Jd93mfEw20xPq7"
	file := filepath.Join(w.dir, "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	push := freeAddress(w.t)
	w.addLine("push", "http-listen://"+push)
	w.addKind("hik", "camera", "push", fmt.Sprintf("secret_file: %q", file))
	hik := sim.NewHikvision(sim.HikvisionOptions{URL: "http://" + push + "/" + secret, Picture: []byte("no picture of anybody")})
	owned(w.t, func(ctx context.Context) { hik.Run(ctx, dialer(push)) })
	all["hik"] = hik

	password := filepath.Join(w.dir, "password")
	if err := os.WriteFile(password, []byte("of-the-camera"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	shop := w.listener()
	dahua := sim.NewDahua(sim.DahuaOptions{User: "admin", Password: "of-the-camera"})
	owned(w.t, func(ctx context.Context) { dahua.Serve(ctx, shop) })
	w.addLine("dahua", "http://"+shop.Addr().String())
	w.addKind("dahua", "camera", "dahua", fmt.Sprintf("poll: 1s, username: admin, password_file: %q", password))
	all["dahua"] = dahua
	return all
}

// TestEveryKind lets people pass counters of every kind while the agent, the built
// program, is killed between: what arrives at the broker is what they counted.
func TestEveryKind(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("pseudo terminals: linux only")
	}
	b := mosquitto.Start(t, mosquitto.Options{})
	w := newWorld(t, b.URL)
	w.poll = 200 * time.Millisecond
	all := w.addEveryKind()
	w.configure(", acknowledge: central")
	c := &centre{marks: map[string]uint64{}, sums: map[string][2]uint64{}}
	subscribe(t, b.URL, c.receive)
	w.start()
	w.ready()
	known := func() error {
		h, err := w.hallView()
		if err != nil {
			return err
		}
		for _, k := range h.Counters {
			// What only speaks when somebody passes has nothing to say yet.
			if k.State != wire.DeviceOnline || k.Last == nil && k.ID != "text" {
				return fmt.Errorf("%s is %s %s, last reading %v", k.ID, k.State, k.Code, k.Last)
			}
		}
		return nil
	}
	eventually(t, 20*time.Second, "all counters are known", known)
	all["text"].Pass(1, 0) // its first word is the base of its totals
	eventually(t, 20*time.Second, "the text counter is read", w.countersRead)
	base := map[string][2]uint64{}
	for id, k := range all {
		in, out := k.Totals()
		base[id] = [2]uint64{in, out}
	}
	arrived := func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for id, k := range all {
			in, out := k.Totals()
			if want := [2]uint64{in - base[id][0], out - base[id][1]}; c.sums[id] != want {
				return fmt.Errorf("%s: %v arrived of %v", id, c.sums[id], want)
			}
		}
		return nil
	}
	for round := range 3 {
		for range 4 {
			for _, k := range all {
				k.Pass(2, 1)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if round > 0 {
			w.kill()
			for id, k := range all {
				if id != "text" { // what it says to nobody it says again only with the next pass
					k.Pass(1, 1)
				}
			}
			w.start()
			w.ready()
		}
		eventually(t, 10*time.Second, "the display is heard", func() error {
			h, err := w.hallView()
			for _, c := range h.Counters {
				if c.ID == "text" && c.State != wire.DeviceOnline {
					err = fmt.Errorf("it is %s", c.State)
				}
			}
			return err
		})
		all["text"].Pass(1, 1)
		eventually(t, 30*time.Second, fmt.Sprintf("round %d has arrived", round), arrived)
	}
	h, err := w.hallView()
	if err != nil {
		t.Fatal(err)
	}
	if gate, ok := all["gate"].(*sim.Gate); ok && len(gate.Commands()) > 0 {
		t.Errorf("the gate was sent %X", gate.Commands())
	}
	if hpc, ok := all["hpc"].(*sim.HPC); ok && len(hpc.Commands()) > 0 {
		t.Errorf("the HPC counter was sent %q", hpc.Commands())
	}
	if len(h.Strangers) > 0 {
		t.Errorf("strangers %v", h.Strangers)
	}
}
