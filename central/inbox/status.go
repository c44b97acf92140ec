package inbox

import (
	"cmp"
	"slices"
	"time"

	"github.com/hallagent/hallagent/sync/wire"
)

// Status is a snapshot of an instance.
type Status struct {
	Service   string    `json:"service"`
	Instance  string    `json:"instance"`
	Since     time.Time `json:"since"`
	Instances int       `json:"instances"`     // alive, this one included
	Err       string    `json:"err,omitempty"` // why it cannot look at the leases
	Halls     []Hall    `json:"halls"`
}

// Hall is one of all known halls. Of those that another instance serves only the
// lease is known. Durations are nanoseconds in JSON.
type Hall struct {
	Area    string        `json:"area"`
	ID      string        `json:"id"`
	Holder  string        `json:"holder"`  // instance, "" = nobody
	Expires time.Duration `json:"expires"` // of the lease, from when it was looked at; below 0 it is free
	Token   int64         `json:"token"`   // how often the lease changed hands

	Serving bool      `json:"serving"`       // by this instance; what follows is of it
	Since   time.Time `json:"since"`         // of Serving
	Waiting int       `json:"waiting"`       // messages to be applied
	Err     string    `json:"err,omitempty"` // what keeps its streams where they are, or has records dropped
	Streams []Stream  `json:"streams,omitempty"`
}

// Stream is the books of a stream. Applied, Rejected and Gaps are of all time;
// the others count since the instance serves the hall.
type Stream struct {
	Name  string    `json:"name"`
	Epoch string    `json:"epoch"`
	Mark  uint64    `json:"mark"`
	Since time.Time `json:"since"` // when Mark was reached, zero if not by this instance
	Known uint64    `json:"known"` // highest sequence heard of, above Mark while something is missing

	Applied  uint64            `json:"applied"`  // records that had their effect
	Rejected uint64            `json:"rejected"` // records in inbox_rejected
	Gaps     map[string]uint64 `json:"gaps"`     // records that will never come, by reason

	Duplicates uint64 `json:"duplicates"` // records
	Late       uint64 `json:"late"`       // records of closed epochs that were dropped
	Holes      uint64 `json:"holes"`      // times that something was missing
	Resends    uint64 `json:"resends"`    // asked for
	Overflow   uint64 `json:"overflow"`   // messages dropped because too many waited
	Malformed  uint64 `json:"malformed"`  // messages that could not be read
}

// Status returns a snapshot.
func (in *Inbox) Status() Status {
	in.mu.RLock()
	s := in.status
	leases := slices.Clone(in.leases)
	held := make(map[wire.Hall]*hall, len(in.held))
	for h, holder := range in.held {
		held[h] = holder
	}
	in.mu.RUnlock()
	for _, l := range leases {
		v := Hall{Area: l.hall.Area, ID: l.hall.ID, Holder: l.holder, Expires: l.left, Token: l.token}
		if holder := held[l.hall]; holder != nil {
			holder.describe(&v)
			delete(held, l.hall)
		}
		s.Halls = append(s.Halls, v)
	}
	slices.SortFunc(s.Halls, func(a, b Hall) int { return cmp.Or(cmp.Compare(a.Area, b.Area), cmp.Compare(a.ID, b.ID)) })
	return s
}
