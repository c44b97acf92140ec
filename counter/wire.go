package counter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hallagent/hallagent/device"
)

// wire is an open line in the hands of its bus: what all stations on it share.
type wire struct {
	c     device.Conn
	baud  int       // 0 where the line has no rate, as over TCP
	busy  time.Time // when a byte last went over it, either way
	spoke string    // kind of the last request
	tid   uint16    // last transaction of Modbus TCP

	shared map[byte]bool // Modbus stations at which several counters are
	owes   map[byte]bool // Modbus stations of which a late answer may come

	late []byte // beginning of an answer of Modbus TCP that did not come in time
}

// answer examines what has come so far: missing is how many bytes it lacks at
// least, and data is complete when that is 0.
type answer func(come []byte) (data []byte, missing int, err error)

// mostNoise is how many bytes may come before an answer, in front of which a line
// may have noise and the echo of the request.
const mostNoise = 256

// assumedBaud stands for the unknown rate behind a serial device server.
const assumedBaud = 9600

// lineTime is how long n bytes take, at 11 bits a byte.
func (w *wire) lineTime(n int) time.Duration {
	baud := w.baud
	if baud == 0 {
		baud = assumedBaud
	}
	return time.Duration(n) * 11 * time.Second / time.Duration(baud)
}

// gap is the silence that separates frames: 3.5 characters, and 1.75 ms from
// 19200 baud up (MODBUS over Serial Line V1.02, §2.5.1.1).
func (w *wire) gap() time.Duration {
	if w.baud >= 19200 {
		return 1750 * time.Microsecond
	}
	return w.lineTime(7) / 2
}

// exchange asks once on a line whose frames do not say which request they answer.
// What came unasked, as the late answer of an earlier request, is dropped first;
// after a fault the line is left calm. Size is how long the answer is about, in
// bytes, and timeout how long it may take to begin.
func (w *wire) exchange(ctx context.Context, frame []byte, check answer, size int, timeout time.Duration) ([]byte, error) {
	if err := device.Drain(w.c); err != nil {
		return nil, fmt.Errorf("empty line: %w", err)
	}
	if err := device.Pause(ctx, time.Until(w.busy.Add(w.gap()))); err != nil {
		return nil, err
	}
	if err := w.send(frame, timeout); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(timeout + w.lineTime(len(frame)+size))
	data, _, err := w.receive(ctx, check, nil, deadline)
	if transient(err) {
		if err := w.calm(ctx); err != nil {
			return nil, err
		}
	}
	return data, err
}

// ask exchanges, again where it went wrong by chance. Bytes that came and became
// no answer in time are rubbish, not silence.
func (w *wire) ask(ctx context.Context, frame []byte, check answer, size int, timeout time.Duration, tries int) (data []byte, err error) {
	for range tries {
		var rubbish []byte
		data, err = w.exchange(ctx, frame, func(come []byte) ([]byte, int, error) {
			rubbish = come
			return check(come)
		}, size, timeout)
		if errors.Is(err, os.ErrDeadlineExceeded) && len(rubbish) > 0 {
			err = fmt.Errorf("%w: no whole one in % X", errGarbled, rubbish[:min(len(rubbish), 64)])
		}
		if !transient(err) {
			break
		}
	}
	return data, err
}

// send writes a frame at once.
func (w *wire) send(frame []byte, timeout time.Duration) error {
	if err := w.c.SetWriteDeadline(time.Now().Add(timeout + w.lineTime(len(frame)))); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	_, err := w.c.Write(frame)
	w.busy = time.Now()
	if err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	return nil
}

// receive reads behind what has come already until the answer is complete or
// the deadline is past. It never reads beyond the answer, and returns all that came.
// On a line whose rate is known it sleeps while the rest is still on its way,
// instead of waking for every few bytes.
func (w *wire) receive(ctx context.Context, check answer, come []byte, deadline time.Time) (data, all []byte, err error) {
	if err := w.c.SetReadDeadline(deadline); err != nil {
		return nil, come, fmt.Errorf("set read deadline: %w", err)
	}
	for {
		data, missing, err := check(come)
		if err != nil || missing == 0 {
			return data, come, err
		}
		n := len(come)
		come = append(come, make([]byte, missing)...)
		got, err := w.c.Read(come[n:])
		come = come[:n+got]
		if got == 0 && err != nil {
			return nil, come, fmt.Errorf("read answer: %w", err)
		}
		w.busy = time.Now()
		if rest := missing - got; rest > 1 && w.baud > 0 {
			if err := device.Pause(ctx, time.Duration(rest)*10*time.Second/time.Duration(w.baud)); err != nil {
				return nil, come, err
			}
		}
	}
}

// calm drops what comes until nothing has come for a while, so that the tail of
// a damaged or late answer is not taken for the next one.
func (w *wire) calm(ctx context.Context) error {
	const silence, limit = 20 * time.Millisecond, 2 * time.Second
	buf := make([]byte, 256)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if err := w.c.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return fmt.Errorf("set read deadline: %w", err)
		}
		n, err := w.c.Read(buf)
		if n > 0 {
			w.busy = time.Now()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && n == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("wait for silence: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("%w: the line does not fall silent", errGarbled)
}

// transient tells whether the next try on the same open line may go better.
func transient(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errGarbled)
}
