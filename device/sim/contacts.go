package sim

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// Contacts are relays on the modem lines of a serial port. They are the port as
// the host sees it: a device.Conn with inputs, since a pseudo terminal has none.
type Contacts struct {
	// Counts says that the port's driver counts edges, as that of a UART does and
	// those of many USB adapters do not.
	Counts bool

	mu     sync.Mutex
	active [4]bool
	edges  [4]uint32
	err    error
}

// Set opens or closes a contact.
func (c *Contacts) Set(i device.Input, active bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active[i] == active {
		return
	}
	c.active[i] = active
	if i != device.RI || !active {
		c.edges[i]++
	}
}

// Hold closes a contact for a while, waiting meanwhile.
func (c *Contacts) Hold(i device.Input, d time.Duration) {
	c.Set(i, true)
	time.Sleep(d)
	c.Set(i, false)
}

// Bounce closes a contact for d as worn relays do: it opens and closes a few
// times within the first and after the last two milliseconds.
func (c *Contacts) Bounce(i device.Input, d time.Duration) {
	for range 4 {
		c.Hold(i, 300*time.Microsecond)
		time.Sleep(200 * time.Microsecond)
	}
	c.Hold(i, d)
	for range 4 {
		time.Sleep(200 * time.Microsecond)
		c.Hold(i, 300*time.Microsecond)
	}
}

// Walk lets somebody through a pair of beams: the first is broken, then both,
// then the second alone, each for step.
func (c *Contacts) Walk(first, second device.Input, step time.Duration) {
	c.Set(first, true)
	time.Sleep(step)
	c.Set(second, true)
	time.Sleep(step)
	c.Set(first, false)
	time.Sleep(step)
	c.Set(second, false)
}

// Unplug makes the port fail.
func (c *Contacts) Unplug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = io.ErrUnexpectedEOF
}

// Inputs are the contacts as the port shows them.
func (c *Contacts) Inputs() (device.Inputs, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return device.Inputs{Active: c.active, Edges: c.edges, Counted: c.Counts}, c.err
}

// Read and Write have nothing to do with contacts.
func (c *Contacts) Read([]byte) (int, error)  { return 0, os.ErrInvalid }
func (c *Contacts) Write([]byte) (int, error) { return 0, os.ErrInvalid }

// Close makes the port fail.
func (c *Contacts) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = os.ErrClosed
	}
	return nil
}

// SetReadDeadline and SetWriteDeadline say nothing.
func (c *Contacts) SetReadDeadline(time.Time) error  { return nil }
func (c *Contacts) SetWriteDeadline(time.Time) error { return nil }
