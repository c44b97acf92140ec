package counter

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hallagent/hallagent/device"
)

// Kinds lists the kinds of counters; a new one is one line here and one file.
func Kinds() device.Catalog[Kind] {
	return device.Catalog[Kind]{
		modbusKind(),
		pulseKind(),
		gateKind(),
		hpcKind(),
		lineKind(),
		irKind(),
		cameraKind(),
	}
}

// Kind is a kind of counter.
type Kind struct {
	device.Kind
	Sensor  Sensor   // how most of its devices count
	Schemes []string // of the lines it lives on

	// Settings returns a pointer to fresh settings for the configuration to fill.
	Settings func() Settings

	// station makes the way to read one counter on a line that it may share; nil
	// for a kind that speaks by itself.
	station func(line device.Address, s Settings) (station, error)

	// hear leads the conversation on a connection to counters of this kind, until
	// it ends or ctx does; nil for a kind that is asked. A kind may have both, for
	// different schemes or settings.
	hear func(ctx context.Context, c device.Conn, on *units) error

	// patience is how long a counter that speaks by itself may be silent; 0 or a nil
	// function: for ever, since nobody may be passing.
	patience func(line device.Address, s Settings) time.Duration

	// asked says of a kind with both whether a counter is asked; nil: whether it has
	// no hear.
	asked func(line device.Address, s Settings) bool
}

// station reads one counter over a line it shares, each request at most so many
// times. A transient error or an exception leaves the line usable; after any
// other the line is over.
type station interface {
	read(ctx context.Context, w *wire, tries int) (Reading, error)
}

// Asked says whether a counter of this kind is asked in turn and may share its
// line, or speaks by itself.
func (k Kind) Asked(line device.Address, s Settings) bool {
	if k.asked != nil {
		return k.asked(line, s)
	}
	return k.hear == nil
}

// Owner has a line and all counters on it.
type Owner interface {
	Use(ctx context.Context, c device.Conn, heard func()) error // a device.Use
	Status() []Status
	Strangers() []string // units heard that are not configured
}

// NewOwner makes the owner of a line that suits its counters: a Bus or an Ear.
// The arguments are those of NewBus.
func NewOwner(line device.Address, counters []Config, poll time.Duration, marks func(device string) ([]byte, error), sink Sink, log *slog.Logger) (Owner, error) {
	if len(counters) > 0 {
		if k, err := Kinds().Find(counters[0].Kind); err == nil && !k.Asked(line, counters[0].Settings) {
			return NewEar(line, counters, marks, sink, log)
		}
	}
	return NewBus(line, counters, poll, marks, sink, log)
}

// each calls add for each counter of a line, once all is well with it.
func each(line device.Address, counters []Config, add func(Kind, Config) error) error {
	kinds, seen := Kinds(), map[string]bool{}
	for _, c := range counters {
		k, err := kinds.Find(c.Kind)
		switch {
		case seen[c.ID]:
			return fmt.Errorf("counter %q is there twice", c.ID)
		case err != nil:
			return fmt.Errorf("counter %q: %w", c.ID, err)
		case !slices.Contains(k.Schemes, line.Scheme):
			return fmt.Errorf("counter %q: kind %s is not for a %s line; it is for %s", c.ID, k.Name, line.Scheme, strings.Join(k.Schemes, ", "))
		case c.Settings == nil:
			return fmt.Errorf("counter %q: no settings", c.ID)
		}
		seen[c.ID] = true
		if ps := c.Settings.Check(line); len(ps) > 0 {
			return fmt.Errorf("counter %q: %s: %s", c.ID, ps[0].Key, ps[0].Cause)
		}
		if err := add(k, c); err != nil {
			return fmt.Errorf("counter %q: %w", c.ID, err)
		}
	}
	return nil
}

// stationOf is the station of a kind whose settings are an S.
func stationOf[S Settings](kind string, build func(line device.Address, s S) station) func(device.Address, Settings) (station, error) {
	return func(line device.Address, s Settings) (station, error) {
		own, ok := s.(S)
		if !ok {
			return nil, settingsError(kind, s)
		}
		return build(line, own), nil
	}
}

// settingsError says that a kind was given the settings of another.
func settingsError(kind string, s Settings) error {
	return fmt.Errorf("kind %s cannot use settings of type %T", kind, s)
}

// checkTimeout looks at how long an answer may take to begin.
func checkTimeout(d, usual time.Duration) []Problem {
	if d >= 0 && d <= time.Minute {
		return nil
	}
	return []Problem{{"timeout", fmt.Sprintf("%v is not between 0 and 1m", d), usual.String() + " suits most devices"}}
}
