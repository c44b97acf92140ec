package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/hallagent/hallagent/deploy"
)

// TestNotText gives files as other editors save them: one problem, at the first
// wrong byte.
func TestNotText(t *testing.T) {
	wide := func(text string, high, low int) []byte {
		var b []byte
		for _, u := range utf16.Encode([]rune(text)) {
			pair := [2]byte{}
			pair[high], pair[low] = byte(u>>8), byte(u)
			b = append(b, pair[:]...)
		}
		return b
	}
	for _, c := range []struct {
		name         string
		text         []byte
		line, column int
	}{
		{"GBK", []byte("hall:\n  name: 样例\n  id: \xd1\xf9\xc0\xfd\n"), 3, 7},
		{"GBK behind other characters", []byte("# 样例 \xd1\xf9\n"), 1, 6},
		{"GBK behind a byte order mark", []byte("\xef\xbb\xbfa: \xd1\xf9\n"), 1, 4},
		{"half a character at the end", []byte("a: b\nc: \xe6\xa0"), 2, 4},
		{"UTF-16 little endian", wide("\ufeffhall: {}\n", 1, 0), 1, 1},
		{"UTF-16 big endian", wide("\ufeffhall: {}\n", 0, 1), 1, 1},
		{"UTF-16 without a mark", wide("hall: {}\n", 1, 0), 1, 2},
	} {
		_, problems := Parse(c.text)
		if len(problems) != 1 || problems[0].Warning || problems[0].Line != c.line || problems[0].Column != c.column ||
			!strings.Contains(problems[0].Hint, "UTF-8") {
			t.Errorf("%s gives\n%s", c.name, problems.Print("f"))
		}
	}
	marked := slices.Concat(byteOrderMark, deploy.Sample)
	if c, problems := Parse(marked); len(problems) > 0 || c.Hall.ID != "sample" {
		t.Errorf("with a byte order mark: %q\n%s", c.Hall.ID, problems.Print("f"))
	}
}

// TestLargeFile makes a file a byte too large, and takes one without an end.
func TestLargeFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(file, deploy.Sample, 0o600); err != nil {
		t.Fatal(err)
	}
	for size, good := range map[int64]bool{maxFile: true, maxFile + 1: false} {
		if err := os.Truncate(file, size); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(file); (err == nil) != good || !good && !strings.Contains(err.Error(), "1 MiB") {
			t.Errorf("%d bytes give %v", size, err)
		}
	}
	const endless = "/dev/zero"
	if _, err := os.Stat(endless); err != nil {
		t.Skip("this system has no file without an end")
	}
	if _, _, err := Load(endless); err == nil || !strings.Contains(err.Error(), "1 MiB") {
		t.Errorf("a file without an end gives %v", err)
	}
}
