package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	mostCallers = 64       // connections of devices at a time, for each line
	maxDatagram = 64 << 10 // bytes, more than any network carries

	acceptTries = 20 // in a row that may fail before the listener is opened anew
	acceptAgain = 50 * time.Millisecond
)

// callers is an open listening address: each device that comes is a Conn.
type callers interface {
	io.Closer
	accept() (c Conn, from netip.Addr, err error)
}

// NewListenLink makes the link of a line to which devices come by themselves:
// each connection, and each datagram, is a Conn of its own for use. The link is
// Online while it listens; what the devices say of themselves is not its matter.
// At most 64 are served at a time and only from the addresses that a allows;
// others are closed at once and counted.
func NewListenLink(name string, a Address, use Use, log *slog.Logger) *Link {
	l := newLink(name, log)
	l.open = func(ctx context.Context) (io.Closer, error) { return listen(ctx, a) }
	l.work = func(ctx context.Context, c io.Closer) error { return l.receive(ctx, c.(callers), a, use) }
	return l
}

// receive serves those who come until the listener fails or ctx ends, and all of
// them have gone.
func (l *Link) receive(ctx context.Context, from callers, a Address, use Use) error {
	ctx, cancel := context.WithCancel(ctx)
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel()
	l.hear()
	room := make(chan struct{}, mostCallers)
	failed := 0
	for {
		c, addr, err := from.accept()
		switch {
		case err == nil:
			failed = 0
		case errors.Is(err, net.ErrClosed) || failed == acceptTries:
			return err
		default: // files are short for a moment, or the trouble is that of who came
			failed++
			if err := Pause(ctx, acceptAgain); err != nil {
				return err
			}
			continue
		}
		if !a.allows(addr) || !enter(ctx, room, a.Scheme == SchemeUDPListen) {
			l.refuse()
			c.Close()
			continue
		}
		served.Go(func() {
			defer func() { <-room }()
			line := l.count(c)
			defer line.Close()
			defer context.AfterFunc(ctx, func() { line.Close() })()
			use(ctx, line, l.hear) // how one connection ended is no trouble of the line
		})
	}
}

// enter takes a place. A datagram waits for one, in the system's buffer are more;
// a connection does not, since those that hold the places may hold them for long.
func enter(ctx context.Context, room chan struct{}, wait bool) bool {
	select {
	case room <- struct{}{}:
		return true
	default:
	}
	if !wait {
		return false
	}
	select {
	case room <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// allows says whether a device may come from there. Without a list, only this
// machine may.
func (a Address) allows(from netip.Addr) bool {
	from = from.Unmap()
	if a.Allow == "" {
		return from.IsLoopback()
	}
	prefixes, err := allowed(a.Allow)
	if err != nil {
		return false // ParseAddress has refused it already
	}
	for _, p := range prefixes {
		if p.Contains(from) {
			return true
		}
	}
	return false
}

func (l *Link) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status.Refused++
}

// TryListen opens a listening address and closes it again.
func TryListen(ctx context.Context, a Address) error {
	l, err := listen(ctx, a)
	if err != nil {
		return err
	}
	return l.Close()
}

// listen opens a listening address.
func listen(ctx context.Context, a Address) (callers, error) {
	var lc net.ListenConfig
	if a.Scheme == SchemeUDPListen {
		c, err := lc.ListenPacket(ctx, "udp", a.Host)
		if err != nil {
			return nil, err
		}
		return &datagrams{UDPConn: c.(*net.UDPConn)}, nil
	}
	l, err := lc.Listen(ctx, "tcp", a.Host)
	if err != nil {
		return nil, err
	}
	return connections{l}, nil
}

type connections struct{ net.Listener }

func (l connections) accept() (Conn, netip.Addr, error) {
	c, err := l.Accept()
	if err != nil {
		return nil, netip.Addr{}, err
	}
	return c, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(), nil
}

type datagrams struct {
	*net.UDPConn
	buf [maxDatagram]byte
}

func (d *datagrams) accept() (Conn, netip.Addr, error) {
	n, from, err := d.ReadFromUDPAddrPort(d.buf[:])
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("receive: %w", err)
	}
	return &datagram{socket: d.UDPConn, from: from, rest: bytes.Clone(d.buf[:n])}, from.Addr(), nil
}

// datagram is a Conn that ends behind the one datagram that came; what is
// written goes back to who sent it.
type datagram struct {
	socket *net.UDPConn
	from   netip.AddrPort

	mu     sync.Mutex
	rest   []byte
	closed bool
}

func (d *datagram) Read(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return 0, os.ErrClosed
	case len(d.rest) == 0:
		return 0, io.EOF
	}
	n := copy(b, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func (d *datagram) Write(b []byte) (int, error) { return d.socket.WriteToUDPAddrPort(b, d.from) }

func (d *datagram) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

// Deadlines say nothing: all that there is to read has come.
func (d *datagram) SetReadDeadline(time.Time) error  { return nil }
func (d *datagram) SetWriteDeadline(time.Time) error { return nil }

// RemoteAddr is who sent the datagram.
func (d *datagram) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(d.from) }
