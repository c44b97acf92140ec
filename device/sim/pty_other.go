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
