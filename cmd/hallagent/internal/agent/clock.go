package agent

import (
	"sync"
	"time"

	"github.com/hallagent/hallagent/sync/wire"
)

// stepLimit is how far the wall clock may drift from the monotonic one before
// it counts as set by hand or by a first synchronisation.
const stepLimit = 2 * time.Second

// clock judges the system's clock: whether it is disciplined, and whether it
// jumped since the agent started.
type clock struct {
	mu      sync.Mutex
	start   time.Time // with its monotonic reading
	offset  time.Duration
	stepped bool
	asked   time.Time
	kernel  wire.Clock
}

func newClock() *clock { return &clock{start: time.Now(), kernel: wire.Unsynced} }

// state gives the clock's state now. The kernel is asked once in ten seconds.
func (c *clock) state() wire.Clock {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.asked.IsZero() || now.Sub(c.asked) > 10*time.Second {
		c.asked, c.kernel = now, discipline()
	}
	wall := now.Round(0).Sub(c.start.Round(0)) // Round(0) drops the monotonic reading
	if drift := wall - now.Sub(c.start) - c.offset; drift.Abs() > stepLimit {
		c.stepped = true
	} else {
		c.offset += drift / 100 // a disciplined clock is slewed, slowly
	}
	if c.stepped {
		return wire.Stepped
	}
	return c.kernel
}
