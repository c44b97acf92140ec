package uplink

import (
	"context"
	"time"

	"github.com/hallagent/hallagent/sync/outbox"
)

const (
	maxBatch     = 256       // records of a message
	readAhead    = 512       // records read at a time
	readBytes    = 256 << 10 // of them
	leastMessage = 4 << 10   // bytes that a message may have, however slow the line
	envelope     = 256       // bytes that Encode adds to a record, before the first is measured
)

// message is a batch in flight.
type message struct {
	flight  *flight
	last    outbox.Position
	records int
}

// session sends over one connection.
type session struct {
	u      *Uplink
	ctx    context.Context // ends with the connection
	number uint64
	begin  outbox.Position // last record when it began

	cursor   outbox.Position   // last record taken from the outbox
	records  []outbox.Record   // read and not yet sent
	inFlight []*message        // in order
	unsaved  []outbox.Position // last records of messages that were confirmed and whose acknowledgement is not on disk
	window   window
	bucket   *bucket
	disk     bool // takes acknowledgements
	overhead int  // bytes that Encode adds to a record
	stall    stall
}

// serve sends over a connection until it, or ctx, is over.
func (u *Uplink) serve(ctx, connection context.Context, number uint64) error {
	box := u.opts.Outbox.Status()
	s := &session{
		u: u, ctx: connection, number: number,
		begin:    outbox.Position{Epoch: box.Epoch, Seq: box.Last},
		cursor:   u.acked,
		bucket:   newBucket(u.opts.Rate, time.Now()),
		overhead: envelope,
	}
	if r := u.resume; r != nil && before(s.cursor, r.cursor) {
		s.cursor, s.stall = r.cursor, r.stall
	}
	u.resume = nil
	defer func() {
		if ctx.Err() == nil && connection.Err() != nil {
			s.lost()
		}
	}()
	every := u.opts.patience / glances
	glance := time.NewTicker(every)
	defer glance.Stop()
	for {
		appended := u.opts.Outbox.Appended()
		if err := s.receive(); err != nil {
			return err
		}
		wait, err := s.send()
		if err != nil {
			return err
		}
		remind, err := s.remind(time.Now())
		if err != nil {
			return err
		}
		u.report(func(st *Status) { st.InFlight = len(s.inFlight) })
		if !s.open() {
			appended = nil // room first
		}
		var timer, reminder <-chan time.Time
		if wait > 0 {
			appended, timer = nil, time.After(wait)
		}
		if remind > 0 {
			reminder = time.After(remind)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-connection.Done():
			return nil
		case <-u.wake:
		case <-appended:
		case <-timer:
		case <-reminder:
		case now := <-glance.C:
			if s.glance(now, every); u.watch.overdue {
				return nil
			}
		}
	}
}

// receive takes in what came: confirmations and the consumer's words.
func (s *session) receive() error {
	u := s.u
	u.mu.Lock()
	results, acks, durable := u.results, u.acks, u.durable
	u.results, u.acks = nil, nil
	s.disk = u.status.Err == ""
	u.mu.Unlock()
	now := time.Now()
	for _, r := range results {
		switch {
		case r.session != s.number:
		case r.err != nil:
			return errPublish
		default:
			s.window.confirm(r.message.flight, now)
			s.confirmed()
		}
	}
	for len(s.inFlight) > 0 && s.inFlight[0].flight.confirmed {
		if !u.opts.Central {
			u.acked = s.inFlight[0].last
			u.target(u.acked)
			s.unsaved = append(s.unsaved, u.acked)
		}
		s.inFlight = s.inFlight[1:]
	}
	for len(s.unsaved) > 0 && !before(durable, s.unsaved[0]) {
		s.unsaved = s.unsaved[1:]
	}
	switch rewind := u.apply(append(u.waiting(), acks...)); {
	case rewind != nil:
		s.cursor, s.records = *rewind, nil
	// The consumer has more than this run has sent, or no more than the reminder.
	case before(s.cursor, u.acked) || s.missedTheRest():
		s.cursor, s.records = u.acked, nil
	}
	return nil
}

