package sim

import (
	"context"
	"io"
	"time"

	"github.com/hallagent/hallagent/device"
)

// bitsPerByte on a line with eight data bits, no parity and one stop bit.
const bitsPerByte = 10

// lineTime is how long n bytes take at baud; nothing where the line has no rate.
func lineTime(n, baud int) time.Duration {
	if baud <= 0 {
		return 0
	}
	return time.Duration(n) * bitsPerByte * time.Second / time.Duration(baud)
}

// sendPaced writes frame as a line of that rate would deliver it: at each wake-up
// the bytes that are due, the last one no sooner than the whole line time after
// start. It returns when the last byte was handed to the line.
func sendPaced(ctx context.Context, w io.Writer, frame []byte, baud int, start time.Time) (time.Time, error) {
	var at time.Time
	const step = time.Millisecond // coarser than a byte at high rates: timers have no finer grain
	for sent := 0; sent < len(frame); {
		due := len(frame)
		if baud > 0 {
			due = min(due, int(time.Since(start)*time.Duration(baud)/(bitsPerByte*time.Second)))
		}
		if due <= sent {
			if err := device.Pause(ctx, max(step, lineTime(1, baud))); err != nil {
				return time.Time{}, err
			}
			continue
		}
		at = time.Now() // not behind the write: the host may be done before it returns
		n, err := w.Write(frame[sent:due])
		if err != nil {
			return time.Time{}, err
		}
		sent += n
	}
	return at, nil
}
