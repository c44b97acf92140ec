package device

import (
	"errors"
	"fmt"
)

// Input is one modem line of a serial port that a contact can pull.
type Input int

// The four inputs of a serial port.
const (
	CTS Input = iota
	DSR
	DCD
	RI
)

// Inputs are the modem lines of a serial port at one moment.
type Inputs struct {
	Active [4]bool // by Input

	// Edges count the changes of each input since some moment before, both ways;
	// of RI only its release. They wrap at 2^32. A change and its reverse between
	// two looks show here alone, and only where Counted says that the driver counts.
	Edges   [4]uint32
	Counted bool
}

// ReadInputs gives the modem lines of an open line. One that has none, as a
// pseudo terminal or a socket, gives errors.ErrUnsupported.
func ReadInputs(c Conn) (Inputs, error) {
	r, ok := c.(interface{ Inputs() (Inputs, error) })
	if !ok {
		return Inputs{}, fmt.Errorf("read modem lines: %w", errors.ErrUnsupported)
	}
	return r.Inputs()
}
