// Package uplink brings the records of an outbox to a publisher: in order, over
// one session after another, with a window of messages in flight.
//
// A stream is in order, always. So there is one window, and after each new
// session sending starts again at the first record that is not acknowledged;
// what is sent twice is told apart by the consumer, by epoch and sequence.
//
// Who acknowledges is a choice. In mode broker a record leaves the outbox when
// the publisher has confirmed it and all before it. In mode central it stays
// until the consumer says so, and the confirmation of the publisher only opens
// the window; a consumer that says nothing of what it was sent is reminded, for
// a broker may lose what it has confirmed.
//
// The window is kept small, at most 64 messages and about 250 ms of what the
// connection was measured to carry, and so are the messages on a slow line, so
// that what is published beside the stream never waits long behind a backlog.
//
// A broker may take only smaller messages than these and hang up on larger ones.
// So messages get smaller when connections end again and again before one is
// confirmed, and larger again later. That goes down to one record a message; a
// record that is itself too large for the broker holds up the stream.
//
// A stream that stands still though a connection is up is told from one that has
// nothing to do, and gets a new connection.
//
// The outbox may replace its store, under a new epoch, while this runs. What it
// saved goes first. The consumer's word on an epoch counts once everything of
// earlier epochs is acknowledged; one that comes too early is kept until then.
//
// Limits: one consumer per stream; a record that Encode refuses ends Run, since
// nothing may overtake it.
package uplink

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/hallagent/hallagent/sync/outbox"
)

// Publisher carries messages over one connection after another.
type Publisher interface {
	// Session waits until a connection is up. The context it returns ends when
	// that connection is lost.
	Session(ctx context.Context) (context.Context, error)
	// Publish hands a message to the connection of a session, in the order of
	// calls. It calls done exactly once, from any goroutine: with nil when the
	// broker has confirmed the message.
	Publish(session context.Context, topic string, retain bool, payload []byte, done func(error))
	// Reconnect ends the connection of a session in good order and makes another.
	Reconnect(session context.Context, why string)
}

// Options of an uplink.
type Options struct {
	Outbox    *outbox.Outbox
	Publisher Publisher
	Topic     string
	// Encode makes one message of records that follow one another. replayed says
	// that they were there before the session, or were sent before.
	Encode   func(records []outbox.Record, replayed bool) ([]byte, error)
	Central  bool // records stay until Acknowledged says otherwise
	Rate     int  // records per second, 0 = as fast as it goes
	MaxBytes int  // of a message, 0 = 64 KiB
	Log      *slog.Logger

	patience time.Duration // with a stream that stands still, for tests; 0 = as usual
}

// Reasons why an acknowledgement of the consumer is ignored.
const (
	IgnoredEpoch    = "epoch"    // of another store
	IgnoredLower    = "lower"    // than what was acknowledged
	IgnoredBeyond   = "beyond"   // the last that was sent
	IgnoredResend   = "resend"   // asked for again within 5 s
	IgnoredMode     = "mode"     // the broker acknowledges here
	IgnoredOverflow = "overflow" // more came than could be looked at

	IgnoredMalformed = "malformed" // see Malformed
)

// resendPause is the least time between two rewinds.
const resendPause = 5 * time.Second

// Status is a snapshot.
type Status struct {
	Session      bool              `json:"session"`          // a connection is up
	Sent         uint64            `json:"sent"`             // records handed over, repeated ones included
	Messages     uint64            `json:"messages"`         // that carried them
	Replayed     uint64            `json:"replayed"`         // records of Sent that were marked so
	Rewinds      uint64            `json:"rewinds"`          // asked for by the consumer
	Reminders    uint64            `json:"reminders"`        // messages sent again because the consumer said nothing
	Pending      uint64            `json:"pending"`          // records and gaps not acknowledged
	InFlight     int               `json:"in_flight"`        // messages not confirmed
	MessageLimit int               `json:"message_limit"`    // bytes of a message at most; less than MaxBytes after connections that ended with each larger one
	Ignored      map[string]uint64 `json:"ignored"`          // acknowledgements by reason
	Reconnects   uint64            `json:"reconnects"`       // connections that were ended because nothing moved
	Stalled      time.Time         `json:"stalled,omitzero"` // since when nothing is acknowledged though records wait and a connection is up, zero while all is well
	LastProgress time.Time         `json:"last_progress"`    // when records were acknowledged last, zero if never
	Rate         float64           `json:"rate"`             // records acknowledged per second, over the last 10 s
	ETA          time.Duration     `json:"eta"`              // until Pending are acknowledged at Rate, 0 while unknown
	Err          string            `json:"err,omitempty"`    // why it stands still, if not for want of a session
}

