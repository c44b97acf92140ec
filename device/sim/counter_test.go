package sim

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	_ Counter = (*ModbusCounter)(nil)
	_ Counter = (*Gate)(nil)
	_ Counter = (*HPC)(nil)
	_ Counter = (*TextCounter)(nil)
)

func TestGateBoard(t *testing.T) {
	g := NewGate(GateOptions{Machine: 1, Start: [2]uint64{1234, 1200}})
	ask := unhex(t, "7E00011000000070")
	if got, want := g.reply(ask), unhex(t, "7F1201000000000"+"4D20004B0F05518000086"); !bytes.Equal(got, want) {
		t.Errorf("got % X, want % X", got, want)
	}
	g.Pass(1<<24, 1)
	if got := g.reply(ask); !bytes.Equal(got[6:12], unhex(t, "0004D20004B1")) {
		t.Errorf("rolled over: % X", got)
	}
	for name, test := range map[string]struct {
		come string
		want string
	}{
		"the question":      {"7E00011000000070", "7E00011000000070"},
		"behind noise":      {"FF7E7E00011000000070", "7E00011000000070"},
		"another machine":   {"7E0002100000006F", ""},
		"a wrong sum":       {"7E00011000000071", ""},
		"half of it":        {"7E000110", ""},
		"the maker's frame": {"7E00018000010055", ""}, // breaks its own rule
	} {
		if got, _ := g.find(unhex(t, test.come)); !bytes.Equal(got, unhex(t, test.want)) {
			t.Errorf("%s: % X", name, got)
		}
	}
	for _, f := range []string{"7E00012000000060", "7E0001210000005F"} {
		request, _ := g.find(unhex(t, f))
		g.reply(request)
	}
	if in, out := g.Totals(); in != 0 || out != 0 || !bytes.Equal(g.Commands(), []byte{0x20, 0x21}) || g.Asked() != 4 {
		t.Errorf("cleared to %d, %d by % X", in, out, g.Commands())
	}
}

func TestHPCCounter(t *testing.T) {
	h := NewHPC(HPCOptions{ID: 1, Start: [2]uint64{52, 47}})
	request, rest := h.find([]byte("\x02000113\x02000113" + "0014\x03x"))
	if string(request) != "\x020001130014\x03" || string(rest) != "x" {
		t.Fatalf("found %q, %q", request, rest)
	}
	if got, want := string(h.reply(request)), "\x02000193100000003400"+"00002F000000000000000007\x03"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, come := range map[string]string{"another counter": "\x020002130015\x03", "a wrong sum": "\x020001130015\x03", "no end": "\x020001130014"} {
		if got, _ := h.find([]byte(come)); got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := string(h.reply([]byte("\x020001120013\x03"))); got != "\x0200019201069A\x03" {
		t.Errorf("cleared: %q", got)
	}
	if in, out := h.Totals(); in != 0 || out != 0 || !slices.Equal(h.Commands(), []string{"12"}) {
		t.Errorf("cleared to %d, %d by %q", in, out, h.Commands())
	}
}

func TestModbusFigures(t *testing.T) {
	c := NewModbusCounter(ModbusOptions{
		In:    ModbusRegisters{Function: 3, Address: 0, Words: 2, LowFirst: true, Bits: 24, Above: 0xA5},
		Out:   ModbusRegisters{Function: 3, Address: 2, Words: 2, Swapped: true, Modulus: 1_000_000},
		Level: ModbusRegisters{Function: 4, Address: 0, Words: 1},
		Start: [2]uint64{1<<24 - 1, 999_999},
	})
	c.Pass(2, 3)
	if got, want := c.answer(unhex(t, "0300000004")), unhex(t, "0308"+"0001A500"+"00000200"); !bytes.Equal(got, want) {
		t.Errorf("got % X, want % X", got, want)
	}
	level := NewModbusCounter(ModbusOptions{Level: ModbusRegisters{Function: 4, Address: 0, Words: 1}})
	level.Pass(1, 3)
	if got, want := level.answer(unhex(t, "0400000001")), unhex(t, "0402FFFE"); !bytes.Equal(got, want) {
		t.Errorf("level % X, want % X", got, want)
	}
	delta := NewModbusCounter(ModbusOptions{In: ModbusRegisters{Function: 3, Address: 5, Words: 1, Clears: true}, Start: [2]uint64{70000, 0}})
	for _, want := range []string{"03020000", "03020007", "03020000"} {
		if got := delta.answer(unhex(t, "0300050001")); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("delta % X, want %s", got, want)
		}
		if delta.Asked() == 1 {
			delta.Pass(7, 0)
		}
	}
	delta.Reset()
	if got := delta.answer(unhex(t, "0300050001")); !bytes.Equal(got, unhex(t, "03020000")) {
		t.Errorf("delta after a reset % X", got)
	}
}

