package sim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// PTY is a pseudo terminal under a stable name, as udev gives a USB adapter:
// the name is a symbolic link that is there while the cable is plugged in.
// Read and Write are the device's side; the host opens Name.
type PTY struct {
	Name string // path of the symbolic link

	mu      sync.Mutex
	end     *os.File      // the device's side, nil while unplugged
	held    *os.File      // the host's side, held open so that a host's close does not end ours
	changed chan struct{} // closed and made anew when end changes
	closed  bool
}

// writePatience is how long a Write waits for a host that does not read. A UART
// waits for nobody; what does not fit is lost.
const writePatience = 50 * time.Millisecond

// OpenPTY makes a pseudo terminal in raw mode and plugs it in under name.
func OpenPTY(name string) (*PTY, error) {
	p := &PTY{Name: name, changed: make(chan struct{})}
	if err := p.Plug(); err != nil {
		return nil, err
	}
	return p, nil
}

// Plug puts the cable in: a new terminal appears under the same name. It does
// nothing if the cable is in.
func (p *PTY) Plug() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("plug %s: %w", p.Name, os.ErrClosed)
	}
	if p.end != nil {
		return nil
	}
	end, held, err := openPair()
	if err != nil {
		return fmt.Errorf("plug %s: %w", p.Name, err)
	}
	if err := link(held.Name(), p.Name); err != nil {
		return errors.Join(fmt.Errorf("plug %s: %w", p.Name, err), end.Close(), held.Close())
	}
	p.end, p.held = end, held
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

// link points name at target in one step, also where a link of an earlier run lies.
func link(target, name string) error {
	if fi, err := os.Lstat(name); err == nil && fi.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("%s is not a symbolic link", name)
	}
	dir, err := os.MkdirTemp(filepath.Dir(name), ".plug-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tmp := filepath.Join(dir, "link")
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// Unplug pulls the cable: the name goes, and whoever has the terminal open sees
// a hang-up. The device's side stays usable: it hears nothing and talks to nobody.
func (p *PTY) Unplug() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unplug()
}

func (p *PTY) unplug() error {
	if p.end == nil {
		return nil
	}
	err := errors.Join(os.Remove(p.Name), p.end.Close(), p.held.Close())
	p.end, p.held = nil, nil
	close(p.changed)
	p.changed = make(chan struct{})
	if err != nil {
		return fmt.Errorf("unplug %s: %w", p.Name, err)
	}
	return nil
}

// Close pulls the cable for good and ends blocked calls.
func (p *PTY) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	if p.end == nil {
		close(p.changed)
		p.changed = make(chan struct{})
	}
	return p.unplug()
}

// plugged returns the device's side, nil while unplugged, and what closes when that changes.
func (p *PTY) plugged() (end *os.File, changed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, fmt.Errorf("use %s: %w", p.Name, os.ErrClosed)
	}
	return p.end, p.changed, nil
}

// Read returns what the host sent. It waits while the cable is out.
func (p *PTY) Read(b []byte) (int, error) {
	for {
		end, changed, err := p.plugged()
		if err != nil {
			return 0, err
		}
		if end == nil {
			<-changed
			continue
		}
		n, err := end.Read(b)
		if n == 0 && errors.Is(err, os.ErrClosed) {
			continue // pulled out meanwhile
		}
		return n, err
	}
}

// Write sends to the host. Nothing arrives while the cable is out or the host's
// buffer stays full; as on a UART, that is no error.
func (p *PTY) Write(b []byte) (int, error) {
	end, _, err := p.plugged()
	if err != nil {
		return 0, err
	}
	if end == nil {
		return len(b), nil
	}
	if err := end.SetWriteDeadline(time.Now().Add(writePatience)); err != nil && !errors.Is(err, os.ErrClosed) {
		return 0, err
	}
	_, err = end.Write(b)
	if err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	return len(b), nil
}
