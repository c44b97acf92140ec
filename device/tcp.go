package device

import (
	"context"
	"net"
	"time"
)

const connectTimeout = 5 * time.Second

// TCP dials a serial device server or a device with a socket of its own. Keep-
// alive finds a dead peer in about half a minute even when nobody writes.
func TCP(a Address) Dial {
	dialer := net.Dialer{
		Timeout:         connectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	return func(ctx context.Context) (Conn, error) {
		c, err := dialer.DialContext(ctx, "tcp", a.Host)
		if err != nil {
			return nil, err // net's own text names the address
		}
		return c, nil
	}
}
