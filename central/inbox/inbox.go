// Package inbox is what a consumer of the halls' streams needs: each record has
// its effect exactly once and in order, though messages come twice, late, in
// another order or not at all, and brokers, databases and instances die.
//
// One SQL transaction holds the comparison with the mark, the effect, and the
// new mark. The mark of a stream is the sequence up to which an epoch has had
// its effect; what is not above it is a duplicate. After the commit the mark goes
// out on ack/{stream}, retained, the newest only. A record that does not follow
// the mark is put aside until those before it come; when they do not, the agent
// is asked to send again.
//
// Epochs. A new epoch starts at mark 0. Once a record of it was taken, the older
// ones are closed: nobody waits for or asks after what is missing in them; a
// record that follows the mark of a closed epoch still has its effect, since it
// is a true record that never had one, and everything else of them is counted as
// late and dropped. A closed epoch is acknowledged without being retained, so
// that what is retained always speaks of the newest. Marks of closed epochs are
// kept for thirty days. The first record of an epoch is a gap that tells how far
// the agent knows the old one: when more of that is missing here, the new epoch
// waits until it was asked for four times.
//
// An agent that lost its disk may count its epochs anew. What comes of an epoch
// that was never heard of and sorts before the newest is dropped, and the status
// of the hall says so with a hint: nobody here can tell a new disk from an old one
// that was put back, and to take the agent's word for it would give records their
// effect twice.
//
// Gaps. A gap counts as the record that carries its last sequence. The effect is
// given of a gap only what this consumer has not had: of one that reaches below
// the mark, the part above it. A gap that names another epoch than its own does
// the same for the mark of that other one. A database that is new, or was put back
// from a copy, lacks what the agent gave away meanwhile and no longer has: when the
// agent's status says so, and asking was in vain, the inbox makes a gap of its own
// of that, with the reason restore. So it does of an old epoch that a new one waits
// for: of what is missing before the first record that the agent sent of it, or up
// to its end when none came.
//
// Many instances share the halls by a lease per hall in the database, whose clock
// alone judges it. Each transaction begins with the lease, so that an instance
// that lost it cannot apply anything. One that could not renew its leases for as
// long as they live, by its own clock, leaves its halls, and acknowledges nothing
// more; so does one that has no connection to the broker for as long, and counts
// no more among those that share. Every instance listens to all halls, and
// drops at the topic what it does not hold: MQTT 3.1.1 has no shared
// subscriptions, to subscribe hall by hall would put a round trip and a loss into
// each take-over, and to drop a message unread costs a microsecond. Halls are
// found by their status, which is retained, or by their records; the table of
// leases remembers them.
//
// Limits: an effect has IdleLimit of package store between two statements, and a
// transaction, which may be of all records put aside and 1 MiB of new ones, 15 s. A
// message that is no JSON, or whose records do not say where they stand, is counted
// and cannot be stepped over, since nobody knows what it held; a gap that makes no
// sense goes where rejected records go. The hall of a record is that of its topic,
// which the broker's rules vouch for, whatever its source says.
package inbox

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hallagent/hallagent/central/store"
	"github.com/hallagent/hallagent/sync/wire"
)

// Record is what an effect is given: a record, or a gap that stands for records
// that will never come.
type Record struct {
	Hall     wire.Hall
	Stream   string
	Epoch    string
	Sequence uint64
	Gap      *wire.Gap // nil for a record
	Event    wire.Event
}

// Effect does with a record what the consumer is there for, in the database
// only and by tx only: it may be run again when the transaction could not be
// serialized, and must wrap the errors of the database. An error made by Reject
// puts the record aside for good; any other keeps the hall's streams where they
// are, and the record is tried again.
type Effect func(ctx context.Context, tx *sql.Tx, r Record) error

// rejection is a permanent error of an effect.
type rejection struct{ error }

func (r rejection) Unwrap() error { return r.error }

// Reject says that an effect will never take this record. It is written to the
// table inbox_rejected with its event, and the stream goes on.
func Reject(err error) error { return rejection{err} }

// Broker is the way to the halls; sync/mqtt's Client is one.
type Broker interface {
	Session(ctx context.Context) (context.Context, error)
	Publish(session context.Context, topic string, retain bool, payload []byte, done func(error))
	Retain(topic string, payload []byte)
	Forget(topic string)
}

// Options of an inbox.
type Options struct {
	Service  string      // of which this is an instance; its leases and marks are its own
	Instance string      // unique among the service's instances, "" = made up
	Streams  []string    // that the service consumes
	Halls    []wire.Hall // the only ones to serve, none = all that are found
	Store    *store.DB
	Effect   Effect
	Reorder  time.Duration // how long to wait for what is missing before asking, 0 = 2 s
	Log      *slog.Logger
}

