package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"syscall"
	"time"
)

const (
	takeovers      = 3               // in a row, within
	takeoverWithin = 5 * time.Minute // mean another client
	probeTimeout   = time.Second
	probePause     = 100 * time.Millisecond
	mostLarge      = 12      // ends at large messages that do not lengthen the wait
	smallMessage   = 1 << 10 // bytes that every broker takes
)

var (
	errRival = errors.New("the broker ends each connection soon after it came up")
	errTaken = errors.New("ended by the broker")
	errLarge = errors.New("ended by the broker at a message larger than all that it confirmed before")

	errPacketLimit = errors.New("the broker ends each connection at a large message")
)

// rival tells another client with the same client id, for which the broker ends
// our connection whenever it connects, from a broker that stops: that one is not
// there a moment later.
type rival struct {
	taken []time.Time // ends of connections in a row
}

// found says that there is one.
func (r *rival) found() bool { return len(r.taken) >= takeovers }

// ended takes note of how a connection, or an attempt, ended; it says whether
// the broker took the connection away.
func (r *rival) ended(taken bool, now time.Time) {
	if !taken {
		r.taken = nil
		return
	}
	for len(r.taken) > 0 && now.Sub(r.taken[0]) > takeoverWithin {
		r.taken = r.taken[1:]
	}
	r.taken = append(r.taken, now)
}

// thrownOff judges the end of a connection that the broker had accepted and ended
// while it went on itself: with a message in flight that is larger than all that
// this connection had carried, that one may be more than the broker takes; soon
// after it had come up whole, there may be a rival; before its echo came back, it
// was for want of rights. It gives nil for any other end.
func (c *Client) thrownOff(ctx context.Context, s *session, address *url.URL) error {
	c.mu.Lock()
	accepted, admitted, soon := s.accepted, s.admitted, time.Since(s.opened) < c.times.steady
	c.mu.Unlock()
	var why error
	handed := s.handed.Load()
	switch {
	case accepted && handed > smallMessage && handed > s.confirmed.Load():
		why = fmt.Errorf("%w, with %d bytes", errLarge, handed)
	case admitted && soon:
		why = errTaken
	case accepted && !admitted && c.opts.Echo != "":
		why = errNotEchoed
	}
	if why == nil || ctx.Err() != nil || !errors.Is(s.ended, io.EOF) && !errors.Is(s.ended, syscall.ECONNRESET) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	select { // a broker that dies closes its port a moment later than its connections
	case <-time.After(probePause):
	case <-ctx.Done():
	}
	probe, err := new(net.Dialer).DialContext(ctx, "tcp", address.Host)
	if err != nil {
		return nil
	}
	probe.Close()
	return why
}

func (c *Client) rivalHint() string {
	return fmt.Sprintf("Another client uses the client id %s, and each throws the other off: find it, perhaps a second agent of this hall or a copy of its machine. If there is none, the broker's log says why it closes the connection.", c.opts.ClientID)
}
