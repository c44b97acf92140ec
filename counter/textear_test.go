package counter_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
)

var (
	tcpLine    = device.Address{Scheme: device.SchemeTCP, Host: "192.0.2.8:4001"}
	listenLine = device.Address{Scheme: device.SchemeTCPListen, Host: "192.0.2.1:8085"}
)

func text(id, door string, s counter.Text) counter.Config {
	return counter.Config{ID: id, Kind: "line", Door: door, Settings: &s}
}

// diary is a store that also keeps what is uncertain.
type diary struct {
	store
	doubt []counter.Pass
}

func (d *diary) sink(ctx context.Context, u counter.Update) error {
	if u.Pass.Uncertain {
		d.mu.Lock()
		d.doubt = append(d.doubt, u.Pass)
		d.mu.Unlock()
	}
	return d.store.sink(ctx, u)
}

func (d *diary) doubts() []counter.Pass {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.doubt)
}

func newEar(t *testing.T, line device.Address, d *diary, cs ...counter.Config) counter.Owner {
	t.Helper()
	o, err := counter.NewOwner(line, cs, 0, d.mark, d.sink, discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := o.(*counter.Ear); !ok {
		t.Fatalf("the owner is a %T", o)
	}
	return o
}

// hear runs the owner on one connection until hang up; what it must not send is
// everything.
func hear(t *testing.T, o counter.Owner) (dev net.Conn, heard *int, hangUp func() error) {
	host, dev := pipe(t)
	heard = new(int)
	ended := make(chan error, 1)
	go func() { ended <- o.Use(t.Context(), onlyReads{host, t}, func() { *heard++ }) }()
	synctest.Wait()
	return dev, heard, func() error {
		dev.Close()
		return <-ended
	}
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// Each character is a pass, two in one direction within 300 ms are one, and what
// nobody heard is uncertain from the last minute in which the line was alive.
func TestEventsOverALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		o := newEar(t, serialLine, &d, text("c", "D1", counter.Text{Preset: "one-char"}))
		dev, heard, hangUp := hear(t, o)
		if st := o.Status()[0]; st.State != device.Online || *heard != 1 {
			t.Errorf("an open line of which nobody says that it must speak: %+v, heard %d", st, *heard)
		}
		for _, c := range []struct {
			text  string
			pause time.Duration
		}{{"I", time.Second}, {"I\r\nO", 200 * time.Millisecond}, {"I", 90 * time.Millisecond}, {"O", 11 * time.Millisecond}, {"1", time.Second}, {"\x00x\xff+", time.Second}, {"-", 0}} {
			write(t, dev, c.text)
			time.Sleep(c.pause)
		}
		if in, out := d.sum("D1"); in != 4 || out != 2 {
			t.Errorf("%d in, %d out", in, out)
		}
		if st := o.Status()[0]; st.Duplicates != 2 || st.In != 4 || st.Out != 2 || st.Errors != 0 {
			t.Errorf("status %+v", st)
		}
		time.Sleep(10*time.Minute + 20*time.Second)
		if len(d.doubts()) != 0 {
			t.Errorf("uncertain on a line that was there all the time: %+v", d.doubts())
		}
		left := time.Now()
		if err := hangUp(); !errors.Is(err, io.EOF) {
			t.Errorf("ended with %v", err)
		}
		if st := o.Status()[0]; st.State != device.Waiting || st.Code != "line" {
			t.Errorf("without a line %+v", st)
		}
		time.Sleep(5 * time.Minute)
		dev, _, hangUp = hear(t, o)
		if len(d.doubts()) != 1 || d.doubts()[0].From.Before(left.Add(-time.Minute)) || d.doubts()[0].From.After(left) || !d.doubts()[0].To.Equal(time.Now()) {
			t.Errorf("uncertain are %+v, the line was away from %v to %v", d.doubts(), left, time.Now())
		}
		write(t, dev, "I")
		hangUp()
		if in, _ := d.sum("D1"); in != 5 || len(d.doubts()) != 1 {
			t.Errorf("%d in, %d uncertain", in, len(d.doubts()))
		}
	})
}

