package outbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a command sees of a store, in use or not, is what the store itself says.
func TestExportVerifyInspect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	o, stop := startStop(t, Options{Path: path, MaxSize: 3000})
	for i := range 60 {
		add(t, o, fmt.Sprintf(`{"n":%d}`, i+1), Mark{"total", fmt.Append(nil, i)})
	}
	add(t, o, "\xff not JSON")
	if err := o.Acknowledge(t.Context(), Position{o.Status().Epoch, 20}); err != nil {
		t.Fatal(err)
	}
	var inUse bytes.Buffer
	n, err := o.Export(&inUse)
	if s := o.Status(); err != nil || n != int(s.Pending+s.Gaps) || strings.Count(inUse.String(), "\n") != n {
		t.Errorf("%d records exported, %v: %+v", n, err, s)
	}
	if _, err := Verify(path); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("looked into a store in use: %v", err)
	}
	v, err := o.Verify()
	if s := o.Status(); err != nil || len(v.Problems) > 0 || v.Records != s.Pending || v.Gaps != s.Gaps || v.Marks != 1 || v.Stream != "visits" {
		t.Errorf("in use: %+v, %v", v, err)
	}
	before := o.Status()
	stop()

	var atRest bytes.Buffer
	if _, err := Export(path, &atRest); err != nil || atRest.String() != inUse.String() {
		t.Errorf("at rest %v:\n%s\nin use:\n%s", err, atRest.String(), inUse.String())
	}
	lines := strings.Split(strings.TrimSpace(atRest.String()), "\n")
	var first, last Line
	if err := errors.Join(json.Unmarshal([]byte(lines[0]), &first), json.Unmarshal([]byte(lines[len(lines)-1]), &last)); err != nil {
		t.Fatal(err)
	}
	if string(last.Bytes) != "\xff not JSON" || last.Sequence != 61 || first.Sequence <= 20 {
		t.Errorf("first %+v, last %+v", first, last)
	}
	at, err := Inspect(path)
	if err != nil || at.Open || at.Pending != before.Pending || at.Accepted != before.Accepted || at.Last != 61 || at.Dropped[ReasonSize] != before.Dropped[ReasonSize] {
		t.Errorf("inspected %+v, %v; was %+v", at, err, before)
	}
	sizeBefore, sizeAfter, err := CompactFile(t.Context(), path, "visits", quiet())
	if err != nil || sizeAfter > sizeBefore {
		t.Errorf("compacted from %d to %d bytes, %v", sizeBefore, sizeAfter, err)
	}
	if v, err := Verify(path); err != nil || len(v.Problems) > 0 || v.Records != before.Pending {
		t.Errorf("after that: %+v, %v", v, err)
	}

	// Each kind of damage is a problem by name; a command changes nothing.
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []struct {
		problem string
		do      func([]byte)
	}{
		{"record is damaged", func(b []byte) { flip(b, `{"n":40}`) }},
		{"one of its heads is gone", func(b []byte) { b[os.Getpagesize()+20]++ }},
		{"it has no head", func(b []byte) { clear(b[:2*os.Getpagesize()]) }},
	} {
		b := bytes.Clone(whole)
		h.do(b)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := Verify(path)
		if err != nil || !strings.Contains(strings.Join(v.Problems, "\n"), h.problem) {
			t.Errorf("%s: %+v, %v", h.problem, v, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, b) {
			t.Errorf("%s: the file was changed: %v", h.problem, err)
		}
	}
	if _, _, err := CompactFile(t.Context(), path, "visits", quiet()); err == nil {
		t.Error("a damaged store was compacted")
	}
}

// A file in which there never was a store is told from one that is empty.
func TestExportNoStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.db")
	for _, b := range [][]byte{{}, []byte("text"), make([]byte, 2*os.Getpagesize())} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := Export(path, &bytes.Buffer{}); n != 0 || !errors.Is(err, ErrNoStore) {
			t.Errorf("%d records of %d bytes, %v", n, len(b), err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, stop := startStop(t, Options{Path: path})
	stop()
	if n, err := Export(path, &bytes.Buffer{}); n != 0 || err != nil {
		t.Errorf("%d records of a new store, %v", n, err)
	}
	if _, err := Verify(filepath.Dir(path)); !errors.Is(err, ErrNotRegular) {
		t.Errorf("looked into a folder: %v", err)
	}
}

// flip changes a value wherever it lies in a file.
func flip(b []byte, value string) {
	for rest := b; ; {
		at := bytes.Index(rest, []byte(value))
		if at < 0 {
			return
		}
		rest[at] ^= 1
		rest = rest[at+1:]
	}
}
