// Package device keeps a line to a device open: what a line is, how it is
// dialled, and a Link that brings it back for as long as the agent runs.
//
// A line carries bytes and belongs to one owner. Which devices speak on it, and
// in which protocol, is the business of packages idcard and counter; both hand
// a Use to a Link and see nothing but an open Conn. So a reader on a tty and a
// counter behind a serial device server share one state machine, one back-off
// and one set of error codes.
//
// Limits: a Link never gives up and never says why in anything but its Status;
// who wants to know asks there.
package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Conn is an open line. Deadlines are those of net.Conn: a Read or Write past
// its deadline returns an error that is os.ErrDeadlineExceeded, never (0, nil).
// Close ends calls that block.
type Conn interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Dial opens a line once; a Link does the trying again.
type Dial func(ctx context.Context) (Conn, error)

// Use talks on an open line until the line is over or ctx ends. It calls heard
// whenever a valid answer has come: only that makes a line Online. It returns
// ErrSilent, wrapped, when the line is open and nothing on it answers.
type Use func(ctx context.Context, c Conn, heard func()) error

// ErrSilent says that an open line does not answer: the port is there, the
// device behind it is off, stuck, or speaks at another rate.
var ErrSilent = errors.New("no answer")

// ErrGarbled is an ErrSilent where something does answer, but in no way that the
// protocol knows.
var ErrGarbled = fmt.Errorf("rubbish: %w", ErrSilent)

// State of a line, or of one device on it.
type State string

const (
	Waiting State = "waiting" // not open, or open and not yet heard
	Online  State = "online"  // answers
	Wedged  State = "wedged"  // open, but does not answer
)

// Status is a snapshot of a line: the one truth behind metrics, API and pages.
type Status struct {
	State    State     `json:"state"`
	Since    time.Time `json:"since"`          // of State
	Code     string    `json:"code,omitempty"` // stable cause while not Online, see Cause
	Err      string    `json:"err,omitempty"`  // the cause in words
	Hint     string    `json:"hint,omitempty"` // what an operator can do
	Opens    uint64    `json:"opens"`          // times the line was opened
	BytesIn  uint64    `json:"bytes_in"`
	BytesOut uint64    `json:"bytes_out"`
	Refused  uint64    `json:"refused,omitempty"` // listeners: who came and was not served
}

// Kind is what every driver says of itself.
type Kind struct {
	Name string // as in the configuration's kind
	Doc  string // one line: which devices, on which lines
}
