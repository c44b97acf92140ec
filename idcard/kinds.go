package idcard

import "github.com/hallagent/hallagent/device"

// Frames finds the module's answers in the bytes of a line.
type Frames interface {
	Feed(p []byte)
	Next() (Frame, bool)
	Reset()
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
	}
}

var sam = Kind{
	Kind:   device.Kind{Name: "sam", Doc: "desktop reader with plain SAM frames (GA 467) on a serial or TCP line, 115200 8N1 by default"},
	Framer: func() Frames { return new(Framer) },
}
