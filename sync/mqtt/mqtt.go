// Package mqtt keeps one MQTT 3.1.1 session after another to a broker: will,
// subscriptions, birth, retained state, then whatever is published.
//
// MQTT is a pipe here, not a store. Each connection is a new client of
// paho.mqtt.golang with a clean session, without its reconnecting, its retrying
// and its files: only then does a publish token without an error mean that the
// broker has confirmed that very message. What is not confirmed when a
// connection ends is reported as failed, and whoever has it on disk sends it
// again.
//
// Retained state is the exception: Retain keeps the newest payload of each
// topic and sends it at once, ahead of everything that is queued, and again
// after each connect.
//
// A broker may confirm what its rights forbid and throw it away, and MQTT 3.1.1
// has no word for that. So the client sends itself an echo over the broker, and
// no connection carries messages before its echo has come back; states go all
// the same. Rights taken away later are noticed at the next echo, which is up to
// five minutes away. One lost echo keeps messages back and is no proof: a cluster
// that has just lost a server may hang up, or deliver late. So missing rights are
// told only when a second one is lost, some time after the first.
//
// Limits, of paho: a message in the midst of being handed over when the
// connection is lost is reported failed only after the write timeout of 5 s,
// though the next connection does not wait for it; packets are written one
// system call each; a handler that blocks would block pings, so what arrives
// goes to a bounded queue and is dropped, and counted, when that is full. Paho
// indexes what a broker answers without looking; package mqtt checks the packets
// before paho sees them.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrLost says that a connection ended before a message was confirmed.
var ErrLost = errors.New("connection lost before the message was confirmed")

// ErrBusy says that too many messages wait for the connection.
var ErrBusy = errors.New("too many messages wait")

var errStopped = errors.New("client has stopped")

// Message to publish with QoS 1.
type Message struct {
	Topic   string
	Retain  bool
	Payload []byte
}

// Options of a client. Files are read anew at each connect, and looked at while
// connected: when they change, and are in order, the client connects anew.
type Options struct {
	URL          string // mqtt://host:1883 or mqtts://host:8883
	ClientID     string
	Username     string
	PasswordFile string // its first line is the password
	CAFile       string // PEM, in place of the system's authorities
	CertFile     string // PEM, with KeyFile, for mutual TLS
	KeyFile      string
	KeepAlive    time.Duration // 0 = 20 s

	// Will, Birth and Farewell may be nil. session grows with each attempt to
	// connect, from 1, so that a will is told from the birth that comes after it.
	Will     func(session uint64) Message // published by the broker when the connection breaks
	Birth    func(session uint64) Message // published first on each connection
	Farewell func() Message               // published on a clean stop

	// Echo is the topic on which the client hears itself, "" for no echo. It must be
	// this client's alone, and allowed for both ways at the broker.
	Echo string

	Subscriptions []string
	// Handle is called in the order of arrival, from one goroutine.
	Handle func(topic string, payload []byte, retained bool)

	Log *slog.Logger
}

// State of a client.
type State string

const (
	Connected State = "connected"
	Waiting   State = "waiting"
)

// Status is a snapshot.
type Status struct {
	State    State     `json:"state"`
	Since    time.Time `json:"since"`          // of State
	Code     string    `json:"code,omitempty"` // stable cause of what is wrong, see the package's codes
	Err      string    `json:"err,omitempty"`
	Hint     string    `json:"hint,omitempty"`     // what an operator can do
	Connects uint64    `json:"connects"`           // connections that came up
	InFlight int       `json:"in_flight"`          // messages not confirmed
	Overflow uint64    `json:"overflow,omitempty"` // messages dropped because Handle was too slow

	Echo          time.Duration `json:"echo,omitempty"`          // round trip of the newest echo that came back
	EchoesLost    uint64        `json:"echoes_lost,omitempty"`   // echoes that the broker confirmed and that did not come back
	OwnExpires    time.Time     `json:"own_expires,omitzero"`    // end of the client's certificate
	BrokerExpires time.Time     `json:"broker_expires,omitzero"` // end of the certificate that the broker showed last
}

