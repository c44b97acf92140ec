package agent

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// boot keeps the two numbers that must grow even when a store is lost: how often
// the agent was started, and how many epochs it has given out. They live in a
// file of their own beside the stores.
type boot struct {
	path string

	mu      sync.Mutex
	counted bool // state holds this start
	state   bootState
}

type bootState struct {
	Boot  uint64 `json:"boot"`
	Epoch uint64 `json:"epoch"`
}

// number gives the count of this start, 0 while the disk does not take it. It
// is counted once, at the first call that succeeds.
func (b *boot) number() (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.count(); err != nil {
		return 0, err
	}
	return b.state.Boot, nil
}

func (b *boot) count() error {
	if b.counted {
		return nil
	}
	state := bootState{}
	text, err := os.ReadFile(b.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read boot count: %w", err)
	default:
		if err := json.Unmarshal(text, &state); err != nil {
			return fmt.Errorf("read boot count %s: %w", b.path, err)
		}
	}
	state.Boot++
	if err := b.save(state); err != nil {
		return err
	}
	b.state, b.counted = state, true
	return nil
}

// epoch gives the name of a new epoch: its number, then eight random hex digits
// so that two stores never share one even if the file was put back.
func (b *boot) epoch() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.count(); err != nil {
		return "", err
	}
	next := b.state
	next.Epoch++
	if err := b.save(next); err != nil {
		return "", err
	}
	b.state = next
	var tail [4]byte
	rand.Read(tail[:])
	return fmt.Sprintf("%06d-%x", next.Epoch, tail), nil
}

func (b *boot) save(state bootState) error {
	text, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode boot count: %w", err)
	}
	return replace(b.path, append(text, '\n'))
}

// replace writes a file as a whole: a power cut leaves the old or the new one.
func replace(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename durable, where the system can.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !os.IsPermission(err) {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
