package counter

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// rtu wraps the request for a serial line.
func (q request) rtu() []byte {
	f := append([]byte{q.station}, q.pdu()...)
	crc := crc16(f)
	return append(f, byte(crc), byte(crc>>8))
}

// rtuAnswer is an answer from a serial line. Its end comes from function and
// byte count; silence on a line cannot be measured well enough to find it.
func (q request) rtuAnswer(come []byte) (data []byte, missing int, err error) {
	const shortest = 5 // an exception
	if len(come) < shortest {
		return nil, shortest - len(come), nil
	}
	if come[0] != q.station {
		return nil, 0, fmt.Errorf("%w: from station %d, asked %d", errGarbled, come[0], q.station)
	}
	var size int
	switch come[1] {
	case q.function | 0x80:
		size = shortest
	case q.function:
		if int(come[2]) != 2*q.words {
			return nil, 0, fmt.Errorf("%w: %d bytes of registers, asked for %d", errGarbled, come[2], 2*q.words)
		}
		size = 3 + 2*q.words + 2
	default:
		return nil, 0, fmt.Errorf("%w: function %d, asked for %d", errGarbled, come[1], q.function)
	}
	if len(come) < size {
		return nil, size - len(come), nil
	}
	body, sum := come[:size-2], come[size-2:size]
	if crc := crc16(body); sum[0] != byte(crc) || sum[1] != byte(crc>>8) {
		return nil, 0, fmt.Errorf("%w: wrong checksum", errGarbled)
	}
	data, err = q.data(body[1:])
	return data, 0, err
}

// askRTU asks once.
func (w *wire) askRTU(ctx context.Context, q request, timeout time.Duration) ([]byte, error) {
	return w.exchange(ctx, q.rtu(), q.rtuAnswer, 5+2*q.words, timeout)
}

// anchorWords is how many registers an anchor asks for: no counter's request is so
// long, so no other answer can be taken for its.
const anchorWords = 3

// anchor asks a station for something else. Stations answer in order: what comes
// after its answer, a refusal as well, belongs to later requests.
func (w *wire) anchor(ctx context.Context, q request, timeout time.Duration) error {
	q.words = anchorWords
	_, err := w.askRTU(ctx, q, timeout)
	var refusal exception
	if err == nil || errors.As(err, &refusal) {
		delete(w.owes, q.station)
		return nil
	}
	return fmt.Errorf("find out where station %d is: %w", q.station, err)
}

// owe notes that an answer of a station may still come.
func (w *wire) owe(station byte) {
	if w.owes == nil {
		w.owes = map[byte]bool{}
	}
	w.owes[station] = true
}