// before tells whether a comes before b in the stream.
func before(a, b outbox.Position) bool {
	return a.Epoch < b.Epoch || a.Epoch == b.Epoch && a.Seq < b.Seq
}

// open tells whether one more message may go. While the disk takes no
// acknowledgement, what is on it goes all the same: better twice than never.
func (s *session) open() bool {
	return s.window.open() && (len(s.inFlight)+len(s.unsaved) < maxMessages || !s.disk)
}

// send hands over what the window and the rate allow. A positive wait says when
// to come again, whatever happens.
func (s *session) send() (wait time.Duration, err error) {
	for s.open() && s.ctx.Err() == nil {
		n, wait := s.bucket.ready(time.Now())
		if n == 0 {
			return wait, nil
		}
		if len(s.records) == 0 {
			s.records, err = s.u.opts.Outbox.Read(s.cursor, readAhead, readBytes)
			if err != nil {
				s.u.failed("read", err)
				return pause, nil
			}
			s.u.recovered()
			if len(s.records) == 0 {
				return 0, nil
			}
		}
		if err := s.publish(n); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// publish sends one message of at most n records.
func (s *session) publish(n int) error {
	u := s.u
	batch, replayed := s.batch(min(n, maxBatch))
	payload, err := u.opts.Encode(batch, replayed)
	if err != nil {
		return err
	}
	for len(payload) > s.most() && len(batch) > 1 {
		s.overhead = max(s.overhead, (len(payload)-size(batch))/len(batch)+1)
		batch = batch[:(len(batch)+1)/2]
		if payload, err = u.opts.Encode(batch, replayed); err != nil {
			return err
		}
	}
	s.overhead = max(0, (len(payload)-size(batch))/len(batch)+1)
	if len(payload) > u.opts.MaxBytes {
		u.opts.Log.Warn("message too large", "stream", u.opts.Topic, "seq", batch[0].Seq, "bytes", len(payload))
	}

	last := batch[len(batch)-1].Position
	m := &message{flight: s.window.send(len(payload), time.Now()), last: last, records: len(batch)}
	s.inFlight = append(s.inFlight, m)
	s.records = s.records[len(batch):]
	s.cursor = last
	s.bucket.take(len(batch))
	u.sent[last.Epoch] = max(u.sent[last.Epoch], last.Seq)
	u.report(func(st *Status) {
		st.Messages++
		st.Sent += uint64(len(batch))
		if replayed {
			st.Replayed += uint64(len(batch))
		}
	})
	number := s.number
	u.opts.Publisher.Publish(s.ctx, u.opts.Topic, false, payload, func(err error) {
		u.completed(result{number, m, err})
	})
	return nil
}

// most bytes of a message: on a slow line, a quarter of what may be in flight.
func (s *session) most() int {
	return min(s.u.limit.bytes, max(leastMessage, s.window.limit()/4))
}

// batch takes from what was read as many records as a message probably holds,
// all of them replayed or none.
func (s *session) batch(n int) (batch []outbox.Record, replayed bool) {
	replayed = s.replayed(s.records[0].Position)
	bytes := 0
	for i, r := range s.records[:min(n, len(s.records))] {
		bytes += len(r.Value) + s.overhead
		if i > 0 && (bytes > s.most() || s.replayed(r.Position) != replayed) {
			return s.records[:i], replayed
		}
	}
	return s.records[:min(n, len(s.records))], replayed
}

// replayed tells whether a record was there before the session, or sent before.
func (s *session) replayed(p outbox.Position) bool {
	return !before(s.begin, p) || p.Seq <= s.u.sent[p.Epoch]
}

func size(records []outbox.Record) int {
	n := 0
	for _, r := range records {
		n += len(r.Value)
	}
	return n
}
