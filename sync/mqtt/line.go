package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
)

// parseURL reads a broker's URL and completes its port.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errURL, err)
	}
	port := map[string]string{"mqtt": "1883", "mqtts": "8883"}[u.Scheme]
	if port == "" || u.Hostname() == "" {
		return nil, fmt.Errorf("%w: %q is neither mqtt://host:port nor mqtts://host:port", errURL, raw)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return u, nil
}

// dial opens the network connection; paho gets it ready. config is nil where
// there is no TLS.
func (c *Client) dial(ctx context.Context, address *url.URL, config *tls.Config) (*line, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address.Host)
	if err != nil {
		return nil, err
	}
	if config != nil {
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			conn.Close()
			var invalid x509.CertificateInvalidError
			if errors.As(err, &invalid) {
				c.note(func(s *Status) { s.BrokerExpires = invalid.Cert.NotAfter })
			}
			return nil, fmt.Errorf("%w: %w", errTLS, err)
		}
		shown := secured.ConnectionState().PeerCertificates[0]
		c.note(func(s *Status) { s.BrokerExpires = shown.NotAfter })
		conn = secured
	}
	l := &line{Conn: conn, in: bufio.NewReaderSize(conn, 16<<10)}
	l.topics.Store(int32(len(c.opts.Subscriptions))) // until the first is on its way
	return l, nil
}

var (
	errTLS      = errors.New("TLS handshake")
	errProtocol = errors.New("broker breaks the protocol")
)

// mostBytes of a packet from the broker; paho would allocate whatever it names.
const mostBytes = 1 << 20

// line is a network connection whose incoming packets are checked before paho
// reads them: paho trusts the number of codes in a SUBACK, takes a CONNACK code
// it does not know for a success, and reads three times per packet, which a
// buffer makes one.
type line struct {
	net.Conn
	in     *bufio.Reader
	topics atomic.Int32 // of our last SUBSCRIBE
	rest   int          // bytes of the present packet that paho has not read
	wrong  atomic.Pointer[error]
	ended  atomic.Pointer[error] // the first error of a read
}

// fault gives what the broker did against the protocol, nil if nothing.
func (l *line) fault() error {
	if wrong := l.wrong.Load(); wrong != nil {
		return *wrong
	}
	return nil
}

func (l *line) Read(p []byte) (int, error) {
	if l.rest == 0 {
		if err := l.next(); err != nil {
			if errors.Is(err, errProtocol) {
				l.wrong.Store(&err)
			}
			l.ended.CompareAndSwap(nil, &err)
			return 0, err
		}
	}
	n, err := l.in.Read(p[:min(len(p), l.rest)])
	l.rest -= n
	if err != nil {
		l.ended.CompareAndSwap(nil, &err)
	}
	return n, err
}

// end gives why nothing more can be read, nil while something can.
func (l *line) end() error {
	if ended := l.ended.Load(); ended != nil {
		return *ended
	}
	return nil
}

// next looks at the header of the next packet, without taking it.
func (l *line) next() error {
	var length, size int
	for i := 1; ; i++ {
		if i > 4 {
			return fmt.Errorf("%w: length of more than four bytes", errProtocol)
		}
		b, err := l.in.Peek(i + 1)
		if err != nil {
			return err
		}
		length |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			size = i + 1
			break
		}
	}
	head, err := l.in.Peek(1)
	if err != nil {
		return err
	}
	kind := head[0] >> 4
	switch {
	case length > mostBytes:
		return fmt.Errorf("%w: packet of %d bytes", errProtocol, length)
	case kind == 2 && length != 2, kind == 4 && length != 2, kind == 9 && length != 2+int(l.topics.Load()):
		return fmt.Errorf("%w: packet of type %d has %d bytes", errProtocol, kind, length)
	}
	if kind == 2 {
		b, err := l.in.Peek(size + length)
		if err != nil {
			return err
		}
		if code := b[len(b)-1]; code > 5 {
			return fmt.Errorf("%w: connect answered with code %d", errProtocol, code)
		}
	}
	l.rest = size + length
	return nil
}
