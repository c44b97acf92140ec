//go:build !linux && !windows

package serial

import (
	"fmt"

	"go.bug.st/serial"
)

// Ports lists the serial ports, by the names that the system keeps for them.
func Ports() ([]Port, error) {
	names, err := serial.GetPortsList()
	if err != nil {
		return nil, fmt.Errorf("list serial ports: %w", err)
	}
	var found []Port
	for _, name := range names {
		found = append(found, Port{Name: name, Path: name, Unseen: true})
	}
	return found, nil
}
