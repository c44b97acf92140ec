package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hallagent/hallagent/counter/occupancy"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/wire"
)

// correctionsMark is the name of the list of head counts among the marks.
const correctionsMark = "corrections"

const (
	correctionLife  = 7 * 24 * time.Hour
	mostCorrections = 200 // kept, the newest
)

// correct takes a head count of the visitors. The number and who set it, when,
// from what and why are one transaction: there is no corrected number without its
// record.
func (p *passes) correct(ctx context.Context, by string, people int, reason string, heard func() occupancy.Snapshot) (wire.Correction, error) {
	now := time.Now()
	c := wire.Correction{By: by, Old: heard().People, New: people, Reason: reason}
	err := p.change(context.WithoutCancel(ctx), func(e *occupancy.Estimator) ([]byte, []outbox.Mark, error) {
		all, err := p.corrections(now)
		if err != nil {
			return nil, nil, err
		}
		event, err := wire.Store(p.hall, "agent", wire.TypeCorrection, now, p.clock.state(), c)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, event)
		all = all[max(0, len(all)-mostCorrections):]
		list, err := json.Marshal(all)
		if err != nil {
			return nil, nil, fmt.Errorf("encode head counts: %w", err)
		}
		e.Correct(people, now)
		return nil, []outbox.Mark{{Name: correctionsMark, Value: list}}, nil
	})
	if err != nil {
		return wire.Correction{}, fmt.Errorf("store a head count: %w", err)
	}
	p.log.Info("number of people corrected", "by", by, "new", people, "reason", reason)
	return c, nil
}

// corrections are the stored head counts of the last seven days, the newest last.
func (p *passes) corrections(now time.Time) ([]json.RawMessage, error) {
	list, err := p.outbox.Mark(correctionsMark)
	if err != nil {
		return nil, fmt.Errorf("read head counts: %w", err)
	}
	var all, young []json.RawMessage
	if list != nil {
		if err := json.Unmarshal(list, &all); err != nil {
			return nil, fmt.Errorf("decode head counts: %w", err)
		}
	}
	for _, raw := range all {
		var event struct{ Time time.Time }
		if json.Unmarshal(raw, &event) == nil && now.Sub(event.Time) < correctionLife {
			young = append(young, raw)
		}
	}
	return young, nil
}
