package uplink

import (
	"context"
	"fmt"
	"time"

	"github.com/hallagent/hallagent/sync/outbox"
)

const (
	patienceBroker  = time.Minute     // with a broker that confirms nothing
	patienceCentral = 2 * time.Minute // with a consumer, which may simply be away
	patienceMost    = 15 * time.Minute
	glances         = 12 // at the stream, within the least patience
)

// watch looks whether a stream with a backlog gets on. Only time with a
// connection counts. What does not get on is a stall: it is shown, and the
// connection is made anew, ever more seldom; for a connection may carry pings
// and nothing else, and a subscription may be lost at the broker.
type watch struct {
	steps    uint64 // when last looked at
	idle     time.Duration
	patience time.Duration
	since    time.Time // nothing moved
	overdue  bool      // for a new connection
}

// resume is how a session goes on after one that was ended with everything
// confirmed: the broker took it all, so the reminders go on, instead of the whole
// backlog once more for a consumer that is away.
type resume struct {
	cursor outbox.Position
	stall  stall
}

// glance looks at the stream; every is the time since the last glance.
func (s *session) glance(now time.Time, every time.Duration) {
	u, w := s.u, &s.u.watch
	box := u.opts.Outbox.Status()
	u.mu.Lock()
	steps, disk := u.steps, u.status.Err != ""
	u.mu.Unlock()
	if w.patience == 0 || steps != w.steps || box.Pending+box.Gaps == 0 {
		if !w.since.IsZero() { // what was dropped needs no acknowledgement
			u.report(func(st *Status) { st.Stalled = time.Time{} })
		}
		*w = watch{steps: steps, patience: u.opts.patience}
		return
	}
	if w.since.IsZero() {
		w.since = now.Add(-every)
	}
	if w.idle += every; w.idle < w.patience {
		return
	}
	u.mu.Lock()
	news := u.status.Stalled.IsZero()
	u.status.Stalled = w.since
	u.mu.Unlock()
	if news {
		u.opts.Log.Warn("uplink stalled", "stream", u.opts.Topic, "count", box.Pending+box.Gaps, "err", fmt.Sprintf("nothing acknowledged since %s", w.since.Format(time.TimeOnly)))
	}
	w.idle, w.patience = 0, min(2*w.patience, max(patienceMost, u.opts.patience))
	w.overdue = !disk // a disk that takes no acknowledgement is not the connection's fault
	if w.overdue && u.opts.Central && len(s.inFlight) == 0 {
		u.resume = &resume{s.cursor, s.stall}
	}
}

// reconnect ends a connection on which nothing moves.
func (u *Uplink) reconnect(connection context.Context) {
	u.watch.overdue = false
	u.report(func(s *Status) { s.Reconnects++ })
	u.opts.Publisher.Reconnect(connection, "nothing is acknowledged though records wait")
}
