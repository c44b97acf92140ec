package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/counter/occupancy"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/wire"
)

// Marks in the store of visits: those of the estimate and of the counters are led
// by these.
const (
	occupancyMark = "occupancy/"
	counterMark   = "counter/"
)

// lateBy is how old a pass is that its device had kept; one that is younger was
// told as it happened, or its clock is a little off.
const lateBy = 5 * time.Minute

// passes takes what the counters saw, puts it on disk and into the estimate, in
// one order for all counters: the estimate is stored in the transaction of the
// passes that made it, so after a crash it is the one of the last pass on disk.
type passes struct {
	hall     wire.Hall
	settings occupancy.Settings
	outbox   *outbox.Outbox
	clock    *clock
	log      *slog.Logger
	changed  chan struct{} // has room for one: the estimate moved

	storing sync.Mutex // held while the disk works on an update; the estimate can be seen meanwhile

	mu       sync.Mutex
	estimate *occupancy.Estimator
	loaded   bool // estimate is what the store holds
}

// mark gives what was last stored for a counter.
func (p *passes) mark(device string) ([]byte, error) { return p.outbox.Mark(counterMark + device) }

// take is a counter.Sink: it returns nil when the passes are on disk.
func (p *passes) take(ctx context.Context, u counter.Update) error {
	marks := []outbox.Mark{{Name: counterMark + u.Pass.Device, Value: u.Mark}}
	if !moves(u) {
		if err := p.outbox.SetMarks(ctx, marks...); err != nil {
			return fmt.Errorf("store totals of %s: %w", u.Pass.Device, err)
		}
		return nil
	}
	// The line may go while the disk works; the passes were counted all the same.
	err := p.change(context.WithoutCancel(ctx), func(e *occupancy.Estimator) (record []byte, more []outbox.Mark, err error) {
		if u.At.Sub(u.Pass.To) > lateBy {
			e.Late(u.Pass, u.At)
		} else {
			e.Apply(u.Pass)
		}
		if unseen(u) {
			e.Unseen(u.Pass.Device, u.Pass.To)
		}
		if u.Level != nil {
			e.Measure(int(*u.Level), u.Pass.To)
		}
		if passed(u) {
			record, err = wire.Store(p.hall, u.Pass.Device, wire.TypeVisit, u.Pass.To, p.clock.state(), wire.NewVisit(u.Pass))
		}
		return record, marks, err
	})
	if err != nil {
		return fmt.Errorf("store passes of %s: %w", u.Pass.Device, err)
	}
	return nil
}

// passed says whether an update makes a record.
func passed(u counter.Update) bool { return u.Pass.In+u.Pass.Out > 0 || u.Pass.Uncertain }

// unseen says whether people may have passed the counter before an update without
// being counted.
func unseen(u counter.Update) bool { return u.Note == counter.First || u.Note == counter.Rebased }

// moves says whether an update moves the estimate.
func moves(u counter.Update) bool { return passed(u) || unseen(u) || u.Level != nil }

// change moves the estimate and stores it with what moved it. Nobody sees the new
// one before it is on disk.
//
// After an error nobody knows whether the transaction happened, so the estimate
// is read again from the store before it is used; the counter does the same with
// its mark.
func (p *passes) change(ctx context.Context, by func(*occupancy.Estimator) (record []byte, marks []outbox.Mark, err error)) error {
	p.storing.Lock()
	defer p.storing.Unlock()
	estimate, err := p.load()
	if err != nil {
		return err
	}
	p.mu.Lock()
	estimate = estimate.Clone()
	p.mu.Unlock()
	record, marks, err := by(estimate)
	if err != nil {
		return err
	}
	for name, value := range estimate.Marks() {
		marks = append(marks, outbox.Mark{Name: occupancyMark + name, Value: value})
	}
	if record != nil {
		_, err = p.outbox.Append(ctx, record, marks...)
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
		return err
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return nil
}

// load gives the estimate, read back from the store if the one in memory may not
// be the one on disk. A state that cannot be understood, as after going back to an
// older version, must not keep passes from the disk: the estimate begins anew then
// and knows that it has not seen those who are inside.
func (p *passes) load() (*occupancy.Estimator, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loaded {
		return p.estimate, nil
	}
	var storeErr error
	estimate := occupancy.New(p.settings)
	err := estimate.Restore(func(name string) ([]byte, error) {
		value, err := p.outbox.Mark(occupancyMark + name)
		if err != nil {
			storeErr = err
		}
		return value, err
	})
	if storeErr != nil {
		return p.estimate, storeErr
	}
	if err != nil {
		p.log.Error("the estimate of people begins anew", "err", err, "hint", "count the people once")
		for _, d := range p.settings.Doors {
			for _, c := range d.Counters {
				estimate.Unseen(c, time.Now())
			}
		}
	}
	p.estimate, p.loaded = estimate, true
	return estimate, nil
}

// snapshot gives the estimate now. Heard holds the newest reading of each
// counter; a reading without a pass moves no number but keeps the trust.
func (p *passes) snapshot(now time.Time, heard []counter.Status) occupancy.Snapshot {
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
		estimate.Blocked(s.ID, s.Code == "blocked")
	}
	return estimate.Snapshot(now)
}

// day gives the curve of a day, the current one for "".
func (p *passes) day(date string, now time.Time) (occupancy.Day, bool) {
	estimate, _ := p.load()
	if estimate == nil {
		return occupancy.Day{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	estimate = estimate.At(now)
	if date == "" {
		date = estimate.Today()
	}
	return estimate.Day(date)
}