// A device that must speak falls silent, its line is given up, and only its own
// word makes it well again.
func TestExpectedLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		o := newEar(t, tcpLine, &d, text("c", "D1", counter.Text{Expect: time.Minute, Patterns: []counter.Pattern{
			{Match: `^ALIVE$`, Value: "event"}, {Match: `^(?P<dir>IN|OUT|\?)$`, Value: "event"},
		}}))
		dev, heard, hangUp := hear(t, o)
		if st := o.Status()[0]; st.State != device.Waiting || *heard != 0 {
			t.Errorf("it has not spoken yet: %+v, heard %d", st, *heard)
		}
		for range 10 {
			write(t, dev, "ALIVE\nIN\n?\n")
			time.Sleep(time.Minute)
		}
		if st := o.Status()[0]; st.State != device.Online || st.In != 10 || st.Undirected != 10 || *heard != 30 {
			t.Errorf("it speaks: %+v, heard %d", st, *heard)
		}
		time.Sleep(119 * time.Second)
		if st := o.Status()[0]; st.State != device.Online {
			t.Errorf("within its time: %+v", st)
		}
		time.Sleep(2 * time.Second)
		if st := o.Status()[0]; st.State != device.Wedged || st.Code != "silent" {
			t.Errorf("silent: %+v", st)
		}
		if err := hangUp(); !errors.Is(err, device.ErrSilent) {
			t.Errorf("ended with %v", err)
		}
		last := time.Now()
		dev, _, hangUp = hear(t, o)
		time.Sleep(time.Minute)
		if st := o.Status()[0]; st.State != device.Wedged || len(d.doubts()) != 0 {
			t.Errorf("the line is back, the device is not: %+v", st)
		}
		write(t, dev, "ALIVE\n")
		if st := o.Status()[0]; st.State != device.Online || len(d.doubts()) != 1 || d.doubts()[0].From.After(last) {
			t.Errorf("it is back: %+v, uncertain %+v", st, d.doubts())
		}
		hangUp()
	})
}

// Units that dial in are told apart by their serial numbers, one connection
// carries several, and who is not configured is named.
func TestUnitsThatDialIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		form := []counter.Pattern{{Match: `^(?P<part>(?P<serial>\w+) IN=(?P<in>\d+) OUT=(?P<out>\d+))\*(?P<sum>..)$`, Value: "total"}}
		var d diary
		o := newEar(t, listenLine, &d,
			text("a", "D1", counter.Text{Patterns: form, Checksum: "xor", Serial: "A7"}),
			text("b", "D2", counter.Text{Patterns: form, Checksum: "xor", Serial: "B9"}))
		if st := o.Status()[1]; st.State != device.Waiting || st.Code != "" {
			t.Errorf("nobody has come yet: %+v", st)
		}
		units := map[string]*sim.TextCounter{}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 6)
		for i, serial := range []string{"a7", "B9", "C3"} {
			unit := sim.NewTextCounter(sim.TextOptions{Form: sim.TextTotals, Serial: serial, Sum: true, Start: [2]uint64{uint64(i) * 1000, 500}})
			units[serial] = unit
			host, dev := pipe(t)
			go func() { ended <- unit.Serve(ctx, dev) }()
			go func() { ended <- o.Use(ctx, onlyReads{host, t}, func() {}) }()
		}
		synctest.Wait()
		for range 10 {
			for _, u := range units {
				u.Pass(2, 1)
			}
			time.Sleep(time.Second)
		}
		units["B9"].SetFaults(sim.CounterFaults{Wrong: 1})
		units["B9"].Pass(1, 0) // its line is damaged
		time.Sleep(time.Second)
		units["B9"].Pass(1, 0)
		time.Sleep(time.Second)
		dev, _, hangUp := hear(t, o)
		write(t, dev, "D4 IN=1 OUT=1*00\n") // its name may be what is damaged
		hangUp()
		cancel()
		for range 6 {
			<-ended
		}
		if in, out := d.sum("D1"); in != 18 || out != 9 {
			t.Errorf("unit A7: %d in, %d out", in, out)
		}
		if in, out := d.sum("D2"); in != 20 || out != 9 {
			t.Errorf("unit B9: %d in, %d out", in, out)
		}
		if got := fmt.Sprint(o.Strangers()); got != "[C3]" {
			t.Errorf("strangers %s", got)
		}
		if st := o.Status(); st[0].Errors != 0 || st[1].Errors != 1 || st[0].State != device.Online {
			t.Errorf("status %+v", st)
		}
	})
}

