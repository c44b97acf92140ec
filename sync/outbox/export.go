package outbox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// What a command may be told of a file.
var (
	ErrNotRegular = errors.New("it is no regular file")
	ErrNoStore    = errors.New("no store can be found in it")
)

// Line is a record as Export writes it.
type Line struct {
	Epoch    string          `json:"epoch"`
	Sequence uint64          `json:"sequence"`
	Recorded time.Time       `json:"recorded"`
	Value    json.RawMessage `json:"value,omitempty"` // if it is JSON
	Bytes    []byte          `json:"bytes,omitempty"` // base64, if it is not
	Gap      *Gap            `json:"gap,omitempty"`
}

func (l *Line) set(r Record) {
	*l = Line{Epoch: r.Epoch, Sequence: r.Seq, Recorded: r.Recorded, Gap: r.Gap}
	if json.Valid(r.Value) {
		l.Value = r.Value
	} else {
		l.Bytes = r.Value
	}
}

// Export writes all records that wait, one JSON object a line, oldest first. It
// reads the file by itself, damaged or not, and changes nothing; no process may
// have it open. ErrNoStore says that the file is something else, or that nothing
// is left of it.
func Export(path string, w io.Writer) (n int, err error) {
	p, done, err := openToRead(path)
	if err != nil {
		return 0, fmt.Errorf("export %s: %w", path, err)
	}
	defer done()
	c := scan(p)
	if c.state == nil && len(c.epochs) == 0 {
		return 0, fmt.Errorf("export %s: %w", path, ErrNoStore)
	}
	out := newLines(w)
	for _, e := range c.spans() {
		for _, f := range c.epochs[e.Epoch] {
			if !e.holds(f) {
				continue
			}
			b, err := c.read(f)
			if err != nil {
				continue
			}
			if r, err := decode(e.Epoch, key(f.seq), b); err == nil {
				out.write(r)
			}
		}
	}
	return out.end()
}

// Export writes all records that wait, as the function does, while the store is
// in use.
func (o *Outbox) Export(w io.Writer) (n int, err error) {
	out := newLines(w)
	var after Position
	for {
		records, err := o.Read(after, 512, 1<<20)
		if err != nil {
			return out.n, fmt.Errorf("export %s: %w", o.opts.Path, err)
		}
		if len(records) == 0 {
			return out.end()
		}
		for _, r := range records {
			out.write(r)
		}
		after = records[len(records)-1].Position
	}
}

// lines writes records until one cannot be written.
type lines struct {
	w    *bufio.Writer
	json *json.Encoder
	n    int
	err  error
}

func newLines(w io.Writer) *lines {
	b := bufio.NewWriterSize(w, 64<<10)
	return &lines{w: b, json: json.NewEncoder(b)}
}

func (l *lines) write(r Record) {
	if l.err != nil {
		return
	}
	var line Line
	line.set(r)
	if l.err = l.json.Encode(line); l.err == nil {
		l.n++
	}
}

func (l *lines) end() (int, error) {
	if l.err == nil {
		l.err = l.w.Flush()
	}
	if l.err != nil {
		return l.n, fmt.Errorf("write records: %w", l.err)
	}
	return l.n, nil
}

// Inspect gives the status of a store that no process has open.
func Inspect(path string) (Status, error) {
	s := Status{Dropped: map[string]uint64{}}
	p, done, err := openToRead(path)
	if err != nil {
		return s, fmt.Errorf("inspect %s: %w", path, err)
	}
	defer done()
	c := newChecker(p, false)
	if err := c.run(); err != nil {
		_, hint := cause(err)
		s.Code, s.Err, s.Hint = codeDamaged, err.Error(), hint
	}
	if len(c.state.Epochs) > 0 {
		w := writer{state: c.state}
		w.tell(&s)
	}
	s.FileBytes = int64(p.count) * int64(p.size)
	s.Damages, s.Unreported = damages(path), Unreported(path)
	return s, nil
}

// openToRead opens a store that no process has open, for a command; done closes
// it. What is no regular file is not touched: a pipe would wait for ever.
func openToRead(path string) (p *pages, done func(), err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, ErrNotRegular
	}
	unlock, err := lockToRead(path)
	if err != nil {
		return nil, nil, err
	}
	p, f, err := openPages(path)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return p, func() { f.Close(); unlock() }, nil
}

// CompactFile compacts a store that no process has open, and tells its size
// before and after. It does not touch a damaged one.
func CompactFile(ctx context.Context, path, stream string, log *slog.Logger) (before, after int64, err error) {
	s, err := Inspect(path)
	if err != nil {
		return 0, 0, err
	}
	if s.Code != "" {
		return 0, 0, fmt.Errorf("compact %s: %s", path, s.Err)
	}
	if !owned(path) {
		return 0, 0, fmt.Errorf("compact %s: it belongs to another user: run this as that user", path)
	}
	o := New(Options{Path: path, Stream: stream, Log: log, NewEpoch: func(string) (string, string, error) {
		return "", "", errors.New("no new epoch here")
	}})
	ctx, cancel := context.WithCancel(ctx)
	var run sync.WaitGroup
	run.Go(func() { o.Run(ctx) })
	defer run.Wait()
	defer cancel()
	for o.Status().Code == "" {
		select {
		case <-o.Opened():
			err := o.Compact(ctx)
			return s.FileBytes, o.Status().FileBytes, err
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
	return 0, 0, fmt.Errorf("compact %s: %s", path, o.Status().Err)
}