// Uplink sends one stream. Run does the work; the other methods may be called
// from any goroutine.
type Uplink struct {
	opts        Options
	resendPause time.Duration
	wake        chan struct{} // to the loop: something came in

	mu       sync.Mutex
	results  []result
	acks     []ack
	status   Status
	meter    meter
	steps    uint64          // acknowledgements on disk
	durable  outbox.Position // the newest of them
	progress chan struct{}   // closed at the next acknowledgement on disk

	targets     map[string]uint64 // what the acknowledger is to write, by epoch
	targetsWake chan struct{}

	// Of the loop alone, over all sessions.
	sent   map[string]uint64 // last sequence that was sent, or may have been by a run before
	first  string            // epoch when this run began; what of earlier ones was sent before, nobody knows
	epoch  string            // of the store, when last looked at
	acked  outbox.Position
	early  map[string]ack // by epoch, for later
	rewind time.Time      // of the last one
	watch  watch
	limit  limit
	resume *resume // how the next session goes on
}

// ack is one word of the consumer.
type ack struct {
	position outbox.Position
	resend   bool
}

// New returns an uplink; Run starts it.
func New(o Options) *Uplink {
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 10
	}
	if o.patience == 0 {
		o.patience = patienceBroker
		if o.Central {
			o.patience = patienceCentral
		}
	}
	return &Uplink{
		opts:        o,
		resendPause: resendPause,
		wake:        make(chan struct{}, 1),
		targetsWake: make(chan struct{}, 1),
		targets:     map[string]uint64{},
		sent:        map[string]uint64{},
		early:       map[string]ack{},
		limit:       limit{bytes: o.MaxBytes, most: o.MaxBytes},
		status:      Status{MessageLimit: o.MaxBytes, Ignored: map[string]uint64{}},
	}
}

// Acknowledged takes the consumer's word that it has everything of an epoch up
// to a sequence, and with resend that it misses what follows. It never blocks.
func (u *Uplink) Acknowledged(epoch string, upto uint64, resend bool) {
	u.mu.Lock()
	switch {
	case !u.opts.Central:
		u.status.Ignored[IgnoredMode]++
	case len(u.acks) >= 256:
		u.status.Ignored[IgnoredOverflow]++
	default:
		u.acks = append(u.acks, ack{outbox.Position{Epoch: epoch, Seq: upto}, resend})
	}
	u.mu.Unlock()
	signal(u.wake)
}

// Malformed counts an acknowledgement that could not even be read.
func (u *Uplink) Malformed() {
	u.report(func(s *Status) { s.Ignored[IgnoredMalformed]++ })
}

// Flush waits until every record that is in the outbox now was acknowledged, on
// disk, or ctx ends.
func (u *Uplink) Flush(ctx context.Context) error {
	upto := u.opts.Outbox.Status()
	for {
		u.mu.Lock()
		if u.progress == nil {
			u.progress = make(chan struct{})
		}
		progress := u.progress
		u.mu.Unlock()
		s := u.opts.Outbox.Status()
		if s.Pending+s.Gaps == 0 || s.Epoch == upto.Epoch && s.Acknowledged >= upto.Last {
			return nil
		}
		if s.Epoch > upto.Epoch && s.Acknowledged > 0 { // which comes after all of earlier epochs
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Status returns a snapshot.
func (u *Uplink) Status() Status {
	box := u.opts.Outbox.Status()
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.status
	s.Ignored = maps.Clone(s.Ignored)
	s.Pending = box.Pending + box.Gaps
	if s.Rate = u.meter.rate(time.Now()); s.Rate > 0 {
		s.ETA = time.Duration(float64(s.Pending) / s.Rate * float64(time.Second))
	}
	return s
}

func (u *Uplink) report(f func(*Status)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(&u.status)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
