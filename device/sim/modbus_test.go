package sim

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestModbusCounterRegisters(t *testing.T) {
	high := NewModbusCounter(ModbusOptions{
		In: ModbusRegisters{Function: 3, Address: 0, Words: 2}, Out: ModbusRegisters{Function: 3, Address: 2, Words: 2},
		Start: [2]uint64{0x12345, 0x11F00},
	})
	low := NewModbusCounter(ModbusOptions{
		In: ModbusRegisters{Function: 4, Address: 0x44, Words: 2, LowFirst: true}, Out: ModbusRegisters{Function: 4, Address: 0x46, Words: 1},
		Start: [2]uint64{1<<32 - 1, 1<<16 - 1},
	})
	low.Pass(3, 3) // both roll over
	for name, test := range map[string]struct {
		counter   *ModbusCounter
		ask, want string
	}{
		"high first":         {high, "0300000004", "0308" + "00012345" + "00011F00"},
		"part":               {high, "0300010001", "03022345"},
		"low first, rolled":  {low, "0400440003", "0406" + "00020000" + "0002"},
		"other function":     {high, "0400000004", "8402"},
		"beyond the map":     {high, "0300000005", "8302"},
		"nothing asked":      {high, "0300000000", "8303"},
		"too much asked":     {high, "030000007E", "8303"},
		"a register written": {high, "0600000000", "8601"},
		"a coil written":     {high, "050021FF00", "8501"},
	} {
		if got, want := test.counter.answer(unhex(t, test.ask)), unhex(t, test.want); !bytes.Equal(got, want) {
			t.Errorf("%s: got % X, want % X", name, got, want)
		}
	}
	if in, out := low.Totals(); in != 1<<32+2 || out != 1<<16+2 {
		t.Errorf("totals %d, %d", in, out)
	}
	low.Reset()
	if in, out := low.Totals(); in != 0 || out != 0 {
		t.Errorf("totals after a reset %d, %d", in, out)
	}
}

func TestModbusRTULine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, dev := net.Pipe()
		one := NewModbusCounter(ModbusOptions{
			Station: 1, In: ModbusRegisters{Function: 3, Address: 0, Words: 2}, Out: ModbusRegisters{Function: 3, Address: 2, Words: 2},
			Start: [2]uint64{0x12345, 0x11F00}, Baud: 9600,
		})
		seven := NewModbusCounter(ModbusOptions{Station: 7, In: ModbusRegisters{Function: 4, Address: 9, Words: 1}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- ServeModbusRTU(ctx, dev, one, seven) }()
		ask := func(request string, n int) []byte {
			start := time.Now()
			if _, err := host.Write(unhex(t, request)); err != nil {
				t.Fatal(err)
			}
			a := make([]byte, n)
			host.SetReadDeadline(time.Now().Add(time.Second))
			if n, err := io.ReadFull(host, a); err != nil {
				return a[:n]
			}
			if a[0] == 1 && time.Since(start) < lineTime(8+n, 9600) {
				t.Errorf("station 1 answered within %v", time.Since(start))
			}
			return a
		}
		for _, test := range []struct{ name, request, want string }{
			{"golden frame", "010300000004" + "4409", "01030800012345" + "00011F00" + "167B"},
			{"golden exception", "010400000004" + "F1C9", "018402" + "C2C1"},
			{"rubbish before", "FF00" + "010300000004" + "4409", "01030800012345" + "00011F00" + "167B"},
		} {
			if got, want := ask(test.request, len(test.want)/2), unhex(t, test.want); !bytes.Equal(got, want) {
				t.Errorf("%s: got % X, want % X", test.name, got, want)
			}
		}
		for name, request := range map[string]string{
			"wrong checksum": "0103000000044408",
			"other station":  "0203000000044439",
			"half a frame":   "010300",
		} {
			if got := ask(request, 5); len(got) != 0 {
				t.Errorf("%s was answered: % X", name, got)
			}
		}
		one.Silence(true)
		if got := ask("0103000000044409", 5); len(got) != 0 {
			t.Errorf("silent counter answered % X", got)
		}
		if one.Asked() != 4 || seven.Asked() != 0 {
			t.Errorf("asked %d and %d times", one.Asked(), seven.Asked())
		}
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestModbusTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := NewModbusCounter(ModbusOptions{Station: 2, In: ModbusRegisters{Function: 3, Address: 0, Words: 1}, Start: [2]uint64{300, 0}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ServeModbusTCP(ctx, ln, c) }()
	for range 2 {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Write(unhex(t, "BEEF00000006020300000001")); err != nil {
			t.Fatal(err)
		}
		a := make([]byte, 11)
		if _, err := io.ReadFull(conn, a); err != nil {
			t.Fatal(err)
		}
		if want := unhex(t, "BEEF000000050203"+"02012C"); !bytes.Equal(a, want) {
			t.Errorf("got % X, want % X", a, want)
		}
	}
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("ended with %v", err)
	}
}
