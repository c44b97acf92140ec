package counter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hallagent/hallagent/device"
)

// mbapSize is the header of Modbus TCP up to the unit: transaction, protocol,
// length (MODBUS Messaging on TCP/IP V1.0b, §3.1.3).
const mbapSize = 6

// errForeign is an answer that does not belong on this connection: only a new
// connection is sure to be in step again.
var errForeign = fmt.Errorf("answer out of step: %w", device.ErrGarbled)

// tcp wraps the request for Modbus TCP.
func (q request) tcp(tid uint16) []byte {
	pdu := q.pdu()
	f := binary.BigEndian.AppendUint16(nil, tid)
	f = binary.BigEndian.AppendUint16(f, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(1+len(pdu)))
	return append(append(f, q.station), pdu...)
}

// mbap cuts one answer off what has come: its transaction, unit and PDU.
func mbap(come []byte) (tid uint16, unit byte, pdu []byte, missing int, err error) {
	if len(come) < mbapSize {
		return 0, 0, nil, mbapSize - len(come), nil
	}
	tid = binary.BigEndian.Uint16(come)
	protocol, size := binary.BigEndian.Uint16(come[2:]), int(binary.BigEndian.Uint16(come[4:]))
	if protocol != 0 || size < 3 || size > 254 {
		return 0, 0, nil, 0, fmt.Errorf("%w: protocol %d, length %d", errForeign, protocol, size)
	}
	if missing := mbapSize + size - len(come); missing > 0 {
		return 0, 0, nil, missing, nil
	}
	return tid, come[mbapSize], come[mbapSize+1 : mbapSize+size], 0, nil
}

// tcpAnswer is the answer to transaction tid. The answer to one of the last
// transactions is late, not foreign: it is passed over.
func (q request) tcpAnswer(tid uint16) answer {
	const late = 16
	return func(come []byte) ([]byte, int, error) {
		for {
			got, unit, pdu, missing, err := mbap(come)
			switch {
			case err != nil || missing > 0:
				return nil, missing, err
			case got == tid && unit == q.station:
				data, err := q.data(pdu)
				return data, 0, err
			case got == tid:
				return nil, 0, fmt.Errorf("%w: from unit %d, asked %d", errGarbled, unit, q.station) // its own trouble: the stream is in step
			case tid-got > late:
				return nil, 0, fmt.Errorf("%w: transaction %d, asked %d", errForeign, got, tid)
			}
			come = come[mbapSize+1+len(pdu):]
		}
	}
}

// askTCP asks once. Answers are told apart by their transaction, so nothing is
// dropped before; the rest of one that stopped half-way is awaited with the next.
func (w *wire) askTCP(ctx context.Context, q request, timeout time.Duration) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.tid++
	if err := w.send(q.tcp(w.tid), timeout); err != nil {
		return nil, err
	}
	data, come, err := w.receive(ctx, q.tcpAnswer(w.tid), w.late, time.Now().Add(timeout))
	w.late = nil
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.late = unfinished(come)
	}
	return data, err
}

// unfinished is what is left of come behind its last whole answer.
func unfinished(come []byte) []byte {
	for {
		_, _, pdu, missing, err := mbap(come)
		if err != nil || missing > 0 {
			return come
		}
		come = come[mbapSize+1+len(pdu):]
	}
}
