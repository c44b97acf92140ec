package counter

import (
	"net"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// httpConn is an open line in the hands of net/http.
type httpConn struct {
	device.Conn
	once sync.Once
	gone chan struct{} // closed with it
}

func newHTTPConn(c device.Conn) *httpConn { return &httpConn{Conn: c, gone: make(chan struct{})} }

func (c *httpConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

func (c *httpConn) LocalAddr() net.Addr  { return nowhere{} }
func (c *httpConn) RemoteAddr() net.Addr { return nowhere{} }

func (c *httpConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// nowhere is an address that nobody asks for: device.Peer knows the other end.
type nowhere struct{}

func (nowhere) Network() string { return "line" }
func (nowhere) String() string  { return "line" }

// oneConn is a listener to which one connection comes. Its second Accept waits
// until that has gone.
type oneConn struct {
	conn  *httpConn
	given bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return l.conn, nil
	}
	<-l.conn.gone
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return nowhere{} }