// A period that comes again counts once, and one that does not come is uncertain.
func TestPeriodsOverALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		o := newEar(t, tcpLine, &d, text("c", "D1", counter.Text{Preset: "vivotek", Expect: 5 * time.Minute}))
		dev, _, hangUp := hear(t, o)
		unit := sim.NewTextCounter(sim.TextOptions{Form: sim.TextPeriods, Serial: "Door 1", Period: 5 * time.Minute})
		again := &twice{ReadWriteCloser: dev}
		ended := make(chan error, 1)
		go func() { ended <- unit.Serve(t.Context(), again) }()
		for range 12 {
			unit.Pass(7, 5)
			time.Sleep(5 * time.Minute)
		}
		synctest.Wait()
		if in, out := d.sum("D1"); in != 84 || out != 60 || len(d.doubts()) != 0 {
			t.Errorf("%d in, %d out, uncertain %+v", in, out, d.doubts())
		}
		if st := o.Status()[0]; st.Duplicates != 12 {
			t.Errorf("status %+v", st)
		}
		unit.SetFaults(sim.CounterFaults{Lost: 1})
		time.Sleep(11 * time.Minute)
		if len(d.doubts()) != 1 || d.doubts()[0].To.Sub(d.doubts()[0].From) != 10*time.Minute {
			t.Errorf("a period is missing; uncertain are %+v", d.doubts())
		}
		hangUp()
		<-ended
	})
}

// twice sends everything twice, as a device does that got no answer.
type twice struct{ io.ReadWriteCloser }

func (c *twice) Write(b []byte) (int, error) {
	if _, err := c.ReadWriteCloser.Write(b); err != nil {
		return 0, err
	}
	return c.ReadWriteCloser.Write(b)
}

func TestRubbishOverALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		o := newEar(t, serialLine, &d, text("c", "D1", counter.Text{Preset: "in-out"}))
		dev, _, hangUp := hear(t, o)
		write(t, dev, "IN=1 OUT=1\n")
		write(t, dev, strings.Repeat("\xff\x00IN=9 OUT=9", 10_000)+"IN=900 OUT=900\n")
		write(t, dev, "IN=2 OUT=1\nIN=2 OUT=")
		hangUp() // a line that was cut is none
		if in, out := d.sum("D1"); in != 1 || out != 0 {
			t.Errorf("%d in, %d out", in, out)
		}
	})
}

