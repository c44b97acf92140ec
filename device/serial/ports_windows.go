package serial

import (
	"fmt"
	"strings"

	"go.bug.st/serial/enumerator"
)

// Ports lists the serial ports without opening one. Who holds one is not told:
// Windows keeps that to itself.
func Ports() ([]Port, error) {
	details, err := enumerator.GetDetailedPortsList()
	if err != nil {
		return nil, fmt.Errorf("list serial ports: %w", err)
	}
	var found []Port
	for _, d := range details {
		found = append(found, Port{
			Name: d.Name, Path: d.Name, Unseen: true,
			VendorID: strings.ToLower(d.VID), ProductID: strings.ToLower(d.PID), Serial: d.SerialNumber,
			Manufacturer: d.Manufacturer, Product: d.Product,
		})
	}
	return found, nil
}
