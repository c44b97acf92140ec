package mqtt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

var errNotEchoed = errors.New("echo did not come back")

// echo publishes random words to the client itself until the session is over,
// and lets publishers in, or shows them out, by what comes back. An echo that
// the broker does not even confirm says nothing about rights: the ping finds
// out about a broker that is silent.
func (c *Client) echo(s *session) {
	for {
		err := c.echoOnce(s)
		wait := c.times.echoEvery
		switch {
		case s.ctx.Err() != nil:
			return
		case errors.Is(err, errNotEchoed):
			c.note(func(st *Status) { st.EchoesLost++ })
			c.expel(s, err)
			if !c.echoLost() {
				wait = c.times.echoSoon
				break
			}
			wait = c.times.echoAgain
			if c.fault(faultEcho, err) {
				_, hint := c.cause(err)
				c.opts.Log.Error("echo lost", "line", c.opts.URL, "err", err, "hint", hint)
			}
		case err != nil:
			c.fault(faultEcho, err)
			wait = c.times.echoAgain
		default:
			c.fault(faultEcho, nil)
			c.admit(s)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// echoLost takes note of a lost echo, on whatever connection, and says whether
// that proves anything: it is not the first in a row, and the first is as long ago
// as an echo may take. A cluster without a leader hangs up several times a second.
func (c *Client) echoLost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noEcho.IsZero() {
		c.noEcho = time.Now()
		return false
	}
	c.noRights = c.noRights || time.Since(c.noEcho) >= c.times.echoWait
	return c.noRights
}

// echoOnce sends one word and waits for it.
func (c *Client) echoOnce(s *session) error {
	word := rand.Text()
	confirmed := make(chan error, 1)
	began := time.Now()
	it := item{Message{c.opts.Echo, false, []byte(word)}, func(err error) { confirmed <- err }}
	if err := s.enqueue(it, true); err != nil {
		return err
	}
	limit := time.NewTimer(c.times.echoWait)
	defer limit.Stop()
	acknowledged := false
	for {
		select {
		case came := <-s.echoes:
			if came == word {
				c.note(func(st *Status) { st.Echo = time.Since(began) })
				return nil
			}
		case err := <-confirmed:
			if err != nil {
				return err
			}
			acknowledged, confirmed = true, nil
		case <-limit.C:
			if !acknowledged {
				return errNoAnswer
			}
			return fmt.Errorf("%w on %s", errNotEchoed, c.opts.Echo)
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

// admit lets publishers in.
func (c *Client) admit(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != s {
		return
	}
	c.noEcho, c.noRights = time.Time{}, false
	if c.ready != nil {
		return
	}
	s.admitted = true
	c.ready, c.shut = context.WithCancelCause(s.ctx)
	close(c.up)
	c.up = make(chan struct{})
}

// expel shows publishers out and keeps the connection.
func (c *Client) expel(s *session, why error) {
	c.mu.Lock()
	if c.current != s || c.ready == nil {
		c.mu.Unlock()
		return
	}
	c.shut(why)
	c.ready, c.shut = nil, nil
	c.mu.Unlock()
	s.refuse()
}
