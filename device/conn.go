package device

import (
	"net"
	"sync"
)

// countedConn counts bytes for the link and closes once, whoever closes first.
type countedConn struct {
	Conn
	link *Link
	shut func() error
}

// count makes c count for the link.
func (l *Link) count(c Conn) *countedConn {
	return &countedConn{Conn: c, link: l, shut: sync.OnceValue(c.Close)}
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.link.mu.Lock()
	c.link.status.BytesIn += uint64(n)
	c.link.mu.Unlock()
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.link.mu.Lock()
	c.link.status.BytesOut += uint64(n)
	c.link.mu.Unlock()
	return n, err
}

func (c *countedConn) Close() error { return c.shut() }

// SetRate changes the rate where the line has one.
func (c *countedConn) SetRate(baud int) error { return SetRate(c.Conn, baud) }

// ResetInput lets the line empty its own buffer where it can.
func (c *countedConn) ResetInput() error { return Drain(c.Conn) }

// Inputs gives the modem lines where the line has them.
func (c *countedConn) Inputs() (Inputs, error) { return ReadInputs(c.Conn) }

// RemoteAddr names the other end where there is one.
func (c *countedConn) RemoteAddr() net.Addr {
	if r, ok := c.Conn.(interface{ RemoteAddr() net.Addr }); ok {
		return r.RemoteAddr()
	}
	return nil
}

// Peer is the address of the device at the other end without its port, "" where
// there is none, as on a serial line.
func Peer(c Conn) string {
	r, ok := c.(interface{ RemoteAddr() net.Addr })
	if !ok || r.RemoteAddr() == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr().String())
	if err != nil {
		return ""
	}
	return host
}
