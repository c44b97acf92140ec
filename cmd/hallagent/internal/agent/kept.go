package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hallagent/hallagent/sync/outbox"
)

// keptMark is the name of the list of retained topics among the marks.
const keptMark = "retained"

// kept remembers on disk which topics hold something of ours at the broker, so
// that what a later configuration no longer names, or what an alarm left there
// when the agent was killed, can be cleared.
type kept struct {
	outbox *outbox.Outbox

	mu     sync.Mutex
	topics map[string]bool
	behind bool // the list on disk lacks some of topics
	retry  time.Time
}

// saveAgain is the pause after a save that failed: one that the disk holds up
// takes a second, and what is told to the world waits for it.
const saveAgain = 10 * time.Second

// add remembers a topic before it is used. Where the disk does not take it, it
// goes there when it, or another one, is used again.
func (k *kept) add(topic string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.topics[topic] {
		k.topics[topic], k.behind = true, true
	}
	if k.behind && !time.Now().Before(k.retry) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if k.behind = k.save(ctx) != nil; k.behind {
			k.retry = time.Now().Add(saveAgain)
		}
	}
}

func (k *kept) save(ctx context.Context) error {
	text, err := json.Marshal(slices.Sorted(maps.Keys(k.topics)))
	if err == nil {
		err = k.outbox.SetMarks(ctx, outbox.Mark{Name: keptMark, Value: text})
	}
	if err != nil {
		return fmt.Errorf("keep the list of retained topics: %w", err)
	}
	return nil
}

// begin adds the list of earlier runs to the topics of this configuration, and
// gives those that no longer belong to us. Doubtful is what the list may lack,
// since nothing could be written when it was used.
func (k *kept) begin(ctx context.Context, topics []string, doubtful ...string) (obsolete []string, err error) {
	text, err := k.outbox.Mark(keptMark)
	if err != nil {
		return nil, fmt.Errorf("read the list of retained topics: %w", err)
	}
	var before []string
	if text != nil {
		if err := json.Unmarshal(text, &before); err != nil {
			return nil, fmt.Errorf("read the list of retained topics: %w", err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range topics {
		k.topics[t] = true
	}
	for _, t := range append(before, doubtful...) {
		if !k.topics[t] { // an alarm that this run has raised is in use again
			k.topics[t] = true
			obsolete = append(obsolete, t)
		}
	}
	err = k.save(ctx)
	k.behind = err != nil
	return obsolete, err
}

// drop forgets topics that were cleared.
func (k *kept) drop(ctx context.Context, topics []string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range topics {
		delete(k.topics, t)
	}
	return k.save(ctx)
}

// forget clears the retained topics that are no longer ours, as soon as the
// store and the broker are there.
func (a *Agent) forget(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-a.visits.Opened():
	}
	topics := []string{a.hall.Status(), a.hall.Occupancy()}
	for _, id := range a.devices() {
		topics = append(topics, a.hall.Device(id))
	}
	obsolete, err := a.kept.begin(ctx, topics, a.hall.Alarm(alarmStore, visits))
	for _, t := range obsolete {
		a.mqtt.Retain(t, nil)
	}
	if err == nil && len(obsolete) > 0 {
		// Only once a connection is up are they gone at the broker.
		if _, err = a.mqtt.Session(ctx); err == nil {
			err = a.kept.drop(ctx, obsolete)
		}
	}
	if err != nil && ctx.Err() == nil {
		a.log.Warn("old topics may stay at the broker", "err", err)
	}
	<-ctx.Done()
	return ctx.Err()
}
