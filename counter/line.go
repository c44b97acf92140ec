package counter

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hallagent/hallagent/device"
)

func lineKind() Kind {
	return Kind{
		Kind: device.Kind{
			Name: "line",
			Doc:  "counters that send lines of text, by themselves or when asked: on serial lines, over TCP either way, and as datagrams",
		},
		Sensor:   Beam,
		Schemes:  []string{device.SchemeSerial, device.SchemeTCP, device.SchemeTCPListen, device.SchemeUDPListen},
		Settings: func() Settings { return new(Text) },
		station:  stationOf("line", func(_ device.Address, s *Text) station { return &textStation{newTextFormat(s)} }),
		hear:     hearText,
		asked: func(_ device.Address, s Settings) bool {
			t, ok := s.(*Text)
			return ok && t.Ask != ""
		},
		patience: func(_ device.Address, s Settings) time.Duration {
			t, ok := s.(*Text)
			if !ok {
				return 0
			}
			return patient * t.Expect
		},
	}
}

// Text are the settings of kind line.
//
// Each line is held against the patterns in turn; the first that fits says what
// the line means. A pattern is a regular expression (RE2 syntax) with named
// groups, as in IN=(?P<in>\d+):
//
//	in, out   how many
//	net       how many more in than out, with its sign
//	dir       the direction, a word of dirs
//	n         how many in that direction; one without it
//	serial    which unit speaks, where several share the line
//	stamp     names a delta or an event, so that one that comes again is known
//	sum       the checksum, hexadecimal, of a word either byte first
//	part      what the checksum is taken over; all before sum without it
//
// A pattern of an event without any of the first five is a sign of life. Events
// without a stamp and without n that come in the same direction within Guard are
// one: it is the moment of coming that counts, so a line that delivers several at
// once, as after a stall of the network, wants a shorter one.
type Text struct {
	Preset   string        `yaml:"preset"`   // one-char, in-out or vivotek: their patterns
	Patterns []Pattern     `yaml:"patterns"` // of any other device
	End      string        `yaml:"end"`      // of a line: cr, lf, crlf, none (every byte is a line) or the characters; any of the first three if empty
	Charset  string        `yaml:"charset"`  // utf-8 or latin1, where each byte is a character; utf-8 if empty
	Dirs     Dirs          `yaml:"dirs"`     // words of directions; in any case
	Checksum string        `yaml:"checksum"` // none, xor, sum, sum-complement (255 - sum), crc16-modbus or crc16-ccitt (from FFFF)
	Modulus  uint64        `yaml:"modulus"`  // of totals; 0: they do not roll over
	Serial   string        `yaml:"serial"`   // the unit, as the group serial shows it
	Ask      string        `yaml:"ask"`      // sent once per poll as it stands, so it must do no more than ask; the device speaks by itself if empty
	Timeout  time.Duration `yaml:"timeout"`  // for an answer to begin; 500ms if 0
	Guard    time.Duration `yaml:"guard"`    // events without a stamp and without n in the same direction within it are one; 300ms if 0
	Expect   time.Duration `yaml:"expect"`   // how often the device speaks at least, which is the period of deltas; 0: silence is normal
}

// Pattern is one form of line.
type Pattern struct {
	Match string `yaml:"match"` // regular expression with named groups
	Value string `yaml:"value"` // total, delta or event
}

// Dirs are words of directions.
type Dirs struct {
	In  []string `yaml:"in"`  // i, in, 1, +, enter and entry if empty
	Out []string `yaml:"out"` // o, out, 2, - and exit if empty
}

const (
	patient = 3 // times Expect that a device may be silent

	endNone = "none"

	charsetUTF8   = "utf-8"
	charsetLatin1 = "latin1"

	longestAsk = 256 // bytes
)

// presets are the patterns of devices that are often met.
func presets() map[string][]Pattern {
	return map[string][]Pattern{
		"one-char": {{`^(?P<dir>[IOio12+-])$`, string(Event)}},
		"in-out":   {{`(?i)^\W*in\s*[=:]\s*(?P<in>\d+)[\s,;]+out\s*[=:]\s*(?P<out>\d+)\s*$`, valueTotal}},
		// Counting,<rule>,<in>,<out>,<start>,<end> (Vivotek SC8131 manual, data in CSV)
		"vivotek": {{`^Counting,(?P<serial>[^,]*),(?P<in>\d+),(?P<out>\d+),(?P<stamp>[^,]+,[^,]+)$`, string(Delta)}},
	}
}