func TestLineOwners(t *testing.T) {
	asked, speaks := text("a", "D1", counter.Text{Preset: "in-out", Ask: "R"}), text("b", "D1", counter.Text{Preset: "in-out", Serial: ""})
	other := text("c", "D1", counter.Text{Preset: "one-char"})
	for name, cs := range map[string][]counter.Config{
		"asked first": {asked, speaks}, "speaks first": {speaks, asked},
	} {
		if _, err := counter.NewOwner(serialLine, cs, 0, nil, nil, discard); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if o, err := counter.NewOwner(serialLine, []counter.Config{asked}, 0, nil, nil, discard); err != nil {
		t.Error(err)
	} else if _, ok := o.(*counter.Bus); !ok {
		t.Errorf("one that is asked belongs to a %T", o)
	}
	synctest.Test(t, func(t *testing.T) {
		var d diary
		_, _, hangUp := hear(t, newEar(t, serialLine, &d, speaks, other))
		if err := hangUp(); err == nil || !strings.Contains(err.Error(), "different ends") {
			t.Errorf("two ends on one line: %v", err)
		}
	})
}

// Real sockets: units that dial in, send datagrams, and are dialled.
func TestLinesOverTheNetwork(t *testing.T) {
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	listen := func(t *testing.T, scheme string, c counter.Config) (host string, s *store, o counter.Owner) {
		line := device.Address{Scheme: scheme, Host: free()}
		s = new(store)
		o, err := counter.NewOwner(line, []counter.Config{c}, 0, s.mark, s.sink, discard)
		if err != nil {
			t.Fatal(err)
		}
		link := device.NewListenLink("line", line, o.Use, discard)
		run(t, link.Run)
		eventually(t, "listening", func() bool { return link.Status().State == device.Online })
		return line.Host, s, o
	}
	t.Run("tcp-listen", func(t *testing.T) {
		host, s, o := listen(t, device.SchemeTCPListen, text("c", "D1", counter.Text{Preset: "in-out"}))
		unit := sim.NewTextCounter(sim.TextOptions{Form: sim.TextTotals})
		for i := range uint64(3) {
			conn, err := net.Dial("tcp", host)
			if err != nil {
				t.Fatal(err)
			}
			stop := run(t, func(ctx context.Context) error { return unit.Serve(ctx, conn) })
			eventually(t, "a line", func() bool { unit.Pass(0, 0); return o.Status()[0].State == device.Online })
			unit.Pass(2, 1)
			eventually(t, "the passes", func() bool { unit.Pass(0, 0); in, out := s.sum("D1"); return in == 2*(i+1) && out == i+1 })
			stop()
		}
	})
	t.Run("udp-listen", func(t *testing.T) {
		host, s, _ := listen(t, device.SchemeUDPListen, text("c", "D1", counter.Text{Preset: "in-out"}))
		conn, err := net.Dial("udp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		n := 10
		eventually(t, "the passes", func() bool { // a datagram may be lost
			n++
			fmt.Fprintf(conn, "IN=%d OUT=5", min(n, 17)) // without an end
			in, _ := s.sum("D1")
			return in == 6
		})
	})
	t.Run("tcp", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		unit := sim.NewTextCounter(sim.TextOptions{Form: sim.TextChars})
		run(t, func(ctx context.Context) error { return sim.ServeTCP(ctx, ln, unit.Serve) })
		line := device.Address{Scheme: device.SchemeTCP, Host: ln.Addr().String()}
		var s store
		o, err := counter.NewOwner(line, []counter.Config{text("c", "D1", counter.Text{Preset: "one-char"})}, 0, s.mark, s.sink, discard)
		if err != nil {
			t.Fatal(err)
		}
		run(t, func(ctx context.Context) error {
			return device.NewLink("line", device.TCP(line), o.Use, discard).Run(ctx)
		})
		eventually(t, "the line", func() bool { return o.Status()[0].State == device.Online })
		eventually(t, "somebody", func() bool { unit.Pass(1, 0); in, _ := s.sum("D1"); return in > 0 })
	})
}

// Who holds a connection without a word says nothing of the device, and the end
// of a datagram ends a line that began in it.
func TestConnectionsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		o := newEar(t, listenLine, &d, text("c", "D1", counter.Text{Preset: "one-char"}))
		_, heard, hangUp := hear(t, o)
		time.Sleep(5 * time.Minute)
		hangUp()
		if st := o.Status()[0]; *heard != 0 || st.State != device.Waiting || len(d.notes) != 0 {
			t.Errorf("heard %d times, %+v", *heard, st)
		}
		o = newEar(t, device.Address{Scheme: device.SchemeUDPListen}, &d, text("c", "D1", counter.Text{Preset: "in-out"}))
		for _, datagram := range []string{"IN=1 OUT=1", "IN=2 OUT=1\r\nIN=3 OUT=1", strings.Repeat("x", 4097) + "IN=9 OUT=9"} {
			dev, _, hangUp := hear(t, o)
			write(t, dev, datagram)
			hangUp()
		}
		if in, out := d.sum("D1"); in != 2 || out != 0 {
			t.Errorf("%d in, %d out", in, out)
		}
	})
}

// A device that tells what passed since it was last asked is not asked twice: what
// was in an answer that did not come is not known.
func TestDeltasThatAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		b, err := counter.NewBus(serialLine, []counter.Config{text("c", "D1", counter.Text{
			Ask: textAsk, Patterns: []counter.Pattern{{Match: `^(?P<net>[+-]\d+)$`, Value: "delta"}},
		})}, 0, d.mark, d.sink, discard)
		if err != nil {
			t.Fatal(err)
		}
		host, dev := pipe(t)
		served := make(chan struct{})
		go func() {
			defer close(served)
			buf := make([]byte, 8)
			for i := 0; ; i++ {
				if _, err := dev.Read(buf); err != nil {
					return
				}
				if i != 5 {
					dev.Write([]byte("+3\r"))
				}
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 9500*time.Millisecond)
		defer cancel()
		b.Use(ctx, onlyReads{host, t}, func() {}) // until the time is over
		<-served
		if in, _ := d.sum("D1"); in != 27 || len(d.doubts()) != 1 {
			t.Errorf("%d in, uncertain %+v", in, d.doubts())
		}
	})
}
