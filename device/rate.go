package device

import (
	"errors"
	"fmt"
)

// SetRate changes the rate of an open line, in bits per second. What was
// received at the rate before is rubbish at the new one; Drain drops it. A line
// that has no rate, as one over TCP, gives errors.ErrUnsupported.
func SetRate(c Conn, baud int) error {
	r, ok := c.(interface{ SetRate(baud int) error })
	if !ok {
		return fmt.Errorf("set rate of line: %w", errors.ErrUnsupported)
	}
	return r.SetRate(baud)
}
