package agent

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func TestBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boot")
	epochs := map[string]bool{}
	last := ""
	for start := uint64(1); start <= 3; start++ {
		b := &boot{path: path}
		for range 2 { // asked twice, counted once
			if n, err := b.number(); err != nil || n != start {
				t.Errorf("start %d is number %d, %v", start, n, err)
			}
		}
		for range 2 {
			e, _, err := b.epoch("")
			if err != nil || !regexp.MustCompile(`^[0-9]{6}-[0-9a-f]{8}$`).MatchString(e) {
				t.Errorf("epoch %q, %v", e, err)
			}
			if epochs[e] || e <= last {
				t.Errorf("epoch %q follows %q", e, last)
			}
			epochs[e], last = true, e
		}
	}
}

// TestBootLost loses the file, or finds it damaged: the copy in the store makes
// the numbers grow all the same.
func TestBootLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boot")
	b := &boot{path: path}
	first, before, err := b.epoch("")
	if err != nil || before != "" {
		t.Fatalf("the first epoch %s comes after %q, %v", first, before, err)
	}
	var stored []byte
	last := uint64(0)
	for _, lose := range []func(){
		func() {},
		func() { os.Remove(path) },
		func() { os.WriteFile(path, []byte("{"), 0o600) },
		func() { os.WriteFile(path, nil, 0o600) },
	} {
		lose()
		b = &boot{path: path}
		putBack := false
		if stored, putBack, err = b.lift(stored, first); err != nil || putBack {
			t.Fatalf("put back: %v, %v", putBack, err)
		}
		if err := b.remembered(); err != nil {
			t.Fatal(err)
		}
		n, err := b.number()
		if err != nil || n <= last {
			t.Errorf("number %d follows %d, %v", n, last, err)
		}
		last = n
	}
	if e, before, err := b.epoch(""); err != nil || e <= first || before != first {
		t.Errorf("epoch %s follows %s and names %s, %v", e, first, before, err)
	}
}

// A store that remembers fewer starts than it did is an older copy.
func TestBootPutBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boot")
	var copies [][]byte
	var stored []byte
	for range 3 {
		b := &boot{path: path}
		var putBack bool
		var err error
		if stored, putBack, err = b.lift(stored, "000001-9f3a77c2"); err != nil || putBack {
			t.Fatal(putBack, err)
		}
		if err := b.remembered(); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, stored)
	}
	(&boot{path: path}).number() // a start without a store
	for i, stored := range copies {
		if _, putBack, err := (&boot{path: path}).lift(stored, "000001-9f3a77c2"); err != nil || putBack != (i < 2) {
			t.Errorf("copy %d: put back %v, %v", i, putBack, err)
		}
	}
	if _, putBack, err := (&boot{path: path}).lift(nil, "000002-9f3a77c2"); err != nil || putBack {
		t.Errorf("a new store: put back %v, %v", putBack, err)
	}
}

// TestBootWithoutDisk counts as soon as the disk is there.
func TestBootWithoutDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	b := &boot{path: filepath.Join(dir, "boot")}
	if _, err := b.number(); err == nil {
		t.Error("counted without a disk")
	}
	if _, _, err := b.epoch(""); err == nil {
		t.Error("gave an epoch without a disk")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.retry = time.Time{} // the pause is over
	if n, err := b.number(); err != nil || n != 1 {
		t.Errorf("number %d, %v", n, err)
	}
}
