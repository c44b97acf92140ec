package agent

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// boot keeps the two numbers that must grow even when a store is lost: how often
// the agent was started, and how many epochs it has given out. They live in a
// file of their own beside the stores, and a copy lies in the store, so that
// either can be lost and the numbers still grow.
type boot struct {
	path string

	mu      sync.Mutex
	counted bool // state holds this start
	state   bootState
	err     error     // of the last try to count
	retry   time.Time // not to be tried before
}

type bootState struct {
	Boot  uint64 `json:"boot"`
	Epoch uint64 `json:"epoch"`
	InUse string `json:"in_use,omitempty"` // name of the epoch that a store was last opened with
	Store uint64 `json:"store,omitempty"`  // the Boot that the store remembers
}

// countAgain is the pause after a count that the disk did not take.
const countAgain = 5 * time.Second

// number gives the count of this start, and an error while the disk does not
// take it. It is counted once, at the first call that succeeds.
func (b *boot) number() (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.counted && time.Now().Before(b.retry) {
		return 0, b.err
	}
	if err := b.count(); err != nil {
		return 0, err
	}
	return b.state.Boot, nil
}

func (b *boot) count() error {
	if b.counted {
		return nil
	}
	b.err, b.retry = b.read(), time.Now().Add(countAgain)
	b.counted = b.err == nil
	return b.err
}

// read takes the numbers from the file and counts this start in it. A file that
// cannot be understood is set aside: lift finds the numbers in the store.
func (b *boot) read() error {
	state := bootState{}
	text, err := os.ReadFile(b.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read boot count: %w", err)
	case json.Unmarshal(text, &state) != nil:
		state = bootState{}
		if err := os.Rename(b.path, b.path+".damaged"); err != nil {
			return fmt.Errorf("set damaged boot count aside: %w", err)
		}
	}
	state.Boot++
	if err := b.save(state); err != nil {
		return err
	}
	b.state = state
	return nil
}

// lift makes the numbers greater than those that the store remembers, notes the
// epoch that is in use, and gives what the store is to remember now; remembered
// says that it does. A store that remembers less than it did was put back from a
// copy.
func (b *boot) lift(stored []byte, inUse string) (next []byte, putBack bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.count(); err != nil {
		return nil, false, err
	}
	var before bootState
	if stored != nil {
		if err := json.Unmarshal(stored, &before); err != nil {
			return nil, false, fmt.Errorf("read the store's boot count: %w", err)
		}
	}
	lifted := b.state
	if before.Boot >= lifted.Boot {
		lifted.Boot = before.Boot + 1
	}
	lifted.Epoch, lifted.InUse = max(lifted.Epoch, before.Epoch), inUse
	if err := b.change(lifted); err != nil {
		return nil, false, err
	}
	next, err = json.Marshal(lifted)
	return next, stored != nil && before.Boot < lifted.Store, err
}

// remembered notes that the store remembers what lift gave.
func (b *boot) remembered() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := b.state
	next.Store = next.Boot
	return b.change(next)
}

// change writes what is new. The caller holds mu.
func (b *boot) change(next bootState) error {
	if next == b.state {
		return nil
	}
	if err := b.save(next); err != nil {
		return err
	}
	b.state = next
	return nil
}

// epochUnit is how often the clock alone begins a new number: six digits last
// until 2045.
const epochUnit = 10 * time.Minute

var epochZero = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// epoch gives the name of a new epoch that sorts after another one: its number,
// then eight random hex digits so that two stores never share one even if the file
// was put back. The number is not below the time, so that it grows even for a
// gateway that was replaced with its disk. before is the epoch in use until now, ""
// if there was none.
func (b *boot) epoch(after string) (name, before string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.count(); err != nil {
		return "", "", err
	}
	next := b.state
	last, _, _ := strings.Cut(after, "-")
	if n, err := strconv.ParseUint(last, 10, 64); err == nil {
		next.Epoch = max(next.Epoch, n)
	}
	next.Epoch++
	if n := time.Since(epochZero) / epochUnit; n > 0 && n < 1e6 {
		next.Epoch = max(next.Epoch, uint64(n))
	}
	if err := b.save(next); err != nil {
		return "", "", err
	}
	b.state = next
	var tail [4]byte
	rand.Read(tail[:])
	return fmt.Sprintf("%06d-%x", next.Epoch, tail), next.InUse, nil
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
