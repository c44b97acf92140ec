package uplink

import (
	"time"

	"github.com/hallagent/hallagent/sync/outbox"
)

// apply judges the words of the consumer. It gives the position to rewind to,
// if one asks for that.
func (u *Uplink) apply(acks []ack) (rewind *outbox.Position) {
	box := u.opts.Outbox.Status()
	if box.Epoch != u.epoch {
		u.epoch = box.Epoch
		if u.acked.Seq > 0 {
			u.target(u.acked) // the new store may have saved what is acknowledged
		}
	}
	for _, a := range acks {
		p := a.position
		delete(u.early, p.Epoch)
		switch reason, later := u.judge(p, box); {
		case later:
			u.early[p.Epoch] = a
		case reason != "":
			u.ignore(a, reason)
		default:
			if before(u.acked, p) && (p.Epoch != box.Epoch || p.Seq > box.Acknowledged) {
				u.acked = p
				u.target(p)
			}
			if a.resend && u.mayRewind(a) {
				rewind = &p
			}
		}
	}
	return rewind
}

// judge says why a position cannot be meant, "" if it can, or that this cannot
// be said yet.
func (u *Uplink) judge(p outbox.Position, box outbox.Status) (reason string, later bool) {
	limit, known := u.sent[p.Epoch]
	if p.Epoch < u.first && p.Epoch >= u.acked.Epoch && limit < p.Seq && u.holds(p.Epoch) {
		return "", true // a run before may have sent that: when it was sent again, it counts
	}
	lowest := uint64(0)
	switch p.Epoch {
	case u.acked.Epoch:
		lowest = u.acked.Seq
	case box.Epoch:
		lowest = box.Acknowledged
	}
	switch {
	case !known || p.Epoch < u.acked.Epoch:
		return IgnoredEpoch, false
	case p.Seq < lowest:
		return IgnoredLower, false
	case p.Seq > limit:
		return IgnoredBeyond, false
	case p.Epoch == u.acked.Epoch:
		return "", false
	}
	first, err := u.opts.Outbox.Read(u.acked, 1, 1)
	return "", err != nil || len(first) > 0 && first[0].Epoch < p.Epoch
}

// holds tells whether the store still has something of an epoch.
func (u *Uplink) holds(epoch string) bool {
	after := u.acked
	if after.Epoch < epoch {
		after = outbox.Position{Epoch: epoch}
	}
	first, err := u.opts.Outbox.Read(after, 1, 1)
	return err != nil || len(first) > 0 && first[0].Epoch == epoch
}

// mayRewind allows one rewind per pause.
func (u *Uplink) mayRewind(a ack) bool {
	if !u.rewind.IsZero() && time.Since(u.rewind) < u.resendPause {
		u.ignore(a, IgnoredResend)
		return false
	}
	u.rewind = time.Now()
	u.report(func(s *Status) { s.Rewinds++ })
	return true
}

func (u *Uplink) ignore(a ack, reason string) {
	u.report(func(s *Status) { s.Ignored[reason]++ })
	u.opts.Log.Debug("acknowledgement ignored", "stream", u.opts.Topic, "epoch", a.position.Epoch, "seq", a.position.Seq, "reason", reason)
}

// waiting gives the words that came too early, to be judged again.
func (u *Uplink) waiting() (acks []ack) {
	for _, a := range u.early {
		acks = append(acks, a)
	}
	return acks
}
