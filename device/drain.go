package device

import (
	"errors"
	"os"
	"time"
)

// drainLimit ends the draining of a device that never stops talking.
const drainLimit = 50 * time.Millisecond

// Drain drops what has arrived on c and was not read, so that a late answer is
// not taken for the answer to the next request. A line that can empty its own
// buffer does so at once; any other is read until nothing comes for 1 ms. It
// leaves c without a read deadline.
func Drain(c Conn) error {
	if r, ok := c.(interface{ ResetInput() error }); ok {
		return r.ResetInput()
	}
	var rubbish [512]byte
	for end := time.Now().Add(drainLimit); time.Now().Before(end); {
		if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return err
		}
		_, err := c.Read(rubbish[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return err
		}
	}
	return c.SetReadDeadline(time.Time{})
}
