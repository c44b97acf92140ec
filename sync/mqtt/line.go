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
	"os"
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

// dial opens the network connection; paho gets it ready.
func (c *Client) dial(ctx context.Context, address *url.URL) (*line, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var config *tls.Config
	if address.Scheme == "mqtts" {
		var err error
		if config, err = c.tls(address.Hostname()); err != nil {
			return nil, err
		}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address.Host)
	if err != nil {
		return nil, err
	}
	if config != nil {
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("%w: %w", errTLS, err)
		}
		conn = secured
	}
	return &line{Conn: conn, in: bufio.NewReaderSize(conn, 16<<10), topics: len(c.opts.Subscriptions)}, nil
}

func (c *Client) tls(host string) (*tls.Config, error) {
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if c.opts.CAFile != "" {
		pem, err := os.ReadFile(c.opts.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: read authorities: %w", errFile, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: read authorities: no certificate in %s", errFile, c.opts.CAFile)
		}
	}
	if c.opts.CertFile != "" {
		own, err := tls.LoadX509KeyPair(c.opts.CertFile, c.opts.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%w: read certificate: %w", errFile, err)
		}
		config.Certificates = []tls.Certificate{own}
	}
	return config, nil
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
	topics int // of our one SUBSCRIBE
	rest   int // bytes of the present packet that paho has not read
	wrong  atomic.Pointer[error]
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
			return 0, err
		}
	}
	n, err := l.in.Read(p[:min(len(p), l.rest)])
	l.rest -= n
	return n, err
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
	case kind == 2 && length != 2, kind == 4 && length != 2, kind == 9 && length != 2+l.topics:
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
