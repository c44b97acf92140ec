package transcript

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Filter decides what of received bytes is written. What it gives in all has as
// many bytes as came, so that it may hold some back until it has seen more.
type Filter interface {
	Received(p []byte) []byte // what may be written by now, of p and of what was held back
	Cut() []byte              // what was held back; what comes next does not go on with it
}

// burstGap is the pause that ends a burst.
const burstGap = 10 * time.Millisecond

// Writer writes one transcript. A line that is lost and opened again goes on in
// the same one: times count from the making of the Writer.
type Writer struct {
	mu      sync.Mutex
	out     io.Writer
	filter  Filter
	start   time.Time
	last    time.Time // of the last byte
	waiting []waiting // bursts that are not yet written; only the last may grow
	err     error     // the first of writing
}

// waiting is a burst that grows, or of which the filter holds something back.
type waiting struct {
	Burst
	size int // bytes that came, of which Bytes are there
	over bool
}

// NewWriter makes the writer of a transcript. filter may be nil: then all is
// written as it came.
func NewWriter(out io.Writer, filter Filter) *Writer {
	return &Writer{out: out, filter: filter, start: time.Now()}
}

// Comment adds a remark of one line.
func (w *Writer) Comment(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finish()
	w.write(fmt.Sprintf("# %q\n", text))
}

// Close ends the transcript and tells whether all of it was written. What it
// was written to stays open.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut()
	w.finish()
	if w.err != nil {
		return fmt.Errorf("write transcript: %w", w.err)
	}
	return nil
}

func (w *Writer) note(d Direction, p []byte) {
	if len(p) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if d == Sent {
		w.cut()
	}
	now := time.Now()
	n := len(w.waiting)
	if n == 0 || w.waiting[n-1].over || d != w.waiting[n-1].Direction ||
		now.Sub(w.last) > burstGap || w.waiting[n-1].size+len(p) > maxBurst {
		w.finish()
		w.waiting = append(w.waiting, waiting{Burst: Burst{Direction: d, At: now.Sub(w.start)}})
	}
	w.waiting[len(w.waiting)-1].size += len(p)
	w.last = now
	if d == Received && w.filter != nil {
		p = w.filter.Received(p)
	}
	w.fill(p)
	w.settle()
}

// cut tells the filter that the device was interrupted.
func (w *Writer) cut() {
	if w.filter != nil {
		w.fill(w.filter.Cut())
	}
}

// fill gives bytes to the bursts they came in.
func (w *Writer) fill(p []byte) {
	for i := range w.waiting {
		b := &w.waiting[i]
		n := min(len(p), b.size-len(b.Bytes))
		b.Bytes = append(b.Bytes, p[:n]...)
		p = p[n:]
	}
}

// finish ends the burst that could have grown.
func (w *Writer) finish() {
	if n := len(w.waiting); n > 0 {
		w.waiting[n-1].over = true
	}
	w.settle()
}

// settle writes what is over and whole, in order.
func (w *Writer) settle() {
	for len(w.waiting) > 0 && w.waiting[0].over && len(w.waiting[0].Bytes) == w.waiting[0].size {
		w.write(w.waiting[0].String() + "\n")
		clear(w.waiting[0].Bytes)
		w.waiting = w.waiting[1:]
	}
}

func (w *Writer) write(s string) {
	if _, err := io.WriteString(w.out, s); err != nil && w.err == nil {
		w.err = err
	}
}
