package uplink

import (
	"time"

	"github.com/hallagent/hallagent/sync/outbox"
)

const (
	stallAfter = 5 * time.Second // without a word of the consumer on what was sent
	stallMost  = time.Minute     // longest pause between two reminders
)

// stall watches whether the consumer gets on with what it was sent. A broker
// that keeps nothing may have confirmed messages that the consumer, just then
// away, never saw; and a consumer that never saw the last one cannot ask for it.
// So the first message that is owed goes out again, ever more seldom. If the
// consumer then gets exactly as far as that message, it missed what came after
// it too, and all of it goes out again.
type stall struct {
	owed     bool            // something was sent and is not acknowledged
	mark     outbox.Position // acknowledged when last looked at
	since    time.Time       // of the last word, or of the last reminder
	patience time.Duration
	reminded outbox.Position // last record of the last reminder
}

// owing says that the consumer has not acknowledged all that it was sent.
func (s *session) owing() bool { return s.u.opts.Central && before(s.u.acked, s.cursor) }

// missedTheRest says that the consumer has just got exactly as far as the
// reminder, and that more had been sent before it.
func (s *session) missedTheRest() bool {
	st := &s.stall
	return st.owed && s.u.acked != st.mark && s.u.acked == st.reminded && s.owing()
}

// remind sends the first message that is owed again when its time has come. It
// gives the time until then, 0 when nothing is owed.
func (s *session) remind(now time.Time) (time.Duration, error) {
	u, st := s.u, &s.stall
	if !s.owing() {
		st.owed = false
		return 0, nil
	}
	if !st.owed || u.acked != st.mark {
		*st = stall{owed: true, mark: u.acked, since: now, patience: stallAfter}
	}
	if wait := st.since.Add(st.patience).Sub(now); wait > 0 {
		return wait, nil
	}
	st.since, st.patience = now, min(2*st.patience, stallMost)
	if !s.window.open() {
		return st.patience, nil // the broker does not get on: no use to press it
	}
	owed, err := u.opts.Outbox.Read(u.acked, readAhead, readBytes)
	if err != nil || len(owed) == 0 {
		return st.patience, nil // what is wrong with the outbox, send finds out
	}
	cursor, records := s.cursor, s.records
	s.records = owed
	err = s.publish(maxBatch)
	st.reminded = s.cursor
	s.cursor, s.records = cursor, records
	u.report(func(st *Status) { st.Reminders++ })
	return st.patience, err
}
