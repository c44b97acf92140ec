package lan

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// limits keep a caller that opens without end from taking what the others need:
// the process has one table of files for browsers, devices and stores alike.
type limits struct {
	connections int // in all
	perAddress  int // connections of one remote address
	streams     int // streams without a token of one remote address

	mu      sync.Mutex
	open    int
	byConn  map[string]int // open connections by remote address
	byFlow  map[string]int // open streams without a token by remote address
	refused map[string]uint64
}

func newLimits() *limits {
	return &limits{
		connections: 512, perAddress: 32, streams: 16,
		byConn: map[string]int{}, byFlow: map[string]int{},
		refused: map[string]uint64{"connections": 0, "address": 0, "streams": 0},
	}
}

// connect counts a connection of an address and gives what ends the counting,
// or nil when it is one too many.
func (l *limits) connect(address string) (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.connections:
		l.refused["connections"]++
		return nil
	case l.byConn[address] >= l.perAddress:
		l.refused["address"]++
		return nil
	}
	l.open++
	l.byConn[address]++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open--
		less(l.byConn, address)
	})
}

// stream does for streams without a token what connect does for connections.
func (l *limits) stream(address string) (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byFlow[address] >= l.streams {
		l.refused["streams"]++
		return nil
	}
	l.byFlow[address]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		less(l.byFlow, address)
	}
}

// less counts one down and forgets an address that has none left.
func less(count map[string]int, address string) {
	if count[address]--; count[address] == 0 {
		delete(count, address)
	}
}

// Refused gives what was turned away since the start, by the limit that it was
// beyond: "connections" of all, connections of one "address", "streams".
func (s *Server) Refused() map[string]uint64 {
	s.limits.mu.Lock()
	defer s.limits.mu.Unlock()
	return maps.Clone(s.limits.refused)
}

// remoteAddress is the caller's address without its port.
func remoteAddress(hostport string) string {
	if a, err := netip.ParseAddrPort(hostport); err == nil {
		return a.Addr().Unmap().String()
	}
	return hostport
}

// repeatLog is the time between two words about the same trouble.
const repeatLog = 30 * time.Second

// limitedListener hands on the connections that are within the limits and closes
// the others at once. It tells when none can be accepted, as when the process
// has no file left: the page is away then, and nothing else would say why.
type limitedListener struct {
	net.Listener
	limits *limits
	log    *slog.Logger

	failed int // since it was last told; Accept is called by one goroutine
	told   time.Time
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			l.tell(err)
			return nil, err
		}
		if leave := l.limits.connect(remoteAddress(c.RemoteAddr().String())); leave != nil {
			return limitedConn{c, leave}, nil
		}
		c.Close()
	}
}

func (l *limitedListener) tell(err error) {
	if errors.Is(err, net.ErrClosed) {
		return
	}
	l.failed++
	if !l.told.IsZero() && time.Since(l.told) < repeatLog {
		return
	}
	l.log.Warn("cannot accept connections", "address", l.Addr().String(), "count", l.failed, "err", err)
	l.failed, l.told = 0, time.Now()
}

// limitedConn is counted until it is closed.
type limitedConn struct {
	net.Conn
	leave func()
}

func (c limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite lets the HTTP server end its side first, so that a caller whose
// body was refused can still read why.
func (c limitedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// limitStreams serves a stream that needs no token, within the limit.
func (s *Server) limitStreams(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		leave := s.limits.stream(remoteAddress(r.RemoteAddr))
		if leave == nil {
			w.Header().Set("Retry-After", "30")
			refuse(w, http.StatusTooManyRequests, "too_many", "too many streams from this address; close some")
			return
		}
		defer leave()
		next(w, r)
	}
}
