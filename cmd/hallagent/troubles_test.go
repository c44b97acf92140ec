//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/lan"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

// trouble is something that is wrong in the hall, what the agent must say of it
// and how it goes away.
type trouble struct {
	name   string
	said   func(lan.Hall) verdict // where /v1/hall speaks of it
	want   string                 // state and code
	metric string                 // a line of /metrics while it lasts
	cured  string                 // a line of /metrics afterwards
	cure   func()
	within time.Duration // the recovery promised
}

// verdict is what the agent says of one thing.
type verdict struct{ state, code, err, hint string }

func ofReader(id string) func(lan.Hall) verdict {
	return func(h lan.Hall) (v verdict) {
		for _, r := range h.Readers {
			if r.ID == id {
				v = verdict{string(r.State), r.Code, r.Err, r.Hint}
			}
		}
		return v
	}
}

func ofCounter(id string) func(lan.Hall) verdict {
	return func(h lan.Hall) (v verdict) {
		for _, c := range h.Counters {
			if c.ID == id {
				v = verdict{string(c.State), c.Code, c.Err, c.Hint}
			}
		}
		return v
	}
}

func ofBroker(h lan.Hall) verdict {
	return verdict{h.Broker.State, h.Broker.Code, h.Broker.Err, h.Broker.Hint}
}

func ofStore(h lan.Hall) verdict {
	state := "closed"
	if h.Streams[0].Open {
		state = "online"
	}
	return verdict{state, h.Streams[0].Code, h.Streams[0].Err, h.Streams[0].Hint}
}

func ofAddress(address string) func(lan.Hall) verdict {
	return func(h lan.Hall) (v verdict) {
		for _, l := range h.Addresses {
			if l.Address == address {
				v = verdict{l.State, l.Code, l.Err, l.Hint}
			}
		}
		return v
	}
}

// lasting is how long a trouble lasts at least, so that the pauses between the
// agent's attempts have grown.
const lasting = 4 * time.Second

// suffer goes through all troubles at once: each is cured when the agent has
// told of it and it has lasted a while, and it is measured how long the agent
// then takes to recover by itself.
func suffer(t *testing.T, w *world, troubles []trouble) {
	cured := make([]time.Time, len(troubles))
	over := make([]bool, len(troubles))
	begin := time.Now()
	eventually(t, 40*time.Second, "all troubles are over", func() error {
		h, err := w.hallView()
		if err != nil {
			return err
		}
		metrics, err := get(w.url + "/metrics")
		if err != nil {
			return err
		}
		var open error
		for i, tr := range troubles {
			v := tr.said(h)
			switch {
			case over[i]:
				continue
			case cured[i].IsZero():
				open = tr.untold(v, metrics)
				if open == nil && time.Since(begin) < lasting {
					open = errors.New("it lasts")
				}
				if open == nil {
					tr.cure()
					cured[i] = time.Now()
				} else if time.Since(begin) > 12*time.Second {
					t.Fatalf("%s is not told: %v", tr.name, open)
				}
			default:
				took := time.Since(cured[i])
				if open = tr.unwell(v, metrics); open == nil {
					over[i] = true
					t.Logf("%-28s recovered after %4d ms (promised %v)", tr.name, took.Milliseconds(), tr.within)
				} else if took > tr.within {
					t.Fatalf("%s does not recover within %v: %v", tr.name, tr.within, open)
				}
			}
		}
		if !w.running() {
			t.Fatal("the agent ended")
		}
		if slices.Contains(over, false) {
			return fmt.Errorf("over: %v", over)
		}
		return open
	})
	eventually(t, 5*time.Second, "in the end all is well", func() error {
		h, err := w.hallView()
		if err == nil && (h.State != "ready" || len(h.Reasons) > 0) {
			err = fmt.Errorf("the agent is %s %v", h.State, h.Reasons)
		}
		return err
	})
}

// untold says what of a trouble the agent does not tell.
func (tr trouble) untold(v verdict, metrics []byte) error {
	switch {
	case v.state+" "+v.code != tr.want:
		return fmt.Errorf("/v1/hall says %+v, want %s", v, tr.want)
	case v.err == "" || v.hint == "":
		return fmt.Errorf("/v1/hall gives no cause or no hint: %+v", v)
	}
	return hasLine(metrics, tr.metric)
}

