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

func newTextStation(_ device.Address, s Settings) (station, error) {
	t, ok := s.(*Text)
	if !ok {
		return nil, settingsError("line", s)
	}
	return &textStation{newTextFormat(t)}, nil
}

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
		if err != nil {
			return nil, 0, err
		}
		if ok && a.format.fits(s, true) {
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
	peer    string
	missed  []bool // by member: events may have been lost before the next one
}

// hearText takes lines of text until the connection ends. On a line that is gone
// to, the connection is known to be alive: as long as silence is normal, events
// are complete from its start on, and once a minute a reading without passes says
// so. Where silence is not normal, only what the device says counts.
func hearText(ctx context.Context, c device.Conn, on *units) error {
	t := &textEar{on: on, peer: device.Peer(c)}
	for _, m := range on.ear.members {
		s, ok := m.config.Settings.(*Text)
		if !ok {
			return settingsError("line", m.config.Settings)
		}
		if first := on.ear.members[0].config.Settings.(*Text); s.end() != first.end() {
			return fmt.Errorf("hear lines: counters %q and %q share a line and have different ends", on.ear.members[0].config.ID, m.config.ID)
		}
		t.formats = append(t.formats, newTextFormat(s))
	}
	own := !on.ear.line.Listens()
	t.missed = make([]bool, len(t.formats))
	limit, endless := time.Duration(0), false // of silence
	for i, f := range t.formats {
		t.missed[i] = own
		limit = max(limit, patient*f.settings.Expect)
		endless = endless || f.settings.Expect == 0
	}
	if own {
		t.alive(ctx)
	}
	split := &splitter{end: t.formats[0].settings.end()}
	spoken, told := time.Now(), time.Now() // by the device, and by us that the line is alive
	buf := make([]byte, 1024)
	for {
		wake := told.Add(markEvery)
		if end := spoken.Add(limit); !endless && end.Before(wake) {
			wake = end
		}
		if err := c.SetReadDeadline(wake); err != nil {
			return fmt.Errorf("set read deadline: %w", err)
		}
		n, err := c.Read(buf)
		for _, line := range split.cut(buf[:n]) {
			if t.take(ctx, line) {
				spoken = time.Now()
			}
		}
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			if errors.Is(err, io.EOF) && on.ear.line.Scheme == device.SchemeUDPListen {
				t.take(ctx, split.rest) // a datagram needs no end of a line
			}
			return fmt.Errorf("hear lines: %w", err)
		case !endless && time.Since(spoken) >= limit:
			return fmt.Errorf("hear lines: nothing came for %v: %w", limit, device.ErrSilent)
		}
		if time.Since(told) >= markEvery {
			if own {
				t.alive(ctx)
			}
			told = time.Now()
		}
	}
}

// alive says of each counter that only sends events, when it likes, that none was
// lost until now.
func (t *textEar) alive(ctx context.Context) {
	for i, f := range t.formats {
		if f.settings.Expect > 0 {
			continue
		}
		t.on.heard() // an open line is all that there is to be heard
		if f.tells(Event) {
			t.give(ctx, i, Reading{Value: Event})
		}
	}
}

// take gives a line to the counter that it is of. It tells whether the line had a
// known form.
func (t *textEar) take(ctx context.Context, line []byte) (known bool) {
	name := t.peer
	for i, f := range t.formats {
		s, ok, err := f.decode(line)
		if !ok {
			continue
		}
		if known = true; s.serial != "" {
			name = s.serial
		}
		if !f.fits(s, len(t.formats) == 1) {
			continue
		}
		m := t.on.ear.members[i]
		if err != nil {
			m.books.log.Debug("line is garbled", "device", m.config.ID, "kind", m.config.Kind, "err", err)
			m.count(func(st *Status) { st.Errors++ })
			return false
		}
		if s.undirected > 0 {
			m.count(func(st *Status) { st.Undirected += s.undirected })
		}
		t.on.heard()
		t.give(ctx, i, s.reading)
		return true
	}
	if known {
		t.on.heard()
		t.on.stranger(name)
	}
	return known
}

// give hands a reading to a counter.
func (t *textEar) give(ctx context.Context, i int, r Reading) {
	r.At = time.Now()
	if r.Value == Event {
		r.Missed, t.missed[i] = t.missed[i], false
	}
	_ = t.on.ear.members[i].take(ctx, r) // the status tells; it is kept, or a total comes again
}
