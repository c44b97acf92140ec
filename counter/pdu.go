package counter

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// request asks one station for registers (MODBUS Application Protocol V1.1b3, §6.3 and §6.4).
type request struct {
	station  byte
	function byte // 3 or 4
	address  uint16
	words    int // 1..125
}

// pdu is the request without station and wrapping.
func (q request) pdu() []byte {
	b := binary.BigEndian.AppendUint16([]byte{q.function}, q.address)
	return binary.BigEndian.AppendUint16(b, uint16(q.words))
}

// data takes the registers out of an answer's PDU, which must fit the request.
func (q request) data(pdu []byte) ([]byte, error) {
	switch {
	case len(pdu) == 2 && pdu[0] == q.function|0x80:
		return nil, exception(pdu[1])
	case len(pdu) < 2 || pdu[0] != q.function:
		return nil, fmt.Errorf("%w: another function", errGarbled)
	case int(pdu[1]) != 2*q.words || len(pdu) != 2+2*q.words:
		return nil, fmt.Errorf("%w: %d bytes of registers, asked for %d", errGarbled, pdu[1], 2*q.words)
	}
	return pdu[2:], nil
}

// errGarbled is an answer that is damaged or belongs to another request.
var errGarbled = errors.New("garbled answer")

// exception is a station's refusal (MODBUS Application Protocol V1.1b3, §7).
type exception byte

func (e exception) Error() string {
	name := map[exception]string{
		1: "function not supported", 2: "no such register", 3: "bad request", 4: "device failure",
		5: "busy, will answer later", 6: "busy", 8: "memory error", 10: "no way to the station", 11: "the station behind the gateway is silent",
	}[e]
	if name == "" {
		name = "unknown reason"
	}
	return fmt.Sprintf("exception %d: %s", byte(e), name)
}
