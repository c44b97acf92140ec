package counter_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
)

// crc is CRC-16/MODBUS, low byte first, behind a frame.
func crc(b []byte) []byte {
	sum := uint16(0xFFFF)
	for _, x := range b {
		sum ^= uint16(x)
		for range 8 {
			if sum&1 == 1 {
				sum = sum>>1 ^ 0xA001
			} else {
				sum >>= 1
			}
		}
	}
	return binary.LittleEndian.AppendUint16(b, sum)
}

// hesitant is a Modbus station that answers every request rightly and in order,
// and takes its time for some.
func hesitant(rw io.ReadWriter, registers map[uint16]uint16, pause func(request int) time.Duration) {
	for n := 0; ; n++ {
		q := make([]byte, 8)
		if _, err := io.ReadFull(rw, q); err != nil {
			return
		}
		time.Sleep(pause(n))
		first, words := binary.BigEndian.Uint16(q[2:]), binary.BigEndian.Uint16(q[4:])
		a := []byte{q[0], q[1], byte(2 * words)}
		for r := first; r < first+words; r++ {
			a = binary.BigEndian.AppendUint16(a, registers[r])
		}
		if _, err := rw.Write(crc(a)); err != nil {
			return
		}
	}
}

// serve lets a station answer whoever dials, until the test ends.
func serve(t *testing.T, station func(net.Conn)) device.Address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				defer context.AfterFunc(t.Context(), func() { c.Close() })()
				station(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Wait()
	})
	return device.Address{Scheme: device.SchemeTCP, Host: l.Addr().String()}
}

func register(address int) *counter.Registers {
	return &counter.Registers{Function: 3, Address: address, Words: 2, Order: "high"}
}

// TestLateAnswers asks a station for totals in several places, by one counter and
// by two, over RTU, where an answer does not say what it answers: one that comes
// late is never taken for the next one.
func TestLateAnswers(t *testing.T) {
	registers := map[uint16]uint16{1: 1000, 11: 985, 21: 300, 31: 290}
	for name, maps := range map[string][]counter.RegisterMap{
		"one counter":      {{In: register(0), Out: register(10)}},
		"one for each way": {{In: register(0)}, {Out: register(10)}},
		"at two doors":     {{In: register(0), Out: register(10)}, {In: register(20), Out: register(30)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line := serve(t, func(c net.Conn) {
				hesitant(c, registers, func(n int) time.Duration {
					if n%7 == 5 {
						return time.Duration(110+13*(n%11)) * time.Millisecond // the agent waits for 100
					}
					return time.Millisecond
				})
			})
			var s store
			var configs []counter.Config
			for i, m := range maps {
				configs = append(configs, counter.Config{ID: fmt.Sprint("c", i), Kind: "modbus", Door: fmt.Sprint("D", i),
					Settings: &counter.Modbus{Station: 1, Framing: "rtu", Timeout: 100 * time.Millisecond, Map: m}})
			}
			quiet := slog.New(slog.DiscardHandler)
			b, err := counter.NewBus(line, configs, 30*time.Millisecond, s.mark, s.sink, quiet)
			if err != nil {
				t.Fatal(err)
			}
			run(t, func(ctx context.Context) error {
				return device.NewLink("line", device.TCP(line), b.Use, quiet).Run(ctx)
			})
			time.Sleep(4 * time.Second) // some dozen late answers
			for _, p := range s.passes {
				t.Errorf("phantoms %+v", p)
			}
			for _, st := range b.Status() {
				if st.LastReading.IsZero() || st.Errors == 0 && len(maps) == 1 {
					t.Errorf("%s: %d errors, last reading %v", st.ID, st.Errors, st.LastReading)
				}
			}
		})
	}
}

// TestForeignUnit has a station that answers under another number: the other one
// on the line is read as if it were not there, and no more often.
func TestForeignUnit(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	line := serve(t, func(c net.Conn) {
		for {
			q := make([]byte, 12)
			if _, err := io.ReadFull(c, q); err != nil {
				return
			}
			unit := q[6]
			if unit == 1 {
				mu.Lock()
				asked++
				mu.Unlock()
			} else {
				unit = 9
			}
			a := append(q[:4:4], 0, 11, unit, 3, 8, 0, 0, 0, 7, 0, 0, 0, 5)
			if _, err := c.Write(a); err != nil {
				return
			}
		}
	})
	var s store
	var configs []counter.Config
	for _, station := range []int{2, 1} {
		configs = append(configs, counter.Config{ID: fmt.Sprint("c", station), Kind: "modbus", Door: "D1",
			Settings: &counter.Modbus{Station: station, Map: counter.RegisterMap{In: register(0), Out: register(2)}}})
	}
	quiet := slog.New(slog.DiscardHandler)
	b, err := counter.NewBus(line, configs, 50*time.Millisecond, s.mark, s.sink, quiet)
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error {
		return device.NewLink("line", device.TCP(line), b.Use, quiet).Run(ctx)
	})
	eventually(t, "the good one is read and the other one called garbled", func() bool {
		st := b.Status()
		return st[1].State == device.Online && st[0].Code == "garbled" && st[0].Hint != ""
	})
	mu.Lock()
	before := asked
	mu.Unlock()
	time.Sleep(time.Second)
	mu.Lock()
	defer mu.Unlock()
	if n := asked - before; n < 10 || n > 22 {
		t.Errorf("asked %d times in a second, every 50 ms", n)
	}
}