func (tr trouble) unwell(v verdict, metrics []byte) error {
	if v.state != "online" && v.state != "connected" || v.code != "" {
		return fmt.Errorf("it is %+v", v)
	}
	return hasLine(metrics, tr.cured)
}

// TestTroubles starts the agent in a hall where everything is wrong.
func TestTroubles(t *testing.T) {
	t.Parallel()
	b := mosquitto.Start(t, mosquitto.Options{Users: map[string]string{"e2e": "right"}})
	w := newWorld(t, b.URL)
	w.addReader("01", sim.ReaderOptions{}) // one that is well all the time
	_, missing := w.addReader("02", sim.ReaderOptions{})
	if err := missing.Unplug(); err != nil {
		t.Fatal(err)
	}
	silent, _ := w.addReader("03", sim.ReaderOptions{})
	silent.Silence(true)
	rubbish := w.addRubbish("04")
	_, held := w.addReader("05", sim.ReaderOptions{})
	release := hold(t, held.Name)
	gate := freeAddress(t) // nobody listens there yet
	w.lines = append(w.lines, fmt.Sprintf("{id: l-D1, url: %q, poll: 500ms}", "tcp://"+gate))
	w.configCounter("D1")
	other, err := net.Listen("tcp", "127.0.0.1:0") // this process is the other one
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	address := other.Addr().String()
	w.listen = []string{strconv.Quote(address)}
	password := filepath.Join(w.dir, "password")
	if err := os.WriteFile(password, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.configure(fmt.Sprintf(", username: e2e, password_file: %q", password))
	w.start()
	w.ready()

	reader := func(id, state, code string, value int) string {
		return fmt.Sprintf(`hallagent_device_state{code=%q,device=%q,kind="sam",state=%q} %d`, code, id, state, value)
	}
	const replugged = 3 * time.Second
	suffer(t, w, []trouble{
		{
			name: "missing device", said: ofReader("rd-02"), want: "offline missing",
			metric: reader("rd-02", "offline", "missing", 1), cured: reader("rd-02", "online", "", 1),
			cure: func() { missing.Plug() }, within: replugged,
		}, {
			name: "silent device", said: ofReader("rd-03"), want: "wedged silent",
			metric: reader("rd-03", "wedged", "silent", 1), cured: reader("rd-03", "online", "", 1),
			cure: func() { silent.Silence(false) }, within: 6 * time.Second, // a request waits 3 s,
		}, {
			name: "device that talks rubbish", said: ofReader("rd-04"), want: "wedged garbled",
			metric: reader("rd-04", "wedged", "garbled", 1), cured: reader("rd-04", "online", "", 1),
			cure: rubbish, within: replugged,
		}, {
			name: "port held by another process", said: ofReader("rd-05"), want: "offline busy",
			metric: reader("rd-05", "offline", "busy", 1), cured: reader("rd-05", "online", "", 1),
			cure: release, within: replugged,
		}, {
			name: "counter refuses connections", said: ofCounter("k-D1"), want: "offline refused",
			metric: `hallagent_device_state{code="refused",device="k-D1",kind="modbus",state="offline"} 1`,
			cured:  `hallagent_device_state{code="",device="k-D1",kind="modbus",state="online"} 1`,
			cure: func() {
				l, err := net.Listen("tcp", gate)
				if err != nil {
					t.Fatal(err)
				}
				c := sim.NewModbusCounter(sim.ModbusOptions{Station: 1, In: registers.in, Out: registers.out})
				owned(t, func(ctx context.Context) { sim.ServeModbusTCP(ctx, l, c) })
			}, within: replugged,
		}, {
			name: "HTTP address held", said: ofAddress(address), want: "waiting busy",
			metric: fmt.Sprintf(`hallagent_listener_up{address=%q,code="busy"} 0`, address),
			cured:  fmt.Sprintf(`hallagent_listener_up{address=%q,code=""} 1`, address),
			cure:   func() { other.Close() }, within: replugged,
		}, {
			name: "broker refuses the password", said: ofBroker, want: "waiting bad_credentials",
			metric: `hallagent_broker_state{code="bad_credentials",state="waiting"} 1`,
			cured:  `hallagent_broker_state{code="",state="connected"} 1`,
			cure: func() { // as an operator does: the file is read again at each attempt
				if err := os.WriteFile(password, []byte("right\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}, within: 16 * time.Second, // attempts are at most 15 s apart
		},
	})
}

// TestTroublesAtTheRoot starts the agent without a disk and without a broker.
func TestTroublesAtTheRoot(t *testing.T) {
	t.Parallel()
	b := mosquitto.Start(t, mosquitto.Options{Users: map[string]string{"e2e": "old"}})
	b.Kill()
	w := newWorld(t, b.URL)
	w.addReader("01", sim.ReaderOptions{})
	gate := w.addCounter("D1", true)
	password := filepath.Join(w.dir, "password")
	if err := os.WriteFile(password, []byte("new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.data(), nil, 0o600); err != nil { // a file lies where the folder should be
		t.Fatal(err)
	}
	w.configure(fmt.Sprintf(", username: e2e, password_file: %q", password))
	w.start()
	eventually(t, 10*time.Second, "the page is there without a disk", func() error {
		_, err := w.hallView()
		return err
	})
	if _, err := get(w.url + "/readyz"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("without a disk /readyz says %v", err)
	}
	suffer(t, w, []trouble{
		{
			name: "data folder cannot be written", said: ofStore, want: "closed missing",
			metric: `hallagent_stream_open{code="missing",stream="visits"} 0`,
			cured:  `hallagent_stream_open{code="",stream="visits"} 1`,
			cure: func() {
				if err := os.Remove(w.data()); err != nil {
					t.Fatal(err)
				}
			}, within: 10 * time.Second, // the folder is tried every 2 s, the store every 5 s
		}, {
			name: "broker is not there", said: ofBroker, want: "waiting refused",
			metric: `hallagent_broker_state{code="refused",state="waiting"} 1`,
			cured:  `hallagent_broker_state{code="",state="connected"} 1`,
			cure: func() {
				b.SetUsers(map[string]string{"e2e": "new"})
				b.Restart()
			}, within: 16 * time.Second,
		},
	})
	// Nothing is left behind: a pass is stored and sent, a workstation is paired.
	s := subscribe(t, strings.Replace(b.URL, "mqtt://", "mqtt://e2e:new@", 1), nil)
	gate.Pass(3, 1)
	eventually(t, 10*time.Second, "a pass arrives", func() error {
		if len(s.all(hall.Stream("visits"))) == 0 {
			return fmt.Errorf("no visit came")
		}
		return nil
	})
	w.follow("01", w.pair("01"))
}

// addRubbish hangs something on a terminal that answers every byte with noise;
// the function it gives puts a reader in its place.
func (w *world) addRubbish(window string) (cure func()) {
	pty := w.pty("tty" + window)
	owned(w.t, func(ctx context.Context) {
		defer context.AfterFunc(ctx, func() { pty.Close() })()
		buf := make([]byte, 256)
		for {
			n, err := pty.Read(buf)
			if err != nil {
				return
			}
			for i := range buf[:n] {
				buf[i] = buf[i]*7 + 13
			}
			pty.Write(buf[:n])
		}
	})
	w.configReader(window, "serial://"+pty.Name+"?baud=115200")
	return func() {
		pty.Close()
		right := w.pty("tty" + window)
		owned(w.t, func(ctx context.Context) { sim.NewReader(sim.ReaderOptions{}).Serve(ctx, right) })
	}
}

// hold opens a terminal as a vendor's tool does: exclusively, with a lock. The
// test's process is another one than the agent's. The exclusive mode alone does
// not bind root, the lock does.
func hold(t *testing.T, name string) (release func()) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	if err := unix.IoctlSetInt(fd, unix.TIOCEXCL, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	return func() {
		// The simulator keeps the terminal open, so its mode would stay.
		if err := unix.IoctlSetInt(fd, unix.TIOCNXCL, 0); err != nil {
			t.Error(err)
		}
		f.Close()
	}
}