// Client publishes and subscribes while Run runs. All methods may be called from
// any goroutine.
type Client struct {
	opts         Options
	backoff      func(attempt int) time.Duration
	writeTimeout time.Duration
	times        times
	rival        rival // of Run alone
	large        int   // connections in a row that ended with errLarge; of Run alone
	inbox        chan inbound

	inFlight atomic.Int64
	overflow atomic.Uint64

	mu       sync.Mutex
	status   Status
	states   map[string]*retained
	order    []string                // topics of states, in the order of their first Retain
	current  *session                // takes changes of states, nil while not connected
	ready    context.Context         // under which current takes messages, nil while it takes none
	shut     context.CancelCauseFunc // ends ready
	noEcho   time.Time               // since when echoes are lost, zero after one that came back
	noRights bool                    // said so by lost echoes
	wrong    [faults]error           // with the connection that is up
	up       chan struct{}           // closed at the next ready
	stopped  chan struct{}
}

// inbound is a message that arrived.
type inbound struct {
	topic    string
	payload  []byte
	retained bool
}

// retained is the newest payload of a topic.
type retained struct {
	payload []byte
	version uint64
}

// New returns a client; Run connects it.
func New(o Options) *Client {
	if o.KeepAlive == 0 {
		o.KeepAlive = 20 * time.Second
	}
	subscriptions := slices.Clone(o.Subscriptions)
	if o.Echo != "" {
		subscriptions = append(subscriptions, o.Echo)
	}
	o.Subscriptions = slices.Compact(slices.Sorted(slices.Values(subscriptions)))
	return &Client{
		opts:         o,
		backoff:      jitter,
		writeTimeout: writeTimeout,
		times:        usualTimes,
		inbox:        make(chan inbound, 256),
		status:       Status{State: Waiting, Since: time.Now()},
		states:       map[string]*retained{},
		up:           make(chan struct{}),
		stopped:      make(chan struct{}),
	}
}

// Session waits until a connection is up: subscribed, birth and states
// confirmed, and the echo come back. The context it returns ends when that
// connection is lost, or an echo is. An error means that ctx or the client has
// ended.
func (c *Client) Session(ctx context.Context) (context.Context, error) {
	for {
		c.mu.Lock()
		ready, up := c.ready, c.up
		c.mu.Unlock()
		if ready != nil && ready.Err() == nil {
			return ready, nil
		}
		select {
		case <-up:
		case <-c.stopped:
			return nil, errStopped
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Publish hands a message to the connection of a session, with QoS 1, in the
// order of calls. It does not block and keeps payload until it calls done, which
// it does exactly once, perhaps before it returns: with nil only when the broker
// has confirmed the message.
func (c *Client) Publish(session context.Context, topic string, retain bool, payload []byte, done func(error)) {
	hand(session, false, item{Message{topic, retain, payload}, done})
}

// PublishAhead is Publish for what must not wait: it overtakes everything that
// Publish has queued.
func (c *Client) PublishAhead(session context.Context, topic string, retain bool, payload []byte, done func(error)) {
	hand(session, true, item{Message{topic, retain, payload}, done})
}

func hand(session context.Context, ahead bool, it item) {
	err := ErrLost
	if s := sessionOf(session); s != nil && session.Err() == nil {
		err = s.enqueue(it, ahead)
	}
	if err != nil {
		it.done(err)
	}
}

// Reconnect ends the connection of a session in good order, so that the broker
// publishes no will, and the client connects anew.
func (c *Client) Reconnect(session context.Context, why string) {
	if s := sessionOf(session); s != nil {
		s.cancel(fmt.Errorf("%w: %s", errRenew, why))
	}
}

// Retain sets the retained payload of a topic: sent now, if connected, and again
// after each connect, until another one replaces it. An empty payload clears the
// topic at the broker, and is forgotten once that is confirmed.
func (c *Client) Retain(topic string, payload []byte) {
	c.mu.Lock()
	r := c.states[topic]
	if r == nil {
		r = &retained{}
		c.states[topic] = r
		c.order = append(c.order, topic)
	}
	r.payload = payload
	r.version++
	s := c.current
	c.mu.Unlock()
	if s != nil {
		s.touch(topic)
	}
}

// Forget stops the renewal of a retained topic, which stays at the broker as it
// is: someone else speaks there from now on.
func (c *Client) Forget(topic string) {
	c.mu.Lock()
	delete(c.states, topic)
	c.order = slices.DeleteFunc(c.order, func(t string) bool { return t == topic })
	s := c.current
	c.mu.Unlock()
	if s != nil {
		s.untouch(topic)
	}
}

// Status returns a snapshot.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.InFlight, s.Overflow = int(c.inFlight.Load()), c.overflow.Load()
	return s
}
