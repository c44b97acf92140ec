package idcard

import "github.com/hallagent/hallagent/device"

// Frames finds the module's answers in the bytes of a line.
type Frames interface {
	Feed(p []byte)
	Next() (Frame, bool)
	Reset()
	Pending() int // bytes of a frame that has begun
	Counts() Counts
}

// Kind is a sort of reader: how frames of the SAM travel on its line. Commands
// and cards are the same for all.
type Kind struct {
	device.Kind
	Framer func() Frames               // finds answers
	Wrap   func(request []byte) []byte // packs a request; nil sends it as it is
}

// Kinds lists the readers there are.
func Kinds() device.Catalog[Kind] {
	return device.Catalog[Kind]{
		sam,
		sam55aa,
	}
}
