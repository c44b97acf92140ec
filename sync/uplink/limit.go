package uplink

import "slices"

const (
	lostSessions   = 2    // in a row, without a confirmation: the messages may be too large
	provenMessages = 1000 // confirmed: larger ones may be tried
)

// limit is the largest message. A broker with a smaller packet limit hangs up on
// what is larger, each time anew, and MQTT 3.1.1 has no word for why. So the limit
// is halved when that can be the cause, down to messages of one record, and
// doubled again when much has gone well, since a broker that broke down looks the
// same.
type limit struct {
	bytes     int // of a message
	most      int // that bytes may grow to
	lost      int // sessions in a row
	confirmed int // messages since bytes changed
}

// sessionLost takes note of a session that ended with messages in flight and none
// confirmed; largest is that of the messages of several records, 0 if there was
// none. It says whether the limit has changed.
func (l *limit) sessionLost(largest int) bool {
	if l.lost++; l.lost < lostSessions {
		return false
	}
	l.lost, l.confirmed = 0, 0
	if largest < 2 {
		return false
	}
	l.bytes = min(l.bytes, largest) / 2
	return true
}

// messageConfirmed says whether the limit has changed.
func (l *limit) messageConfirmed() bool {
	l.lost = 0
	if l.bytes >= l.most {
		return false
	}
	if l.confirmed++; l.confirmed < provenMessages {
		return false
	}
	l.bytes, l.confirmed = min(2*l.bytes, l.most), 0
	return true
}

// lost judges a session whose connection has ended.
func (s *session) lost() {
	u := s.u
	u.mu.Lock()
	late := slices.ContainsFunc(u.results, func(r result) bool { return r.session == s.number && r.err == nil })
	u.mu.Unlock()
	switch {
	case late || s.window.delivered > 0:
		u.limit.lost = 0
		return
	case len(s.inFlight) == 0: // says nothing
		return
	}
	largest := 0
	for _, m := range s.inFlight {
		if m.records > 1 {
			largest = max(largest, m.flight.bytes)
		}
	}
	if u.limit.sessionLost(largest) {
		u.report(func(st *Status) { st.MessageLimit = u.limit.bytes })
		u.opts.Log.Warn("messages made smaller", "stream", u.opts.Topic, "bytes", u.limit.bytes,
			"err", "the connection ended again before a message was confirmed",
			"hint", "Perhaps the broker takes only smaller packets: see its log, and allow 66560 bytes there.")
	}
}

// confirmed takes in that the broker has a message.
func (s *session) confirmed() {
	u := s.u
	if u.limit.messageConfirmed() {
		u.report(func(st *Status) { st.MessageLimit = u.limit.bytes })
		u.opts.Log.Info("messages made larger", "stream", u.opts.Topic, "bytes", u.limit.bytes)
	}
}