// groups that a pattern may have.
var groups = []string{"in", "out", "net", "dir", "n", "serial", "stamp", "sum", "part"}

// patterns are those of the preset, or one's own.
func (s *Text) patterns() []Pattern {
	if s.Preset != "" {
		return presets()[s.Preset]
	}
	return s.Patterns
}

// end is the end of a line: "" for CR, LF or both.
func (s *Text) end() string {
	if s.End == "" && s.Preset == "one-char" {
		return endNone
	}
	switch s.End {
	case "cr":
		return "\r"
	case "lf":
		return "\n"
	case "crlf":
		return "\r\n"
	}
	return s.End
}

// Place is what the device is asked, or the unit's serial number.
func (s *Text) Place() (key, value string) {
	if s.Ask != "" {
		return "ask", strconv.Quote(s.Ask)
	}
	return "serial", s.Serial
}

// Shares says that another counter of the same line ends its lines otherwise.
func (s *Text) Shares(_ device.Address, other Settings) (key, value string) {
	if o, ok := other.(*Text); ok && o.end() != s.end() {
		return "end", "a line with another end"
	}
	return "", ""
}

// endPattern is an end given by its characters: letters and digits would be a
// misspelt name.
var endPattern = regexp.MustCompile(`^[^\pL\pN]{1,4}$`)

// Check returns everything that is wrong with the settings.
func (s *Text) Check(line device.Address) []Problem {
	var ps []Problem
	report := func(key, hint, cause string, args ...any) {
		ps = append(ps, Problem{Key: key, Cause: fmt.Sprintf(cause, args...), Hint: hint})
	}
	known := presets()
	switch {
	case s.Preset != "" && known[s.Preset] == nil:
		report("preset", "one-char, in-out or vivotek; give patterns for any other device", "%q is not known", s.Preset)
	case s.Preset != "" && len(s.Patterns) > 0:
		report("patterns", "leave out one of the two", "a preset brings its own")
	case s.Preset == "" && len(s.Patterns) == 0:
		report("patterns", `give a preset (one-char, in-out, vivotek) or patterns, as in [{match: "IN=(?P<in>\\d+) OUT=(?P<out>\\d+)", value: total}]`, "nothing says what a line means")
	}
	if s.End != "" && s.end() == s.End && s.End != endNone && !endPattern.MatchString(s.End) {
		report("end", `cr, lf, crlf, none, or the characters in double quotes, as in "\r\n" or ";"`, "%q is no end of a line", s.End)
	}
	if s.Charset != "" && s.Charset != charsetUTF8 && s.Charset != charsetLatin1 {
		report("charset", "utf-8 or latin1; latin1 also suits any text whose words need not be understood", "%q is not known", s.Charset)
	}
	for _, word := range s.Dirs.In {
		if slices.ContainsFunc(s.Dirs.Out, func(o string) bool { return strings.EqualFold(o, word) }) {
			report("dirs", "give each direction its own words", "%q is in both directions", word)
		}
	}
	if _, ok := checksums()[s.Checksum]; !ok {
		report("checksum", "none, xor, sum, sum-complement, crc16-modbus or crc16-ccitt", "%q is not known", s.Checksum)
	}
	switch {
	case len(s.Ask) > longestAsk:
		report("ask", "a few characters and the end of a line", "%d bytes are too many to ask with", len(s.Ask))
	case s.Ask != "" && line.Listens():
		report("ask", "leave it out: who comes to this line speaks by itself", "nobody can be asked on a %s line", line.Scheme)
	}
	ps = append(ps, checkTimeout(s.Timeout, defaultTimeout)...)
	if s.Guard < 0 || s.Guard > 10*time.Second {
		report("guard", "300ms suits most doors; 1ms hardly guards at all", "%v is not between 0 and 10s", s.Guard)
	}
	switch {
	case s.Expect != 0 && s.Ask != "":
		report("expect", "leave it out: who is asked is expected to answer", "is for devices that speak by themselves")
	case s.Expect < 0 || s.Expect > 24*time.Hour:
		report("expect", "how often the device sends something, such as 5m", "%v is not between 0 and 24h", s.Expect)
	}
	if len(ps) == 0 {
		ps = s.checkPatterns()
	}
	return ps
}

