package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// maxFile is the largest configuration file in bytes; a large hall has some
// thousand.
const maxFile = 1 << 20

// readFile reads a file that may be any file of the machine: a wrong path must
// not fill the memory.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than 1 MiB: it is no configuration", path)
	}
	return text, err
}

// byteOrderMark is what some editors put before UTF-8 (Unicode, section 23.8).
var byteOrderMark = []byte("\xef\xbb\xbf")

// unmark takes the byte order mark off.
func unmark(text []byte) []byte { return bytes.TrimPrefix(text, byteOrderMark) }

// notText finds the first byte that is not UTF-8, with its place; the column
// counts characters. A zero byte counts as one: it is valid UTF-8, but stands in
// no text file except one that is UTF-16.
func notText(text []byte) (bad byte, at place, found bool) {
	at = place{1, 1}
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 || r == 0 {
			return text[0], at, true
		}
		at.column++
		if r == '\n' {
			at = place{at.line + 1, 1}
		}
		text = text[size:]
	}
	return 0, place{}, false
}
