package inbox

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/hallagent/hallagent/sync/wire"
)

// stream is what a hall's holder knows of one stream beside its ledger: the books
// and what is missing.
type stream struct {
	epoch string // newest
	mark  uint64 // of it
	since time.Time
	book  *counts

	knownEpoch string // newest record that is known to exist
	known      uint64
	strange    string           // epoch whose records are dropped, since nothing newer came: never heard of, yet older than epoch
	waitsFor   string           // oldest epoch that what is put aside waits for
	about      string           // epoch that the agent is asked for
	vain       int              // times it was asked in vain, see restored
	agent      wire.StreamState // as its status had it last
	missing    time.Time        // since when nothing came though something is missing, zero if nothing is
	asked      time.Time
	asks       int  // of this epoch since the mark moved
	want       bool // to ask, whatever is known
	dropped    bool // something came that was dropped
	renew      bool // the acknowledgement

	holes, resends, overflow, malformed uint64
}

// know says that a record exists.
func (s *stream) know(epoch string, sequence uint64) {
	switch {
	case epoch > s.knownEpoch:
		s.knownEpoch, s.known = epoch, sequence
	case epoch == s.knownEpoch:
		s.known = max(s.known, sequence)
	}
}

// progress says that the mark has moved.
func (s *stream) progress(now time.Time) {
	s.asks, s.vain, s.strange = 0, 0, ""
	if !s.missing.IsZero() {
		s.missing = now
	}
}

// front is where the stream goes on: the newest epoch that is known and its mark,
// or an older one that what is put aside waits for.
func (h *hall) front(stream string) (epoch string, mark uint64, old bool) {
	s := h.streams[stream]
	epoch, mark = s.epoch, s.mark
	if s.knownEpoch > s.epoch {
		epoch, mark = s.knownEpoch, 0
	}
	if s.waitsFor != "" && s.waitsFor < epoch {
		return s.waitsFor, h.ledgers[stream].marks[s.waitsFor], true
	}
	return epoch, mark, false
}

// ask has the agent send again what is missing: when nothing of it came for the
// reorder time, or at once when it is known to have been lost here; and not too
// often.
func (h *hall) ask(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for stream, s := range h.streams {
		epoch, mark, old := h.front(stream)
		behind := old || s.knownEpoch == epoch && s.known > mark
		if s.about != epoch {
			s.about, s.asks, s.vain = epoch, 0, 0
		}
		switch {
		case !behind:
			s.missing = time.Time{}
		case s.missing.IsZero():
			s.missing = now
			s.holes++
		}
		if !h.present {
			continue // nobody would hear it, and the agent begins by itself when it comes
		}
		if epoch == "" {
			s.want, s.dropped = false, false // nothing is known, not even what to ask for
			continue
		}
		pause := min(resendMost, h.in.resendPause<<min(max(s.asks-1, 0), 10))
		lost := s.want || s.dropped && len(h.waiting) == 0
		if lost {
			pause = h.in.resendPause
		}
		if !lost && (!behind || now.Sub(s.missing) < h.in.opts.Reorder) || !s.asked.IsZero() && now.Sub(s.asked) < pause {
			continue
		}
		if h.in.publish(h.broker, h.hall.Ack(stream), ack(epoch, mark, true)) {
			s.want, s.dropped, s.asked = false, false, now
			s.asks++
			s.vain++
			s.resends++
			h.in.log.Debug("asked to send again", "hall", name(h.hall), "stream", stream, "epoch", epoch, "seq", mark+1)
		}
	}
}

// restored makes gaps, to be put among batches, which are all that there is to
// apply: of what agents were asked for in vain because they have given it to the
// owner of a database that is not ours, or no more.
func (h *hall) restored(batches []*batch) (gaps []*batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for stream, s := range h.streams {
		epoch, mark, old := h.front(stream)
		if s.about != epoch || s.vain < h.in.vain || time.Since(s.asked) < h.in.resendPause {
			continue
		}
		to := s.gone(epoch, old, h.begins(batches, stream, epoch))
		if to <= mark {
			continue
		}
		s.vain = 0
		g := wire.Gap{Epoch: epoch, From: mark + 1, To: to, Count: to - mark, Reason: "restore"}
		h.in.log.Warn("records were given to another database", "hall", name(h.hall), "stream", stream, "epoch", epoch, "seq", g.From, "count", g.Count,
			"hint", "the database is new, or was put back from a copy: what the agents gave it since is lost to it")
		r := record{Record: Record{Hall: h.hall, Stream: stream, Epoch: epoch, Sequence: to, Gap: &g,
			Event: wire.Event{Type: wire.TypeGap, Source: h.hall.Source("central"), Time: time.Now().UTC()}}}
		gaps = append(gaps, &batch{stream: stream, epoch: epoch, records: []record{r}})
	}
	return gaps
}

// gone tells up to where an agent has none of an epoch's records any more, 0 if
// nowhere: of the epoch that it writes, its status counts them neither as pending
// nor as still to come; of an older one, it sent none before first, though asked.
func (s *stream) gone(epoch string, old bool, first uint64) uint64 {
	switch {
	case old:
		return max(first, 1) - 1
	case s.agent.Epoch != epoch || s.agent.Last < s.agent.Pending:
		return 0
	case first > 0:
		return min(s.agent.Last-s.agent.Pending, first-1)
	}
	return s.agent.Last - s.agent.Pending
}

// begins gives the first sequence of an epoch that some batches tell of, or where
// the epoch after it says that it ended; 0 if they do neither.
func (h *hall) begins(batches []*batch, stream, epoch string) (first uint64) {
	for _, b := range batches {
		r, at := &b.records[0], uint64(0)
		switch {
		case b.stream != stream:
		case b.epoch == epoch:
			at = r.first()
		case h.ledgers[stream] != nil && h.ledgers[stream].waitsFor(r) == epoch:
			at = r.Gap.From
		}
		if at > 0 && (first == 0 || at < first) {
			first = at
		}
	}
	return first
}

// heard takes the state of the hall's agent. On a new connection of the agent it
// gets our word anew; so it does when it waits for what we have. When it was there
// before we listened, what it sent until now came to nobody, and is asked for.
func (h *hall) heard(state wire.Status, connected, before bool) {
	h.mu.Lock()
	h.present = state.State != wire.Lost && state.State != wire.Stopping
	for name, s := range h.streams {
		st := state.Streams[name]
		if state.State != wire.Lost {
			s.agent = st
		}
		if connected || st.Pending > 0 && st.Epoch == s.epoch && st.Last <= s.mark {
			s.renew = true
		}
		if h.present && epochValid(st.Epoch) && st.Last > 0 {
			s.know(st.Epoch, st.Last)
		}
		s.want = s.want || before && h.present
	}
	h.mu.Unlock()
	signal(h.wake)
}

// alone says that the connection over which the agent was heard is over.
func (h *hall) alone() {
	h.mu.Lock()
	h.present = false
	h.mu.Unlock()
}

// ack is the word on ack/{stream}.
func ack(epoch string, upto uint64, resend bool) []byte {
	b, err := json.Marshal(wire.Ack{Epoch: epoch, Upto: upto, Resend: resend})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

func (s *stream) describe(name string) Stream {
	return Stream{
		Name: name, Epoch: s.epoch, Mark: s.mark, Since: s.since, Known: s.known,
		Applied: s.book.applied, Rejected: s.book.rejected, Gaps: maps.Clone(s.book.gaps),
		Duplicates: s.book.duplicates, Late: s.book.late,
		Holes: s.holes, Resends: s.resends, Overflow: s.overflow, Malformed: s.malformed,
	}
}
