package counter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// Ear has a line on which counters speak by themselves: they push, dial in, or
// are listened to without being asked in turn. All counters on it are of one
// kind, which leads the conversation.
type Ear struct {
	line    device.Address
	kind    Kind
	members []*member

	mu        sync.Mutex
	strangers map[string]bool // units that are not configured
}

const (
	mostStrangers   = 64 // units that are not configured are remembered
	longestStranger = 40 // bytes of their names
)

// NewEar puts the counters of one line together; the arguments are those of
// NewBus. How long one may be silent is for its kind to know.
func NewEar(line device.Address, counters []Config, marks func(device string) ([]byte, error), sink Sink, log *slog.Logger) (*Ear, error) {
	e := &Ear{line: line, strangers: map[string]bool{}}
	books := &books{marks, sink, log}
	err := each(line, counters, func(k Kind, c Config) error {
		switch {
		case k.Asked(line, c.Settings):
			return fmt.Errorf("kind %s does not speak by itself here", k.Name)
		case e.kind.Name != "" && e.kind.Name != k.Name:
			return fmt.Errorf("kinds %s and %s cannot share a line on which devices speak by themselves", e.kind.Name, k.Name)
		}
		e.kind = k
		m := newMember(c, books, 0)
		if k.patience != nil {
			m.patience = k.patience(line, c.Settings)
		}
		if line.Listens() {
			m.status.Code = "" // the line is not away, nobody has come yet
		}
		e.members = append(e.members, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Use hears the counters over one connection, until it ends or ctx does. It is a
// device.Use, on a listening line for each device that comes.
func (e *Ear) Use(ctx context.Context, c device.Conn, heard func()) error {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	err := e.kind.hear(ctx, c, &units{e, heard})
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if !e.line.Listens() {
		silent := errors.Is(err, device.ErrSilent)
		for _, m := range e.members {
			switch {
			case silent:
				m.set(device.Wedged, "silent", err, "")
			case m.state() != device.Wedged:
				m.set(device.Waiting, "line", err, "")
			}
		}
	}
	return err
}

// Status returns a snapshot of every counter, in the order of the configuration.
func (e *Ear) Status() (all []Status) {
	now := time.Now()
	for _, m := range e.members {
		all = append(all, m.snapshot(now))
	}
	return all
}

// Strangers are units that speak on the line and are not in the configuration.
func (e *Ear) Strangers() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.strangers))
}

// units are the counters of a line in the hands of the conversation of one
// connection.
type units struct {
	ear   *Ear
	heard func() // something valid came
}

// find gives the counter whose settings fit, nil if none does.
func (u *units) find(fits func(Settings) bool) *member {
	for _, m := range u.ear.members {
		if fits(m.config.Settings) {
			return m
		}
	}
	return nil
}

// stranger notes a unit that is not configured, by the name it gives itself.
func (u *units) stranger(name string) {
	name = strings.ToValidUTF8(clip(name, longestStranger), "?")
	e := u.ear
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.strangers[name] || len(e.strangers) >= mostStrangers {
		return
	}
	e.strangers[name] = true
	e.members[0].books.log.Warn("a counter that is not configured speaks", "kind", e.kind.Name, "device", name)
}
