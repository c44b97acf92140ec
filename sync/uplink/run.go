package uplink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hallagent/hallagent/sync/outbox"
)

// pause before what failed without a reason to wait for is tried again.
const pause = time.Second

var errPublish = errors.New("message not confirmed")

// Run sends until ctx ends, and returns nil then. It returns an error only when
// Encode does.
func (u *Uplink) Run(ctx context.Context) error {
	select {
	case <-u.opts.Outbox.Opened():
	case <-ctx.Done():
		return nil
	}
	box := u.opts.Outbox.Status()
	u.sent[box.Epoch] = box.Last
	u.first, u.epoch = box.Epoch, box.Epoch

	ctx, cancel := context.WithCancel(ctx)
	var acknowledger sync.WaitGroup
	acknowledger.Go(func() { u.acknowledge(ctx) })
	defer acknowledger.Wait()
	defer cancel()
	for number := uint64(1); ; number++ {
		connection, err := u.opts.Publisher.Session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			u.report(func(s *Status) { s.Session = true })
			err = u.serve(ctx, connection, number)
			u.report(func(s *Status) { s.Session, s.InFlight = false, 0 })
			if err == nil && ctx.Err() == nil && u.watch.overdue {
				u.reconnect(connection)
			}
			if ctx.Err() != nil {
				return nil
			}
			if err != nil && !errors.Is(err, errPublish) {
				return fmt.Errorf("send %s: %w", u.opts.Topic, err)
			}
			if connection.Err() != nil {
				continue
			}
		} else {
			connection = ctx
		}
		select { // the publisher has trouble but keeps its session: not at once
		case <-connection.Done():
		case <-time.After(pause):
		}
	}
}

// acknowledge writes to the outbox what was acknowledged, as one commit goes at
// a time; what comes meanwhile goes with the next.
func (u *Uplink) acknowledge(ctx context.Context) {
	last := false
	for !last {
		select {
		case <-u.targetsWake:
		case <-ctx.Done():
			// The outbox outlives the uplink; what was confirmed need not be sent again.
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), pause)
			defer cancel()
			last = true
		}
		u.mu.Lock()
		targets := maps.Clone(u.targets)
		clear(u.targets)
		u.mu.Unlock()
		epochs := slices.Sorted(maps.Keys(targets))
		for i, epoch := range epochs {
			before := u.opts.Outbox.Status().AcknowledgedCount
			err := u.opts.Outbox.Acknowledge(ctx, outbox.Position{Epoch: epoch, Seq: targets[epoch]})
			if errors.Is(err, outbox.ErrNoRecord) { // the store was replaced: nothing of that is left
				u.opts.Log.Warn("acknowledgement without a record", "stream", u.opts.Topic, "epoch", epoch, "seq", targets[epoch], "err", err)
				u.mu.Lock()
				u.durable = outbox.Position{Epoch: epoch, Seq: targets[epoch]}
				u.mu.Unlock()
				signal(u.wake)
				continue
			}
			if err != nil {
				u.failed("acknowledge", err)
				for _, later := range epochs[i:] {
					u.target(outbox.Position{Epoch: later, Seq: targets[later]})
				}
				if !last {
					select {
					case <-ctx.Done():
					case <-time.After(pause):
					}
				}
				break
			}
			u.mu.Lock()
			now := time.Now()
			if after := u.opts.Outbox.Status().AcknowledgedCount; after > before { // a new store may count anew
				u.meter.add(after-before, now)
			}
			u.steps++
			u.durable = outbox.Position{Epoch: epoch, Seq: targets[epoch]}
			if !u.status.Stalled.IsZero() {
				u.opts.Log.Info("uplink gets on", "stream", u.opts.Topic)
			}
			u.status.LastProgress, u.status.Err, u.status.Stalled = now, "", time.Time{}
			if u.progress != nil {
				close(u.progress)
				u.progress = nil
			}
			u.mu.Unlock()
			signal(u.wake)
		}
	}
}

// target tells the acknowledger how far it may go.
func (u *Uplink) target(p outbox.Position) {
	u.mu.Lock()
	u.targets[p.Epoch] = max(u.targets[p.Epoch], p.Seq)
	u.mu.Unlock()
	signal(u.targetsWake)
}

// failed logs trouble with the outbox when it is news.
func (u *Uplink) failed(what string, err error) {
	u.mu.Lock()
	news := u.status.Err == ""
	u.status.Err = fmt.Sprintf("%s: %v", what, err)
	u.mu.Unlock()
	if news {
		u.opts.Log.Warn("uplink stands still", "stream", u.opts.Topic, "err", err)
	}
}

// recovered ends what failed began.
func (u *Uplink) recovered() {
	u.report(func(s *Status) { s.Err = "" })
}

// result is what became of a message; of which session, since late ones of a
// session that is over say nothing.
type result struct {
	session uint64
	message *message
	err     error
}

func (u *Uplink) completed(r result) {
	u.mu.Lock()
	u.results = append(u.results, r)
	u.mu.Unlock()
	signal(u.wake)
}
