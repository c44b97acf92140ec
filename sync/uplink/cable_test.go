package uplink

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

// cable stands between a client and a broker. What is set of its faults applies
// to the connections that are there; those that come later are whole.
type cable struct {
	url  string
	rate int // bytes per second to the broker, 0 = no limit; of all connections

	mu   sync.Mutex
	live []*strand
}

// strand is one connection through a cable.
type strand struct {
	in, out  net.Conn
	swallow  atomic.Bool // everything, both ways, and say nothing
	deaf     atomic.Bool // to the broker's PUBACKs
	swallows atomic.Int64
}

func newCable(t testing.TB, b *mosquitto.Broker) *cable {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{url: "mqtt://" + l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", net.JoinHostPort(b.Host, strconv.Itoa(b.Port)))
			if err != nil {
				in.Close()
				continue
			}
			s := &strand{in: in, out: out}
			c.mu.Lock()
			c.live = append(c.live, s)
			c.mu.Unlock()
			wg.Go(func() { c.up(s); s.end() })
			wg.Go(func() { s.down(); s.end() })
		}
	})
	t.Cleanup(func() { l.Close(); c.cut(); wg.Wait() })
	return c
}

func (s *strand) close() {
	s.in.Close()
	s.out.Close()
}

// end passes on that one side has closed, unless it swallows that too.
func (s *strand) end() {
	if !s.swallow.Load() {
		s.close()
	}
}

// each does something to every connection there is.
func (c *cable) each(f func(*strand)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.live {
		f(s)
	}
}

// cut breaks what goes through the cable.
func (c *cable) cut() {
	c.each((*strand).close)
	c.mu.Lock()
	c.live = nil
	c.mu.Unlock()
}

func (c *cable) up(s *strand) {
	buf := make([]byte, 2048)
	for {
		n, err := s.in.Read(buf)
		if err != nil {
			return
		}
		if c.rate > 0 { // this is the line, not a wait for something
			time.Sleep(time.Duration(n) * time.Second / time.Duration(c.rate))
		}
		if s.swallow.Load() {
			continue
		}
		if _, err := s.out.Write(buf[:n]); err != nil {
			return
		}
	}
}

// down carries whole packets, so that some can be left out.
func (s *strand) down() {
	in := bufio.NewReader(s.out)
	for {
		packet, err := readPacket(in)
		if err != nil {
			return
		}
		if s.swallow.Load() {
			continue
		}
		if packet[0]>>4 == 4 && s.deaf.Load() {
			s.swallows.Add(1)
			continue
		}
		if _, err := s.in.Write(packet); err != nil {
			return
		}
	}
}

// readPacket reads an MQTT packet as it is.
func readPacket(in *bufio.Reader) ([]byte, error) {
	first, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	packet, length := []byte{first}, 0
	for shift := 0; ; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return nil, err
		}
		packet = append(packet, b)
		length |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, err
	}
	return append(packet, body...), nil
}
