package counter

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The FA dialect: "红外计数器 M8", network protocol V1.7. A frame is
//
//	FA F5 F6 | sequence 2 | type 1 | length 2 | XML | FA F6 F5
//
// with its numbers high byte first and no checksum.
var (
	faHead = [...]byte{0xFA, 0xF5, 0xF6}
	faTail = [...]byte{0xFA, 0xF6, 0xF5}
)

const (
	faLongest = 65500 // bytes of XML

	// Names of requests; that of the answer ends in RES. The maker's misspelling is
	// part of the protocol: units ignore an answer that is spelt right.
	faUpload = "UP_SENSOR_DATA_REQ"
	faTime   = "TIME_SYSNC_REQ"
)

// faFrame is a frame; its answer repeats sequence and type.
type faFrame struct {
	sequence uint16
	kind     byte // 21 upload, 22 time
	data     []byte
}

func readFA(r *bufio.Reader) (faFrame, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return faFrame{}, err
	}
	size := int(binary.BigEndian.Uint16(head[6:]))
	if [3]byte(head[:3]) != faHead || size > faLongest {
		return faFrame{}, fmt.Errorf("%w: frame head % X", errGarbled, head)
	}
	body := make([]byte, size+len(faTail))
	if _, err := io.ReadFull(r, body); err != nil {
		return faFrame{}, err
	}
	if [3]byte(body[size:]) != faTail {
		return faFrame{}, fmt.Errorf("%w: frame tail % X", errGarbled, body[size:])
	}
	return faFrame{sequence: binary.BigEndian.Uint16(head[3:]), kind: head[5], data: body[:size]}, nil
}

func (f faFrame) bytes() []byte {
	b := append([]byte(nil), faHead[:]...)
	b = binary.BigEndian.AppendUint16(b, f.sequence)
	b = append(b, f.kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.data)))
	return append(append(b, f.data...), faTail[:]...)
}

// faMessage is the XML of a request.
type faMessage struct {
	frame faFrame

	XMLName  xml.Name
	UUID     string `xml:"uuid"`
	RecType  string `xml:"rec_type"` // 1 live, 2 history
	In       string `xml:"in"`
	Out      string `xml:"out"`
	Time     string `xml:"time"`
	Battery  string `xml:"battery_level"`   // per cent
	Warn     string `xml:"warn_status"`     // 1: battery below 25 %
	Sender   string `xml:"batterytx_level"` // per cent, of the transmitter
	NoSender string `xml:"signal_status"`   // 1: transmitter offline; most units say so while they count
}

// message reads the XML. The maker's document writes some names of elements with
// spaces in them, so spaces in tags say nothing.
func (f faFrame) message() (*faMessage, error) {
	m := &faMessage{frame: f}
	d := xml.NewDecoder(bytes.NewReader(squeezeTags(f.data)))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // all that counts is ASCII
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbled, err)
	}
	m.UUID = strings.TrimSpace(m.UUID)
	if m.UUID == "" || len(m.XMLName.Local) > 64 {
		return nil, fmt.Errorf("%w: a request without uuid, or with an endless name", errGarbled)
	}
	return m, nil
}

// squeezeTags drops the white space within tags, but for <? and <!.
func squeezeTags(text []byte) []byte {
	squeezed := make([]byte, 0, len(text))
	within := false
	for i, b := range text {
		switch {
		case b == '<':
			within = i+1 < len(text) && text[i+1] != '?' && text[i+1] != '!'
		case b == '>':
			within = false
		}
		if !within || !unicode.IsSpace(rune(b)) {
			squeezed = append(squeezed, b)
		}
	}
	return squeezed
}

func (m *faMessage) report() irReport {
	r := irReport{
		serial:  m.UUID,
		powered: m.Warn != "" || m.Battery != "",
		low:     strings.TrimSpace(m.Warn) == "1" || isLow(m.Battery) || isLow(m.Sender) && strings.TrimSpace(m.NoSender) != "1",
	}
	if m.XMLName.Local != faUpload {
		return r
	}
	r.counts = true
	r.stored = strings.TrimSpace(m.RecType) == "2"
	r.stamp = clip(m.Time, len(irStamp))
	r.in, r.out, r.bad = figures(m.In, m.Out)
	return r
}

func (m *faMessage) answer(v irVerdict, s *IR, at time.Time) []byte {
	name := strings.TrimSuffix(m.XMLName.Local, "REQ") + "RES"
	var x strings.Builder
	add := func(key, value string) {
		x.WriteString("<" + key + ">")
		_ = xml.EscapeText(&x, []byte(value)) // a Builder takes everything
		x.WriteString("</" + key + ">")
	}
	x.WriteString("<" + name + ">")
	add("uuid", clip(m.UUID, 64))
	add("ret", strconv.Itoa(int(v)))
	if m.XMLName.Local == faTime {
		hours, minutes := int(s.upload().Hours()), int(s.upload().Minutes())%60
		add("time", s.clock(at))
		add("uploadInterval", fmt.Sprintf("%02d%02d", hours, minutes))
		add("dataStartTime", "0000")
		add("dataEndTime", "2359")
	}
	x.WriteString("</" + name + ">")
	return faFrame{m.frame.sequence, m.frame.kind, []byte(x.String())}.bytes()
}

// figures reads the two numbers of a record.
func figures(in, out string) (i, o uint64, err error) {
	i, errIn := strconv.ParseUint(strings.TrimSpace(in), 10, 32)
	o, errOut := strconv.ParseUint(strings.TrimSpace(out), 10, 32)
	return i, o, errors.Join(errIn, errOut)
}

// isLow says whether a battery is nearly empty. Who has none says 0.
func isLow(percent string) bool {
	n, err := strconv.Atoi(strings.TrimSpace(percent))
	return err == nil && n > 0 && n < lowBattery
}

// clip shortens what a device says to what is of use.
func clip(s string, most int) string {
	s = strings.TrimSpace(s)
	return s[:min(len(s), most)]
}
