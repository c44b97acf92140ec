package transcript

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Conn is an open line; a device.Conn is one.
type Conn interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// burstGap is the pause that ends a burst.
const burstGap = 10 * time.Millisecond

// Recorder is a line that writes down what passes over it. It hides a buffer
// that the line could empty by itself, so that what is dropped is recorded too.
type Recorder struct {
	Conn

	mu    sync.Mutex
	out   io.Writer
	start time.Time
	last  time.Time // of the last byte
	open  Burst     // not yet written
	err   error     // the first of writing
}

// Record wraps c and writes the transcript to w. A failure to write does not
// disturb the line; Close returns it.
func Record(c Conn, w io.Writer) *Recorder {
	return &Recorder{Conn: c, out: w, start: time.Now()}
}

// Comment adds a remark of one line.
func (r *Recorder) Comment(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flush()
	r.write(fmt.Sprintf("# %q\n", text))
}

func (r *Recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.note(Received, p[:n])
	return n, err
}

func (r *Recorder) Write(p []byte) (int, error) {
	// Noted before it is sent: the answer may be read before Write returns.
	r.note(Sent, p)
	return r.Conn.Write(p)
}

// Close closes the line and ends the transcript.
func (r *Recorder) Close() error {
	err := r.Conn.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flush()
	if err == nil && r.err != nil {
		err = fmt.Errorf("write transcript: %w", r.err)
	}
	return err
}

func (r *Recorder) note(d Direction, p []byte) {
	if len(p) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if d != r.open.Direction || now.Sub(r.last) > burstGap || len(r.open.Bytes)+len(p) > maxBurst {
		r.flush()
		r.open.Direction, r.open.At = d, now.Sub(r.start)
	}
	r.open.Bytes = append(r.open.Bytes, p...)
	r.last = now
}

func (r *Recorder) flush() {
	if len(r.open.Bytes) > 0 {
		r.write(r.open.String() + "\n")
		r.open.Bytes = r.open.Bytes[:0]
	}
}

func (r *Recorder) write(s string) {
	if _, err := io.WriteString(r.out, s); err != nil && r.err == nil {
		r.err = err
	}
}
