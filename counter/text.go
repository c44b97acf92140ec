package counter

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	longestLine = 4 << 10 // bytes; of a longer one nothing is kept
	usualLine   = 40      // bytes

	samePass = 300 * time.Millisecond // two events in one direction within are one
)

// splitter cuts what comes into lines. Empty lines are none.
type splitter struct {
	end  string // "": CR, LF or both
	rest []byte
	skip bool // the line is too long: nothing counts until its end
}

// cut gives the lines that end in b, without their ends.
func (s *splitter) cut(b []byte) (lines [][]byte) {
	for _, c := range b {
		s.rest = append(s.rest, c)
		line, ended := s.ended()
		if !ended {
			if len(s.rest) > longestLine {
				s.rest, s.skip = append(s.rest[:0], s.rest[len(s.rest)-len(s.end):]...), true
			}
			continue
		}
		if len(line) > 0 && !s.skip {
			lines = append(lines, bytes.Clone(line))
		}
		s.rest, s.skip = s.rest[:0], false
	}
	return lines
}

// ended says whether the line is whole.
func (s *splitter) ended() (line []byte, ended bool) {
	switch s.end {
	case "":
		n := len(s.rest) - 1
		return s.rest[:n], s.rest[n] == '\r' || s.rest[n] == '\n'
	case endNone:
		return s.rest, true
	}
	return bytes.CutSuffix(s.rest, []byte(s.end))
}

// checksums are the sums that lines may carry, by name.
func checksums() map[string]func([]byte) uint16 {
	return map[string]func([]byte) uint16{
		"": nil, "none": nil,
		"xor":            func(b []byte) uint16 { return uint16(xor8(b)) },
		"sum":            func(b []byte) uint16 { return uint16(sum8(b)) },
		"sum-complement": func(b []byte) uint16 { return uint16(^sum8(b)) },
		"crc16-modbus":   crc16,
		"crc16-ccitt":    crcCCITT,
	}
}

// textFormat decodes the lines of one counter.
type textFormat struct {
	settings *Text
	forms    []textForm
	in, out  []string // words of directions
	sum      func([]byte) uint16
}

type textForm struct {
	*regexp.Regexp
	value Value
}

// newTextFormat makes the format of settings that were checked.
func newTextFormat(s *Text) *textFormat {
	f := &textFormat{settings: s, in: s.Dirs.In, out: s.Dirs.Out, sum: checksums()[s.Checksum]}
	if len(f.in) == 0 {
		f.in = []string{"i", "in", "1", "+", "enter", "entry"}
	}
	if len(f.out) == 0 {
		f.out = []string{"o", "out", "2", "-", "exit"}
	}
	for _, p := range s.patterns() {
		f.forms = append(f.forms, textForm{regexp.MustCompile(p.Match), p.value()})
	}
	return f
}

// tells says whether lines can hold a value.
func (f *textFormat) tells(v Value) bool {
	for _, form := range f.forms {
		if form.value == v {
			return true
		}
	}
	return false
}

// said is what a line says.
type said struct {
	serial     string
	reading    Reading // without its time
	undirected uint64  // passes whose direction is no known word
}

// fits says whether a line is of this counter, which may be alone on its line.
func (f *textFormat) fits(s said, alone bool) bool {
	return strings.EqualFold(s.serial, f.settings.Serial) || f.settings.Serial == "" && alone
}

// decode reads a line. It is not ok if no pattern fits; the error is for one that
// does and is damaged.
func (f *textFormat) decode(line []byte) (s said, ok bool, err error) {
	text := string(line)
	if f.settings.Charset == charsetLatin1 {
		text = fromLatin1(line)
	}
	for _, form := range f.forms {
		at := form.FindStringSubmatchIndex(text)
		if at == nil {
			continue
		}
		found, before := map[string]string{}, ""
		for i, name := range form.SubexpNames() {
			if name != "" && at[2*i] >= 0 {
				found[name] = text[at[2*i]:at[2*i+1]]
			}
			if name == "sum" {
				before = text[:max(0, at[2*i])]
			}
		}
		if f.sum != nil {
			part, given := found["part"]
			if !given {
				part = before
			}
			err = f.checkSum(part, found["sum"])
		}
		if err == nil {
			s, err = f.mean(form, found)
		}
		s.serial = found["serial"]
		return s, true, err
	}
	return said{}, false, nil
}

// checkSum compares the sum that came with the one of the part it is taken over.
func (f *textFormat) checkSum(part, sum string) error {
	b := []byte(part)
	if f.settings.Charset == charsetLatin1 {
		b = toLatin1(part)
	}
	want := f.sum(b)
	got, err := strconv.ParseUint(sum, 16, 16)
	if err != nil || uint16(got) != want && (want>>8|want<<8 != uint16(got) || len(sum) != 4) {
		return fmt.Errorf("%w: checksum %q of %q is wrong, %02X would be right", errGarbled, sum, part, want)
	}
	return nil
}

// mean makes a reading of what was found in a line.
func (f *textFormat) mean(form textForm, found map[string]string) (s said, err error) {
	r := &s.reading
	r.Value = form.value
	number := func(group string, none uint64) uint64 {
		text, ok := found[group]
		if !ok && form.value == Total && form.SubexpIndex(group) >= 0 {
			err = fmt.Errorf("%w: %s is missing", errGarbled, group) // none would be a reset
		}
		if !ok || err != nil {
			return none
		}
		var n uint64
		if n, err = strconv.ParseUint(strings.TrimSpace(text), 10, 64); err != nil {
			err = fmt.Errorf("%w: %s is %q", errGarbled, group, text)
		}
		return n
	}
	r.In, r.Out = number("in", 0), number("out", 0)
	if text, ok := found["net"]; ok {
		net, convErr := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
		if convErr != nil {
			return s, fmt.Errorf("%w: net is %q", errGarbled, text)
		}
		r.In, r.Out = uint64(max(0, net)), uint64(max(0, -net))
	}
	if word, ok := found["dir"]; ok {
		switch n := number("n", 1); {
		case contains(f.in, word):
			r.In = n
		case contains(f.out, word):
			r.Out = n
		default:
			s.undirected = n
		}
	}
	switch stamp, most := found["stamp"], max(r.In, r.Out); {
	case form.value == Total:
		r.Modulus = f.settings.Modulus
		if r.Modulus > 0 && most >= r.Modulus {
			err = fmt.Errorf("%w: a total of %d, and the modulus is %d", errGarbled, most, r.Modulus)
		}
	case stamp != "":
		r.Stamp = found["serial"] + " " + stamp
	case form.value != Event || found["n"] != "":
	case r.In > 0 && r.Out == 0:
		r.Stamp, r.Once = "in", cmp.Or(f.settings.Guard, samePass)
	case r.Out > 0 && r.In == 0:
		r.Stamp, r.Once = "out", cmp.Or(f.settings.Guard, samePass)
	}
	if form.value == Delta {
		r.Period = f.settings.Expect
	}
	return s, err
}

func contains(words []string, word string) bool {
	for _, w := range words {
		if strings.EqualFold(w, strings.TrimSpace(word)) {
			return true
		}
	}
	return false
}

func fromLatin1(b []byte) string {
	var text []byte
	for _, c := range b {
		text = utf8.AppendRune(text, rune(c))
	}
	return string(text)
}

func toLatin1(text string) (b []byte) {
	for _, r := range text {
		b = append(b, byte(r))
	}
	return b
}
