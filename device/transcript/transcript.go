// Package transcript keeps the bytes of a line as a text file that a person can
// read, send in and edit, and plays them back.
//
//	# a card is laid down
//	> 0.000000 AA AA AA 96 69 00 03 20 01 22
//	< 0.004210 AA AA AA 96 69 00 08 00 00 9F 00 00 00 00 97
//
// One line is one burst: > to the device, < from it, then the seconds since the
// start, then the bytes in hexadecimal with or without spaces. Empty lines and
// lines that begin with # say nothing.
//
// A Recorder writes such a file while a line is in use, by way of a Writer. A
// Player takes the device's place: what a bug report holds becomes a test.
//
// Limits: without a Filter a recording holds all that was on the line, personal
// data included, and what leaves the hall must come from a made-up card; what
// is sent is never filtered. A burst that was cut by
// the system shows as one burst again if its parts came within 10 ms.
package transcript

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Direction of a burst, as seen from the agent.
type Direction byte

// Directions.
const (
	Sent     Direction = '>' // to the device
	Received Direction = '<' // from the device
)

// Burst is what went one way without a pause.
type Burst struct {
	Line      int // of the file, from 1
	Direction Direction
	At        time.Duration // since the start
	Bytes     []byte
}

// maxBurst bounds one line of a file: 64 KiB of bytes with a space each.
const maxBurst = 64 << 10

// Parse reads a transcript. Its error names the line that is wrong.
func Parse(r io.Reader) ([]Burst, error) {
	var bursts []Burst
	in := bufio.NewScanner(r)
	in.Buffer(nil, 3*maxBurst+64)
	n := 0
	for in.Scan() {
		n++
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		b, err := parseBurst(line)
		if err != nil {
			return nil, fmt.Errorf("transcript line %d: %w", n, err)
		}
		if len(bursts) > 0 && b.At < bursts[len(bursts)-1].At {
			return nil, fmt.Errorf("transcript line %d: time %v is before that of the line above", n, b.At)
		}
		b.Line = n
		bursts = append(bursts, b)
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("transcript line %d: %w", n+1, err)
	}
	return bursts, nil
}

func parseBurst(line string) (Burst, error) {
	fields := strings.Fields(line)
	b := Burst{Direction: Direction(line[0])}
	if len(fields) < 3 || len(fields[0]) != 1 || b.Direction != Sent && b.Direction != Received {
		return Burst{}, fmt.Errorf("want > or <, seconds and bytes")
	}
	seconds, err := strconv.ParseFloat(fields[1], 64)
	if err != nil || !(seconds >= 0 && seconds < 1e9) {
		return Burst{}, fmt.Errorf("%q are no seconds", fields[1])
	}
	b.At = time.Duration(seconds*1e6+0.5) * time.Microsecond
	b.Bytes, err = hex.DecodeString(strings.Join(fields[2:], ""))
	if err != nil {
		return Burst{}, fmt.Errorf("bytes: %w", err)
	}
	return b, nil
}

// String is the burst as a line of a file, without its end.
func (b Burst) String() string {
	return fmt.Sprintf("%c %d.%06d % X", b.Direction, b.At/time.Second, b.At%time.Second/time.Microsecond, b.Bytes)
}
