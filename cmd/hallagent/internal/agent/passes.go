package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/counter/occupancy"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/wire"
)

// occupancyMark is the name of the estimator's state among the marks. Those of
// counters are led by counterMark.
const (
	occupancyMark = "occupancy"
	counterMark   = "counter/"
)

// passes takes what the counters saw, puts it on disk and into the estimate, in
// one order for all counters: the estimate is stored in the transaction of the
// passes that made it, so after a crash it is the one of the last pass on disk.
type passes struct {
	hall     wire.Hall
	settings occupancy.Settings
	outbox   *outbox.Outbox
	clock    *clock
	changed  chan struct{} // has room for one: the estimate moved

	storing sync.Mutex // held while the disk works on an update; the estimate can be seen meanwhile

	mu       sync.Mutex
	estimate *occupancy.Estimator
	loaded   bool // estimate is what the store holds
}

// mark gives what was last stored for a counter.
func (p *passes) mark(device string) ([]byte, error) { return p.outbox.Mark(counterMark + device) }

// take is a counter.Sink: it returns nil when the passes are on disk.
//
// After an error nobody knows whether the transaction happened, so the estimate
// is read again from the store before it is used; the bus does the same with
// its mark.
func (p *passes) take(ctx context.Context, u counter.Update) error {
	// The line may go while the disk works; the passes were counted all the same.
	ctx = context.WithoutCancel(ctx)
	p.storing.Lock()
	defer p.storing.Unlock()
	estimate, err := p.load()
	if err != nil {
		return err
	}
	marks := []outbox.Mark{{Name: counterMark + u.Pass.Device, Value: u.Mark}}
	if passed(u) || unseen(u) {
		estimate, err = p.append(ctx, estimate, u, marks)
	} else {
		err = p.outbox.SetMarks(ctx, marks...)
	}
	p.mu.Lock()
	if err == nil {
		p.estimate = estimate
	}
	p.loaded = err == nil
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("store passes of %s: %w", u.Pass.Device, err)
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return nil
}

// passed says whether an update makes a record.
func passed(u counter.Update) bool { return u.Pass.In+u.Pass.Out > 0 || u.Pass.Uncertain }

// unseen says whether people may have passed the counter before an update without
// being counted.
func unseen(u counter.Update) bool { return u.Note == counter.First || u.Note == counter.Rebased }

// append stores what moves the estimate: passes, and that some were not seen. It
// gives the estimate after them, which is another one, so that nobody sees it
// before it is on disk. It is made through the stored form: so it is what the
// next start would read, down to times without a monotonic clock.
func (p *passes) append(ctx context.Context, before *occupancy.Estimator, u counter.Update, marks []outbox.Mark) (*occupancy.Estimator, error) {
	state, err := before.MarshalBinary()
	if err != nil {
		return nil, err
	}
	estimate := occupancy.New(p.settings)
	if err := estimate.UnmarshalBinary(state); err != nil {
		return nil, err
	}
	estimate.Apply(u.Pass)
	if unseen(u) {
		estimate.Unseen(u.Pass.Device, u.Pass.To)
	}
	if state, err = estimate.MarshalBinary(); err != nil {
		return nil, err
	}
	marks = append(marks, outbox.Mark{Name: occupancyMark, Value: state})
	if !passed(u) {
		return estimate, p.outbox.SetMarks(ctx, marks...)
	}
	value, err := wire.Store(p.hall, u.Pass.Device, wire.TypeVisit, u.Pass.To, p.clock.state(), wire.NewVisit(u.Pass))
	if err != nil {
		return nil, err
	}
	_, err = p.outbox.Append(ctx, value, marks...)
	return estimate, err
}

// load gives the estimate, read back from the store if the one in memory may not
// be the one on disk.
func (p *passes) load() (*occupancy.Estimator, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loaded {
		return p.estimate, nil
	}
	state, err := p.outbox.Mark(occupancyMark)
	if err != nil {
		return p.estimate, fmt.Errorf("read the state of the estimate: %w", err)
	}
	estimate := occupancy.New(p.settings)
	if state != nil {
		if err := estimate.UnmarshalBinary(state); err != nil {
			return p.estimate, fmt.Errorf("read the state of the estimate: %w", err)
		}
	}
	p.estimate, p.loaded = estimate, true
	return estimate, nil
}

// snapshot gives the estimate now. Heard holds the newest reading of each
// counter; a reading without a pass moves no number but keeps the trust.
func (p *passes) snapshot(now time.Time, heard []counter.Status) wire.Occupancy {
	estimate, _ := p.load() // with an error, the last one known
	if estimate == nil {    // the store was never open: nothing is known
		estimate = occupancy.New(p.settings)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range heard {
		if !s.LastReading.IsZero() {
			estimate.Reading(s.ID, s.LastReading)
		}
	}
	return wire.NewOccupancy(estimate.Snapshot(now))
}
