package transcript

import (
	"errors"
	"io"
	"time"
)

// Conn is an open line; a device.Conn is one.
type Conn interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Recorder is a line that writes down what passes over it. It hides a buffer
// that the line could empty by itself, so that what is dropped is recorded too.
type Recorder struct {
	Conn
	to *Writer
}

// Record wraps c and writes the transcript to w. A failure to write does not
// disturb the line; Close returns it.
func Record(c Conn, w io.Writer) *Recorder { return NewWriter(w, nil).Record(c) }

// Record wraps a line so that it goes into the transcript, one line after the
// other.
func (w *Writer) Record(c Conn) *Recorder { return &Recorder{c, w} }

// Comment adds a remark of one line.
func (r *Recorder) Comment(text string) { r.to.Comment(text) }

func (r *Recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.to.note(Received, p[:n])
	return n, err
}

func (r *Recorder) Write(p []byte) (int, error) {
	// Noted before it is sent: the answer may be read before Write returns.
	r.to.note(Sent, p)
	return r.Conn.Write(p)
}

// SetRate changes the rate of a line that has one.
func (r *Recorder) SetRate(baud int) error {
	line, ok := r.Conn.(interface{ SetRate(baud int) error })
	if !ok {
		return errors.ErrUnsupported
	}
	return line.SetRate(baud)
}

// Close closes the line and ends what it said.
func (r *Recorder) Close() error {
	err := r.Conn.Close()
	if wrote := r.to.Close(); err == nil {
		err = wrote
	}
	return err
}
