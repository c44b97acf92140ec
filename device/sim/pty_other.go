//go:build !linux

package sim

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

func openPair() (device, host *os.File, err error) {
	return nil, nil, fmt.Errorf("open pseudo terminal on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// HostBaud is not known here.
func (p *PTY) HostBaud() int { return 0 }
