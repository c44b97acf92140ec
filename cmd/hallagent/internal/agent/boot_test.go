package agent

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
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
			e, err := b.epoch()
			if err != nil || !regexp.MustCompile(`^[0-9]{6}-[0-9a-f]{8}$`).MatchString(e) {
				t.Errorf("epoch %q, %v", e, err)
			}
			if epochs[e] || e <= last {
				t.Errorf("epoch %q follows %q", e, last)
			}
			epochs[e], last = true, e
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&boot{path: path}).number(); err == nil {
		t.Error("a damaged file starts the count anew: sessions would no longer grow")
	}
}

// TestBootWithoutDisk counts as soon as the disk is there.
func TestBootWithoutDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	b := &boot{path: filepath.Join(dir, "boot")}
	if _, err := b.number(); err == nil {
		t.Error("counted without a disk")
	}
	if _, err := b.epoch(); err == nil {
		t.Error("gave an epoch without a disk")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if n, err := b.number(); err != nil || n != 1 {
		t.Errorf("number %d, %v", n, err)
	}
}