const (
	leaseLife   = 3 * time.Second
	txLimit     = 15 * time.Second        // for a transaction of a hall: its database may be gone without a word
	leaseLook   = 500 * time.Millisecond  // at the leases
	resendPause = 5200 * time.Millisecond // the agent allows one in 5 s, by its own clock
	resendMost  = time.Minute
	vain        = 4 // times to ask for what does not come before the stream goes on without it, if it may
	keepEpochs  = 30 * 24 * time.Hour
)

// Inbox serves halls while Run runs. All methods may be called from any
// goroutine.
type Inbox struct {
	opts        Options
	log         *slog.Logger
	resendPause time.Duration
	vain        int // times to ask, see the constant
	txLimit     time.Duration
	leaseLife   time.Duration
	leaseLook   time.Duration
	news        chan struct{}                   // to the loop of leases: look now
	session     atomic.Pointer[context.Context] // the newest
	waiting     atomic.Int64                    // bytes of messages, of all halls

	mu         sync.RWMutex
	status     Status
	connected  bool      // to the broker
	away       time.Time // since when it is not
	held       map[wire.Hall]*hall
	leases     []lease // as of the last look
	known      map[wire.Hall]bool
	discovered []wire.Hall
	told       map[wire.Hall]wire.Status // newest of each hall over this connection
}

// New returns an inbox; Run starts it.
func New(o Options) *Inbox {
	if o.Instance == "" {
		o.Instance = rand.Text()
	}
	if o.Reorder == 0 {
		o.Reorder = 2 * time.Second
	}
	return &Inbox{
		opts: o, log: o.Log, resendPause: resendPause, vain: vain, txLimit: txLimit, leaseLife: leaseLife, leaseLook: leaseLook,
		news: make(chan struct{}, 1),
		held: map[wire.Hall]*hall{}, known: map[wire.Hall]bool{}, told: map[wire.Hall]wire.Status{},
		status: Status{Service: o.Service, Instance: o.Instance, Since: time.Now()},
	}
}

// Subscriptions are the topics whose messages Handle takes.
func (in *Inbox) Subscriptions() []string {
	every := wire.Hall{Area: "+", ID: "+"}
	topics := []string{every.Status()}
	for _, s := range in.opts.Streams {
		topics = append(topics, every.Stream(s))
	}
	return topics
}

// Handle takes a message; those of other topics it leaves alone. It does not
// block and keeps payload. What is too much is dropped, and asked for again.
func (in *Inbox) Handle(topic string, payload []byte, retained bool) {
	h, name, ok := wire.ParseTopic(topic)
	if !ok || len(in.opts.Halls) > 0 && !slices.Contains(in.opts.Halls, h) {
		return
	}
	state := name == "status"
	if !state && !slices.Contains(in.opts.Streams, name) || len(payload) == 0 {
		return
	}
	in.mu.RLock()
	holder, known := in.held[h], in.known[h]
	in.mu.RUnlock()
	if !known {
		in.discover(h)
	}
	switch {
	case state:
		in.hear(h, payload, retained)
	case holder != nil:
		holder.arrived(name, payload)
	}
}

// discover has a hall that nobody knew written to the table of leases.
func (in *Inbox) discover(h wire.Hall) {
	in.mu.Lock()
	if !in.known[h] {
		in.known[h] = true
		in.discovered = append(in.discovered, h)
	}
	in.mu.Unlock()
	signal(in.news)
}

// hear takes the state of an agent: what it has, and that it is there.
func (in *Inbox) hear(h wire.Hall, payload []byte, retained bool) {
	state, err := parseStatus(payload)
	if err != nil {
		in.log.Debug("status ignored", "hall", name(h), "err", err)
		return
	}
	in.mu.Lock()
	before := in.told[h]
	if state.Session < before.Session { // the will of a connection that is long over
		in.mu.Unlock()
		return
	}
	in.told[h] = state
	holder := in.held[h]
	in.mu.Unlock()
	if holder != nil {
		holder.heard(state, state.Session != before.Session, retained)
	}
}

// publish sends what is not to be retained, and says whether there is a
// connection to send it over.
func (in *Inbox) publish(broker Broker, topic string, payload []byte) bool {
	s := in.session.Load()
	if s == nil || (*s).Err() != nil {
		return false
	}
	broker.Publish(*s, topic, false, payload, func(error) {})
	return true
}

// name of a hall in the database and in logs.
func name(h wire.Hall) string { return h.Area + "/" + h.ID }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

var errLost = errors.New("the lease is another instance's")
