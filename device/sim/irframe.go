package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// irAnswer is what a unit takes of an answer.
type irAnswer struct {
	seq    uint16
	status int           // 0: well
	now    time.Time     // zero: none was told
	upload time.Duration // 0: none was told
}

const irTime = "20060102150405"

func (u *IRUnit) beatFrame(seq uint16, f IRFaults) []byte {
	if u.opts.Dialect == "fa" {
		return irFrameFA(seq, 0x22, "<TIME_SYSNC_REQ><uuid>"+u.opts.Serial+"</uuid></TIME_SYSNC_REQ>")
	}
	u.mu.Lock()
	now := time.Now().Add(u.ahead).In(u.opts.Zone).Format(irTime)
	u.mu.Unlock()
	return irFrame7E(0xD1, fmt.Sprintf("%s,%s,%d,%d,1,V1.2,M8", u.opts.Serial, now, f.battery(), 78))
}

func (u *IRUnit) uploadFrame(seq uint16, r irRecord, f IRFaults) []byte {
	stamp := r.end.Format(irTime)
	if u.opts.Dialect == "fa" {
		warn, offline := 0, 0
		if f.battery() < 25 {
			warn = 1
		}
		if f.Offline {
			offline = 1
		}
		return irFrameFA(seq, 0x21, fmt.Sprintf("<UP_SENSOR_DATA_REQ><uuid>%s</uuid><rec_type>1</rec_type><in>%d</in><out>%d</out><time>%s</time>"+
			"<battery_level>%d</battery_level><warn_status>%d</warn_status><batterytx_level>78</batterytx_level><signal_status>%d</signal_status></UP_SENSOR_DATA_REQ>",
			u.opts.Serial, r.counts[0], r.counts[1], stamp, f.battery(), warn, offline))
	}
	command := byte(0xD2)
	if r.sent {
		command = 0xD3
	}
	return irFrame7E(command, fmt.Sprintf("%s,%s,%d,%d,%d,%d,1,V1.2,M8", u.opts.Serial, stamp, r.counts[0], r.counts[1], f.battery(), 78))
}

func (f IRFaults) battery() int {
	if f.Battery == 0 {
		return 84
	}
	return f.Battery
}

func irFrameFA(seq uint16, kind byte, text string) []byte {
	b := []byte{0xFA, 0xF5, 0xF6, byte(seq >> 8), byte(seq), kind, byte(len(text) >> 8), byte(len(text))}
	return append(append(b, text...), 0xFA, 0xF6, 0xF5)
}

func readIRAnswerFA(r io.Reader, zone *time.Location) (a irAnswer, err error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return a, err
	}
	rest := make([]byte, int(binary.BigEndian.Uint16(head[6:]))+3)
	if _, err := io.ReadFull(r, rest); err != nil {
		return a, err
	}
	text := string(rest[:len(rest)-3])
	if string(head[:3]) != "\xFA\xF5\xF6" || string(rest[len(text):]) != "\xFA\xF6\xF5" {
		return a, errors.New("answer without head or tail")
	}
	a.seq = binary.BigEndian.Uint16(head[3:])
	if a.status, err = strconv.Atoi(element(text, "ret")); err != nil {
		return a, err
	}
	if head[5] != 0x22 {
		return a, nil
	}
	// Real units take nothing that lacks one of these.
	for _, name := range []string{"TIME_SYSNC_RES", "uuid", "time", "uploadInterval", "dataStartTime", "dataEndTime"} {
		if element(text, name) == "" {
			return a, fmt.Errorf("answer to the question for the time without %s", name)
		}
	}
	if a.now, err = time.ParseInLocation(irTime, element(text, "time"), zone); err != nil {
		return a, err
	}
	interval := element(text, "uploadInterval")
	a.upload, err = time.ParseDuration(interval[:2] + "h" + interval[2:] + "m")
	return a, err
}

// element gives what stands between the tags of a name.
func element(text, name string) string {
	_, rest, _ := strings.Cut(text, "<"+name+">")
	inner, _, ok := strings.Cut(rest, "</"+name+">")
	if !ok {
		return ""
	}
	return inner
}

func irFrame7E(command byte, text string) []byte {
	b := append([]byte{0xFF, 0xFF, 0xFF, 0xFF, command, 0x01, byte(len(text) >> 8), byte(len(text))}, text...)
	b = binary.LittleEndian.AppendUint16(b, modbusCRC(b))
	escaped := strings.NewReplacer("\x7C", "\x7C\x5C", "\x7D", "\x7C\x5D", "\x7E", "\x7C\x5E").Replace(string(b))
	return []byte("\x7E" + escaped + "\x7D")
}

func readIRAnswer7E(r io.Reader, zone *time.Location) (a irAnswer, err error) {
	var frame []byte
	for one := make([]byte, 1); len(frame) == 0 || one[0] != 0x7D; {
		if _, err := io.ReadFull(r, one); err != nil {
			return a, err
		}
		frame = append(frame, one[0])
	}
	body := strings.NewReplacer("\x7C\x5C", "\x7C", "\x7C\x5D", "\x7D", "\x7C\x5E", "\x7E").Replace(string(frame[1 : len(frame)-1]))
	if frame[0] != 0x7E || len(body) < 10 || modbusCRC([]byte(body)) != 0 || body[5] != 0x02 {
		return a, errors.New("damaged answer")
	}
	f := strings.Split(body[8:len(body)-2], ",")
	if len(f) != 10 || f[6] != "0" {
		return a, fmt.Errorf("answer with fields %q", f)
	}
	if a.status, err = strconv.Atoi(f[0]); err != nil {
		return a, err
	}
	if a.now, err = time.ParseInLocation(irTime, f[1], zone); err != nil {
		return a, err
	}
	minutes, err := strconv.Atoi(f[4])
	a.upload = time.Duration(minutes) * time.Minute
	return a, err
}
