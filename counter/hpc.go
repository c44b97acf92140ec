package counter

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/hallagent/hallagent/device"
)

func hpcKind() Kind {
	return Kind{
		Kind: device.Kind{
			Name: "hpc",
			Doc:  "infrared counters of the HPC168 class (frames of hexadecimal text) on RS-232 or RS-485, also behind a serial device server",
		},
		Sensor:   Beam,
		Schemes:  []string{device.SchemeSerial, device.SchemeTCP},
		Settings: func() Settings { return new(HPC) },
		station:  stationOf("hpc", func(_ device.Address, s *HPC) station { return &hpcStation{s} }),
	}
}

// HPC are the settings of kind hpc. Up is in and down is out; swap turns them.
type HPC struct {
	Station int           `yaml:"station"` // the counter's id, 1..65535
	Timeout time.Duration `yaml:"timeout"` // for an answer to begin; 500ms if 0
}

// Check returns everything that is wrong with the settings.
func (s *HPC) Check(device.Address) (ps []Problem) {
	if s.Station < 1 || s.Station > 0xFFFF {
		ps = append(ps, Problem{"station", fmt.Sprintf("%d is no id of a counter", s.Station), "the id set at the counter, four hexadecimal digits: 0001 is 1, 0010 is 0x10"})
	}
	return append(ps, checkTimeout(s.Timeout, defaultTimeout)...)
}

// Place is the id.
func (s *HPC) Place() (key, value string) { return "station", strconv.Itoa(s.Station) }

// The frames of the HPC168 class (two independent implementations of it): the
// bytes below as upper case hexadecimal text between 02 and 03.
//
//	ask     id×2 13 00 sum
//	answer  id×2 93 10 up×4 down×4 other×8 sum
//
// The byte behind the command is how many bytes of data follow. Totals are 32
// bits, high byte first. Sum is the sum of all bytes before it.
const (
	hpcStart, hpcEnd = 0x02, 0x03

	hpcTotals  = 0x93 // the answer to command 13
	hpcData    = 16   // bytes of data in it
	hpcSize    = 2 + 2*(4+hpcData+1)
	hpcModulus = 1 << 32
)

// hpcQuery asks a counter for its totals. The counters know a command that clears
// them, so no frame is built from a command: this is the only one.
func hpcQuery(id uint16) []byte {
	b := append(binary.BigEndian.AppendUint16(nil, id), 0x13, 0x00)
	return fmt.Appendf(nil, "\x02%X%02X\x03", b, sum8(b))
}

// hpcFind finds the answer of a counter in what has come and gives its bytes
// without the sum. Neither end of a frame can stand within one, so a new start is
// the only one that counts. The echo of the request is passed over.
func hpcFind(id uint16, come []byte) (body []byte, missing int, err error) {
	if echo := hpcQuery(id); bytes.Contains(come, echo) {
		_, come, _ = bytes.Cut(come, echo)
	}
	start := bytes.LastIndexByte(come, hpcStart)
	switch {
	case start < 0 && len(come) > mostNoise:
		return nil, 0, fmt.Errorf("%w: %d bytes and no answer in them", errGarbled, len(come))
	case start < 0:
		return nil, hpcSize, nil
	}
	text := come[start+1:]
	end := bytes.IndexByte(text, hpcEnd)
	if end < 0 {
		missing, err := hpcMissing(text)
		return nil, missing, err
	}
	b, err := hex.DecodeString(string(text[:end]))
	if err != nil || len(b) < 5 {
		return nil, 0, fmt.Errorf("%w: %q is no frame", errGarbled, text[:end])
	}
	body, sum := b[:len(b)-1], b[len(b)-1]
	switch {
	case sum != sum8(body):
		return nil, 0, fmt.Errorf("%w: checksum of %q is wrong, %02X would be right", errGarbled, text[:end], sum8(body))
	case binary.BigEndian.Uint16(body) != id:
		return nil, 0, fmt.Errorf("%w: from counter %04X, asked %04X", errGarbled, body[:2], id)
	case body[2] != hpcTotals || body[3] != hpcData || len(body) != 4+hpcData:
		return nil, 0, fmt.Errorf("%w: %q is no answer with totals", errGarbled, text[:end])
	}
	return body, 0, nil
}

// hpcMissing is how much of a frame has not come, of which text has.
func hpcMissing(text []byte) (int, error) {
	const head = 2 * 4 // characters up to the length
	if len(text) < head {
		return head - len(text), nil
	}
	length, err := strconv.ParseUint(string(text[head-2:head]), 16, 8)
	missing := head + 2*int(length) + len("CC\x03") - len(text)
	if err != nil || length > hpcData || missing < 1 {
		return 0, fmt.Errorf("%w: %q does not end as it says", errGarbled, text)
	}
	return missing, nil
}

// hpcReading takes the totals out of an answer. All 32 bits count, though some
// programs take an answer with the upper 16 in use for a damaged one.
func hpcReading(at time.Time, body []byte) Reading {
	return Reading{
		At: at, Modulus: hpcModulus,
		In: uint64(binary.BigEndian.Uint32(body[4:])), Out: uint64(binary.BigEndian.Uint32(body[8:])),
	}
}

// hpcStation is a counter as its line sees it.
type hpcStation struct{ settings *HPC }

func (h *hpcStation) read(ctx context.Context, w *wire, tries int) (Reading, error) {
	id := uint16(h.settings.Station)
	find := func(come []byte) ([]byte, int, error) { return hpcFind(id, come) }
	body, err := w.ask(ctx, hpcQuery(id), find, hpcSize, cmp.Or(h.settings.Timeout, defaultTimeout), tries)
	if err != nil {
		return Reading{}, fmt.Errorf("read totals of counter %04X: %w", id, err)
	}
	return hpcReading(time.Now(), body), nil
}
