package mqtt

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// mostWaiting bounds the messages of a session that paho has not taken yet.
const mostWaiting = 1024

// item is a message to publish and whom to tell.
type item struct {
	Message
	done func(error)
}

// session is one connection. A single goroutine, the pump, hands messages to
// paho, states first; another, the completer, waits for the confirmations in the
// same order. What is published ahead goes after the states and before the rest.
// A message that paho does not take holds up the pump of a dead
// connection only: whoever publishes never blocks.
type session struct {
	c      *Client
	ctx    context.Context // ends with the connection; carries the session
	cancel context.CancelCauseFunc
	line   *line
	paho   paho.Client
	wake   chan struct{}
	sent   chan token
	echoes chan string // what came on the topic of the echo

	accepted bool  // by the broker
	ended    error // why nothing more could be read when it was given up, nil if something could
	opened   time.Time
	admitted bool // publishers were let in; under the client's mu

	handed    atomic.Int64 // bytes of the largest message that paho has taken
	confirmed atomic.Int64 // and of the largest that the broker has confirmed

	mu    sync.Mutex
	over  bool
	ahead []item
	queue []item
	dirty []string // topics whose state is to be sent, oldest first
}

// token is a message that paho has taken.
type token struct {
	paho.Token
	bytes int64
	done  func(error)
}

// publish hands a message to paho. One goroutine at a time may call it.
func (s *session) publish(it item) token {
	bytes := int64(len(it.Topic) + len(it.Payload))
	s.handed.Store(max(s.handed.Load(), bytes))
	return token{s.paho.Publish(it.Topic, 1, it.Retain, it.Payload), bytes, it.done}
}

// settled takes note of a confirmation. One goroutine at a time may call it.
func (s *session) settled(t token) {
	s.confirmed.Store(max(s.confirmed.Load(), t.bytes))
}

type sessionKey struct{}

func newSession(ctx context.Context, c *Client) *session {
	s := &session{c: c, wake: make(chan struct{}, 1), sent: make(chan token, 256), echoes: make(chan string, 8)}
	ctx, s.cancel = context.WithCancelCause(ctx)
	s.ctx = context.WithValue(ctx, sessionKey{}, s)
	return s
}

func sessionOf(ctx context.Context) *session {
	s, _ := ctx.Value(sessionKey{}).(*session)
	return s
}

func (s *session) enqueue(it item, ahead bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := &s.queue
	if ahead {
		queue = &s.ahead
	}
	switch {
	case s.over || s.ctx.Err() != nil:
		return ErrLost
	case len(*queue) >= mostWaiting:
		return ErrBusy
	}
	*queue = append(*queue, it)
	s.c.inFlight.Add(1)
	s.signal()
	return nil
}

// touch says that the state of a topic is to be sent.
func (s *session) touch(topic string) {
	s.mu.Lock()
	if !s.over && !slices.Contains(s.dirty, topic) {
		s.dirty = append(s.dirty, topic)
		s.signal()
	}
	s.mu.Unlock()
}

// untouch takes back what touch said.
func (s *session) untouch(topic string) {
	s.mu.Lock()
	s.dirty = slices.DeleteFunc(s.dirty, func(t string) bool { return t == topic })
	s.mu.Unlock()
}

func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next gives what is to be published next: a state, then what goes ahead, then
// the rest.
func (s *session) next() (item, bool) {
	s.mu.Lock()
	for len(s.dirty) > 0 {
		topic := s.dirty[0]
		s.dirty = s.dirty[1:]
		s.mu.Unlock()
		if it, ok := s.c.state(topic); ok {
			s.c.inFlight.Add(1)
			return it, true
		}
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	queue := &s.ahead
	if len(*queue) == 0 {
		queue = &s.queue
	}
	if len(*queue) == 0 {
		return item{}, false
	}
	it := (*queue)[0]
	(*queue)[0] = item{}
	*queue = (*queue)[1:]
	return it, true
}

// pump publishes until the session is over.
func (s *session) pump() {
	defer close(s.sent)
	for s.ctx.Err() == nil {
		it, ok := s.next()
		if !ok {
			select {
			case <-s.wake:
			case <-s.ctx.Done():
			}
			continue
		}
		s.sent <- s.publish(it)
	}
}

// complete tells what became of the messages, until the pump has ended and all
// are told. After the session's end it does not wait any more.
func (s *session) complete() {
	for t := range s.sent {
		select {
		case <-t.Done():
		case <-s.ctx.Done():
		}
		err := ErrLost
		select {
		case <-t.Done():
			err = t.Error()
		default:
		}
		if err != nil {
			s.cancel(err) // what paho could not send leaves the rest in doubt
		} else {
			s.settled(t)
		}
		s.c.inFlight.Add(-1)
		t.done(err)
	}
}

// finish fails what paho has not taken; nothing is queued after it.
func (s *session) finish() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.refuse()
}

// refuse fails what paho has not taken.
func (s *session) refuse() {
	s.mu.Lock()
	queue := append(s.ahead, s.queue...)
	s.ahead, s.queue = nil, nil
	s.mu.Unlock()
	for _, it := range queue {
		s.c.inFlight.Add(-1)
		it.done(ErrLost)
	}
}

// state gives the newest payload of a topic as a message; none when it was
// cleared, and that confirmed, or forgotten meanwhile.
func (c *Client) state(topic string) (item, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.states[topic]
	if r == nil {
		return item{}, false
	}
	version, payload := r.version, r.payload
	return item{Message{topic, true, payload}, func(err error) {
		if err != nil || len(payload) > 0 {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if r.version == version && c.states[topic] == r {
			delete(c.states, topic)
			c.order = slices.DeleteFunc(c.order, func(t string) bool { return t == topic })
		}
	}}, true
}
