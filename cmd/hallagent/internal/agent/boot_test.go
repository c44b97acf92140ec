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
		if stored, err = b.lift(stored, first); err != nil {
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
