package counter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hallagent/hallagent/device"
)

// textStation is a counter that answers with a line of text.
type textStation struct{ format *textFormat }

func (t *textStation) read(ctx context.Context, w *wire, tries int) (Reading, error) {
	s := t.format.settings
	if !t.format.tells(Total) {
		tries = 1 // an answer that is lost has taken its passes with it: the next reading must say so
	}
	a := textAnswer{format: t.format}
	if _, err := w.ask(ctx, []byte(s.Ask), a.find, usualLine, cmp.Or(s.Timeout, defaultTimeout), tries); err != nil {
		return Reading{}, fmt.Errorf("ask for a line: %w", err)
	}
	a.reading.At = time.Now()
	return a.reading, nil
}

// textAnswer finds the first line that a counter means in what comes.
type textAnswer struct {
	format  *textFormat
	split   splitter
	seen    int // bytes
	reading Reading
}

// find is an answer. It wants one byte more for as long as there is no line.
func (a *textAnswer) find(come []byte) (line []byte, missing int, err error) {
	if len(come) == 0 { // asked again
		a.split, a.seen = splitter{end: a.format.settings.end()}, 0
	}
	lines := a.split.cut(come[a.seen:])
	a.seen = len(come)
	for _, line := range lines {
		s, ok, err := a.format.decode(line)
		switch {
		case !ok || !a.format.fits(s, true):
		case err != nil:
			return nil, 0, err
		default:
			a.reading = s.reading
			return line, 0, nil
		}
	}
	if len(come) > longestLine {
		return nil, 0, fmt.Errorf("%w: %d bytes and no line that fits", errGarbled, len(come))
	}
	return nil, 1, nil
}

// textEar hears lines over one connection.
type textEar struct {
	on      *units
	formats []*textFormat // one for each member, in their order
	missed  []bool        // by member: events may have been lost before the next one
	own     bool          // the line is gone to: the connection is all its counters have
	limit   time.Duration // of silence, 0 for none
	peer    string
	split   splitter
}

func newTextEar(c device.Conn, on *units) (*textEar, error) {
	t := &textEar{on: on, own: !on.ear.line.Listens(), peer: device.Peer(c)}
	endless := false
	for i, m := range on.ear.members {
		s, ok := m.config.Settings.(*Text)
		switch {
		case !ok:
			return nil, settingsError("line", m.config.Settings)
		case i == 0:
			t.split.end = s.end()
		case s.end() != t.split.end:
			return nil, fmt.Errorf("hear lines: counters %q and %q share a line and have different ends", on.ear.members[0].config.ID, m.config.ID)
		}
		t.formats = append(t.formats, newTextFormat(s))
		t.missed = append(t.missed, t.own)
		t.limit = max(t.limit, patient*s.Expect)
		endless = endless || s.Expect == 0
	}
	if endless {
		t.limit = 0
	}
	return t, nil
}

// hearText takes lines of text until the connection ends. On a line that is gone
// to, the connection is known to be alive: as long as silence is normal, events
// are complete from its start on, and once a minute a reading without passes says
// so. Where silence is not normal, only what the device says counts.
func hearText(ctx context.Context, c device.Conn, on *units) error {
	t, err := newTextEar(c, on)
	if err != nil {
		return err
	}
	t.alive(ctx)
	spoken, told := time.Now(), time.Now() // by the device, and by us that the line is alive
	buf := make([]byte, 1024)
	for {
		wake := told.Add(markEvery)
		if end := spoken.Add(t.limit); t.limit > 0 && end.Before(wake) {
			wake = end
		}
		if err := c.SetReadDeadline(wake); err != nil {
			return fmt.Errorf("set read deadline: %w", err)
		}
		n, err := c.Read(buf)
		for _, line := range t.split.cut(buf[:n]) {
			if t.take(ctx, line) {
				spoken = time.Now()
			}
		}
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			if errors.Is(err, io.EOF) && on.ear.line.Scheme == device.SchemeUDPListen && !t.split.skip {
				t.take(ctx, t.split.rest) // a datagram needs no end of a line
			}
			return fmt.Errorf("hear lines: %w", err)
		case t.limit > 0 && time.Since(spoken) >= t.limit:
			return fmt.Errorf("hear lines: nothing came for %v: %w", t.limit, device.ErrSilent)
		}
		if time.Since(told) >= markEvery {
			t.alive(ctx)
			told = time.Now()
		}
	}
}

// alive says of each counter that speaks when it likes that the line is there,
// and of its events that none was lost until now.
func (t *textEar) alive(ctx context.Context) {
	for i, f := range t.formats {
		if !t.own || f.settings.Expect > 0 {
			continue
		}
		t.on.heard() // an open line is all that there is to be heard
		t.on.ear.members[i].alive("", "")
		t.on.ear.members[i].again(ctx)
		if f.tells(Event) {
			t.give(ctx, i, Reading{Value: Event})
		}
	}
}

// take gives a line to the counter that it is of. It tells whether the line was
// understood.
func (t *textEar) take(ctx context.Context, line []byte) bool {
	stranger := ""
	for i, f := range t.formats {
		s, ok, err := f.decode(line)
		switch {
		case !ok:
			continue
		case !f.fits(s, len(t.formats) == 1):
			if err == nil { // else its name may be damaged, too
				stranger = cmp.Or(s.serial, t.peer)
			}
			continue
		}
		m := t.on.ear.members[i]
		if err != nil {
			m.books.log.Debug("line is garbled", "device", m.config.ID, "kind", m.config.Kind, "err", err)
			m.count(func(st *Status) { st.Errors++ })
			return false
		}
		m.count(func(st *Status) { st.Undirected += s.undirected })
		t.on.heard()
		t.give(ctx, i, s.reading)
		return true
	}
	if stranger == "" {
		return false
	}
	t.on.heard()
	t.on.stranger(stranger)
	return true
}

// give hands a reading to a counter.
func (t *textEar) give(ctx context.Context, i int, r Reading) {
	r.At = time.Now()
	if r.Value == Event {
		r.Missed, t.missed[i] = t.missed[i], false
	}
	_ = t.on.ear.members[i].take(ctx, r) // the status tells; it is kept, or a total comes again
}