// checkPatterns looks at the patterns, and at what they leave open together.
func (s *Text) checkPatterns() []Problem {
	var ps []Problem
	report := func(key, hint, cause string, args ...any) {
		ps = append(ps, Problem{Key: key, Cause: fmt.Sprintf(cause, args...), Hint: hint})
	}
	values, serials, shown, counts := map[Value]bool{}, true, map[string]bool{}, false
	for i, p := range s.patterns() {
		key := fmt.Sprintf("patterns[%d]", i)
		if s.Preset != "" {
			key = "preset"
		}
		has, problem := p.check(s.Checksum != "" && s.Checksum != "none")
		if problem != nil {
			report(strings.TrimSuffix(key+"."+problem.Key, "."), problem.Hint, "%s", problem.Cause)
			continue
		}
		values[p.value()] = true
		serials = serials && (has["serial"] || !p.counts(has))
		counts = counts || p.counts(has)
		if p.value() == Total {
			shown[fmt.Sprint(has["in"], has["out"])] = true
		}
	}
	switch {
	case len(ps) > 0:
	case !counts:
		report("patterns", "give one with in, out, net or dir", "no pattern counts anybody")
	case values[Total] && len(values) > 1:
		report("patterns", "keep the totals: they lose nothing when the line is away", "totals count the same passes as deltas and events")
	case len(shown) > 1:
		report("patterns", "one line must tell both directions; give each direction a counter of its own if the device has two", "totals in one line and out in another")
	case values[Delta] && s.Ask == "" && s.Expect == 0:
		report("expect", "the device's period, such as 5m", "is needed for deltas: without it no missing one is noticed")
	case s.Modulus != 0 && (!values[Total] || s.Modulus < 100):
		report("modulus", "the number after which a total goes on from 0, such as 1000000; leave it out where it never does", "%d is the modulus of no total", s.Modulus)
	case s.Serial != "" && !serials:
		report("serial", "put (?P<serial>…) where the lines show it, or leave serial out", "not every pattern that counts finds a serial number")
	}
	return ps
}

// value is what a line of this form tells.
func (p Pattern) value() Value {
	if p.Value == valueTotal {
		return Total
	}
	return Value(p.Value)
}

// counts says whether a line of this form can tell of passes.
func (p Pattern) counts(has map[string]bool) bool {
	return has["in"] || has["out"] || has["net"] || has["dir"]
}

// check gives the groups of a pattern, or the first thing that is wrong with it.
func (p Pattern) check(checksum bool) (has map[string]bool, wrong *Problem) {
	re, err := regexp.Compile(p.Match)
	if err != nil {
		return nil, &Problem{"match", strings.TrimPrefix(err.Error(), "error parsing regexp: "), `RE2 syntax, in single quotes: '^IN=(?P<in>\d+)'`}
	}
	has = map[string]bool{}
	for _, name := range re.SubexpNames() {
		if name != "" && !slices.Contains(groups, name) {
			return nil, &Problem{"match", fmt.Sprintf("there is no group %q", name), cmp.Or(near(name), "known: "+strings.Join(groups, ", "))}
		}
		has[name] = true
	}
	many := has["in"] || has["out"]
	switch v := p.value(); {
	case p.Match == "":
		return nil, &Problem{"match", "is missing", `a regular expression, in single quotes: '^IN=(?P<in>\d+)'`}
	case v != Total && v != Delta && v != Event || p.Value == "":
		return nil, &Problem{"value", fmt.Sprintf("%q is not known", p.Value), "total: counted since ever; delta: in a period; event: one line for each pass"}
	case v == Total && (!many || has["net"] || has["dir"] || has["n"]):
		return nil, &Problem{"match", "a total needs in, out or both, and nothing else that counts", "a balance or a direction is no total: make it a delta or an event"}
	case v == Delta && !p.counts(has):
		return nil, &Problem{"match", "a delta needs in, out, net or dir", `put them in, as in '(?P<in>\d+),(?P<out>\d+)'`}
	case many && (has["net"] || has["dir"]) || has["net"] && has["dir"]:
		return nil, &Problem{"match", "in and out, net, and dir say the same thing in three ways", "keep one of them"}
	case has["n"] && !has["dir"]:
		return nil, &Problem{"match", "n needs dir", "name the group in, out or net, or add dir"}
	case has["sum"] && !checksum:
		return nil, &Problem{"match", "sum needs a checksum", "say which: xor, sum, sum-complement, crc16-modbus or crc16-ccitt"}
	case checksum && !has["sum"]:
		return nil, &Problem{"match", "no group sum holds the checksum", "put (?P<sum>[0-9A-F]+) where it stands"}
	}
	return has, nil
}

// near says which group a wrong name may have been.
func near(name string) string {
	if n := device.Nearest(name, groups); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	return ""
}