func TestCounterFaults(t *testing.T) {
	g := NewGate(GateOptions{Machine: 1})
	g.SetFaults(CounterFaults{Doubles: true, Turned: true, Noise: 1, Halves: 2, Wrong: 3, Lost: 4})
	ask := unhex(t, "7E00011000000070")
	g.Pass(1, 2)
	if in, out := g.Totals(); in != 4 || out != 2 {
		t.Errorf("turned and doubled: %d in, %d out", in, out)
	}
	for range 4 {
		if a := g.reply(ask); a != nil {
			t.Errorf("lost, and sent % X", a)
		}
	}
	if a := g.reply(ask); len(a) != 18 || gateSum(a) != 255 {
		t.Errorf("all is over, and it sends % X", a)
	}
	for name, test := range map[string]struct {
		faults CounterFaults
		size   int
	}{"noise": {CounterFaults{Noise: 1}, 24}, "half": {CounterFaults{Halves: 1}, 9}, "wrong": {CounterFaults{Wrong: 1}, 18}} {
		g.SetFaults(test.faults)
		if a := g.reply(ask); len(a) != test.size || gateSum(a) == 255 {
			t.Errorf("%s: % X", name, a)
		}
		if a := g.reply(ask); len(a) != 18 || gateSum(a) != 255 {
			t.Errorf("%s is over: % X", name, a)
		}
	}
	g.Silence(true)
	if a := g.reply(ask); a != nil {
		t.Errorf("silent: % X", a)
	}
}

// Three protocols on one line: each device answers what is meant for it, at its
// pace, and hears the others without harm.
func TestBusOfSeveralKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, dev := net.Pipe()
		m := NewModbusCounter(ModbusOptions{Station: 1, In: ModbusRegisters{Function: 3, Words: 1}, Start: [2]uint64{300, 0}, Baud: 9600})
		g := NewGate(GateOptions{Machine: 1, Baud: 9600})
		h := NewHPC(HPCOptions{ID: 1, Baud: 9600})
		x := NewTextCounter(TextOptions{Ask: "R\r", Form: TextTotals, Serial: "A7", Sum: true, Baud: 9600})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- ServeBus(ctx, dev, m, g, h, x) }()
		for range 3 {
			for ask, want := range map[string]string{
				string(unhex(t, "010300000001840A")): string(unhex(t, "010302012CB809")),
				string(unhex(t, "7E00011000000070")): string(unhex(t, "7F1201000000000000000000F055180000"+"10")),
				"\x020001130014\x03":                 "\x0200019310" + strings.Repeat("0", 32) + "A4\x03",
				"R\r":                                "A7 IN=0 OUT=0*3F\r\n",
			} {
				start := time.Now()
				if _, err := host.Write([]byte(ask)); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(want))
				host.SetReadDeadline(time.Now().Add(time.Second))
				n, _ := io.ReadFull(host, got)
				if string(got[:n]) != want {
					t.Errorf("asked %q: %q, want %q", ask, got[:n], want)
				}
				if took, least := time.Since(start), lineTime(len(ask)+len(want), 9600); took < least {
					t.Errorf("asked %q: answered in %v, the line takes %v", ask, took, least)
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
		for _, c := range []Counter{m, g, h, x} {
			if c.Asked() != 3 {
				t.Errorf("%T was asked %d times", c, c.Asked())
			}
		}
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestTextCounterSpeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			options TextOptions
			want    string
		}{
			"characters": {TextOptions{Form: TextChars}, "I\r\nI\r\nO\r\n"},
			"totals":     {TextOptions{Form: TextTotals, End: "\n", Start: [2]uint64{10, 20}}, "IN=12 OUT=21\n"},
			"with a sum": {TextOptions{Form: TextTotals, Serial: "B", Sum: true}, "B IN=2 OUT=1*08\r\n"},
			"periods":    {TextOptions{Form: TextPeriods, Serial: "Door", Period: time.Minute}, "Counting,Door,2,1,2000/01/01 "},
		} {
			c := NewTextCounter(test.options)
			c.Pass(0, 0) // before anybody listens
			host, dev := net.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- c.Serve(ctx, dev) }()
			synctest.Wait()
			c.Pass(2, 1)
			got := make([]byte, len(test.want))
			if _, err := io.ReadFull(host, got); err != nil || string(got) != test.want {
				t.Errorf("%s: %q, %v; want %q", name, got, err, test.want)
			}
			cancel()
			if err := <-ended; err != context.Canceled {
				t.Errorf("%s ended with %v", name, err)
			}
		}
		c := NewTextCounter(TextOptions{Form: TextChars})
		host, dev := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- c.Serve(t.Context(), dev) }()
		host.Close()
		if err := <-ended; err == nil {
			t.Error("the peer is gone, and Serve has not noticed")
		}
	})
}
