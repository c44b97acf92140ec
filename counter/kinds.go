package counter

import (
	"context"
	"fmt"

	"github.com/hallagent/hallagent/device"
)

// Kinds lists the kinds of counters; a new one is one line here and one file.
func Kinds() device.Catalog[Kind] {
	return device.Catalog[Kind]{
		modbusKind(),
	}
}

// Kind is a kind of counter.
type Kind struct {
	device.Kind

	// Settings returns a pointer to fresh settings for the configuration to fill.
	Settings func() Settings

	// station makes the way to read one counter on a line of that address.
	station func(line device.Address, s Settings) (station, error)
}

// station reads one counter's totals over a line it shares, each request at most
// so many times. A transient error or an exception leaves the line usable; after
// any other the line is over.
type station interface {
	read(ctx context.Context, w *wire, tries int) (Reading, error)
}

// settingsError says that a kind was given the settings of another.
func settingsError(kind string, s Settings) error {
	return fmt.Errorf("kind %s cannot use settings of type %T", kind, s)
}
