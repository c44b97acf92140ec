package sim

import (
	"context"
	"io"
	"time"

	"github.com/hallagent/hallagent/device"
)

// bitsPerByte on a line with eight data bits, no parity and one stop bit.
const bitsPerByte = 10

// lineTime is how long n bytes take at baud, rounded up: all have passed by
// then. Nothing where the line has no rate.
func lineTime(n, baud int) time.Duration {
	if baud <= 0 {
		return 0
	}
	return (time.Duration(n)*bitsPerByte*time.Second + time.Duration(baud) - 1) / time.Duration(baud)
}

// napper is a line that knows how to wait for the last moments: the runtime's
// timers come round a millisecond late, ten bytes at 115200.
type napper interface {
	nap(ctx context.Context, d time.Duration) error
}

// pauseUntil waits until t or until ctx ends, whose error it then gives.
func pauseUntil(ctx context.Context, w io.Writer, t time.Time) error {
	const late = 1100 * time.Microsecond // a timer, at most
	line, ok := w.(napper)
	if !ok {
		return device.Pause(ctx, time.Until(t))
	}
	if err := device.Pause(ctx, time.Until(t)-late); err != nil {
		return err
	}
	return line.nap(ctx, time.Until(t))
}

// sendPaced writes frame as a line of that rate would deliver it: at each wake-up
// the bytes that are due, the last one no sooner than the whole line time after
// start. It returns when the last byte was handed to the line.
func sendPaced(ctx context.Context, w io.Writer, frame []byte, baud int, start time.Time) (time.Time, error) {
	at := start
	const step = time.Millisecond // coarser than a byte at high rates: timers have no finer grain
	end := start.Add(lineTime(len(frame), baud))
	for sent := 0; sent < len(frame); {
		due := len(frame)
		if baud > 0 {
			due = min(due, int(time.Since(start)*time.Duration(baud)/(bitsPerByte*time.Second)))
		}
		if due <= sent {
			var err error
			if wake := time.Now().Add(max(step, lineTime(1, baud))); wake.Before(end) {
				err = device.Pause(ctx, time.Until(wake))
			} else {
				err = pauseUntil(ctx, w, end)
			}
			if err != nil {
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

// misheard gives the bytes that a receiver set to the rate at makes of bytes
// that follow each other at another rate. It works as a UART does: it waits for
// the edge of a start bit and looks at the middle of each bit; a wrong stop bit
// is overlooked, as raw terminals do, and the line must be at rest before the
// next edge. At the right rate it gives the bytes themselves.
func misheard(sent []byte, rate, at int) []byte {
	mark := func(t float64) bool { // the line's level at t, in bits of the sender; marked is at rest
		bit := int(t)
		if bit >= len(sent)*bitsPerByte {
			return true
		}
		switch k := bit % bitsPerByte; k {
		case 0:
			return false
		case bitsPerByte - 1:
			return true
		default:
			return sent[bit/bitsPerByte]>>(k-1)&1 == 1
		}
	}
	const looks = 16 // at the line for each bit, as UARTs do
	bit := float64(rate) / float64(at)
	var got []byte
	for t := 0.0; t < float64(len(sent)*bitsPerByte); {
		if mark(t) || mark(t+bit/2) {
			t += bit / looks
			continue
		}
		var b byte
		for k := range 8 {
			if mark(t + bit*(float64(k)+1.5)) {
				b |= 1 << k
			}
		}
		got = append(got, b)
		for t += bit * 9.5; !mark(t); t += bit / looks {
		}
	}
	return got
}
