package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Span is a part of a day, in minutes from local midnight; From < To <= 1440.
type Span struct{ From, To int }

// Hours are the opening hours of a hall. The zero value is "never open".
type Hours struct {
	Week [7][]Span       // by time.Weekday, spans rising and apart
	Open map[string]bool // dates "2026-10-10" that are open although the weekday is not, and the reverse
}

// IsZero says that no hours are given at all.
func (h Hours) IsZero() bool { return h.Open == nil }

// weekdays are the keys of the map form, in the order of time.Weekday.
var weekdays = [7]string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

// Spans gives the opening hours of the day of t, in the hall's zone, with the dates
// that are open or closed against their weekday.
func (h Hours) Spans(t time.Time) []Span {
	spans := h.Week[t.Weekday()]
	switch open, ok := h.Open[t.Format(time.DateOnly)]; {
	case ok && !open:
		return nil
	case ok && len(spans) == 0:
		return h.workday()
	}
	return spans
}

// IsOpen says whether the hall is open at a time, given in the hall's zone.
func (h Hours) IsOpen(t time.Time) bool {
	minute := t.Hour()*60 + t.Minute()
	return slices.ContainsFunc(h.Spans(t), func(s Span) bool { return minute >= s.From && minute < s.To })
}

// On gives the opening hours of the day of t as in the file, "" when closed.
func (h Hours) On(t time.Time) string {
	spans := h.Spans(t)
	parts := make([]string, len(spans))
	for i, s := range spans {
		parts[i] = fmt.Sprintf("%02d:%02d-%02d:%02d", s.From/60, s.From%60, s.To/60, s.To%60)
	}
	return strings.Join(parts, ",")
}

// workday gives the hours of a make-up working day: those of the first weekday,
// from Monday on, that has any.
func (h Hours) workday() []Span {
	for i := range 7 {
		if spans := h.Week[(i+1)%7]; len(spans) > 0 {
			return spans
		}
	}
	return nil
}

// parseSpans reads "08:30-12:00,13:30-17:00"; "closed" is no span at all.
func parseSpans(text string) ([]Span, error) {
	if text == "closed" {
		return nil, nil
	}
	var spans []Span
	for part := range strings.SplitSeq(text, ",") {
		from, to, ok := strings.Cut(strings.TrimSpace(part), "-")
		if !ok {
			return nil, fmt.Errorf("%q is no span of time", part)
		}
		a, errA := parseMinute(from)
		b, errB := parseMinute(to)
		if errA != nil || errB != nil {
			return nil, fmt.Errorf("%q is no span of time", part)
		}
		if a >= b {
			return nil, fmt.Errorf("%q ends before it begins", part)
		}
		if n := len(spans); n > 0 && spans[n-1].To > a {
			return nil, fmt.Errorf("%q overlaps the span before it", part)
		}
		spans = append(spans, Span{a, b})
	}
	return spans, nil
}

func parseMinute(text string) (int, error) {
	text = strings.TrimSpace(text)
	if text == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err
}

// decodeNode reads both forms of opening hours: one text for Monday to Friday,
// or a mapping by weekday with lists of closed and open dates.
func (h *Hours) decodeNode(d *decoder, path string, n ast.Node) {
	const hint = `example: "08:30-12:00,13:30-17:00"`
	*h = Hours{Open: map[string]bool{}}
	if _, ok := n.(*ast.StringNode); ok {
		text, _ := d.text(path, n)
		spans, err := parseSpans(text)
		if err != nil {
			d.fail(path, hint, "%v", err)
		}
		for day := time.Monday; day <= time.Friday; day++ {
			h.Week[day] = spans
		}
		return
	}
	entries, ok := d.entries(path, n)
	if !ok {
		return
	}
	if len(entries) == 0 {
		delete(d.places, path) // a key without anything is as good as none
	}
	given := map[string]string{} // the key that gave a weekday or a date
	once := func(what, key, sub string) bool {
		first, twice := given[what]
		if twice {
			d.fail(sub, "remove one of the two", "%s is already given by %s", what, first)
		}
		given[what] = key
		return !twice
	}
	for _, e := range entries {
		key := e.Key.GetToken().Value
		sub := join(path, key)
		d.places[sub] = valuePlace(e)
		day := slices.IndexFunc(weekdays[:], func(w string) bool { return key == w || key == w[:3] })
		switch {
		case day >= 0:
			if !once(weekdays[day], key, sub) {
				continue
			}
			text, ok := d.text(sub, e.Value)
			if !ok {
				continue
			}
			spans, err := parseSpans(text)
			if err != nil {
				d.fail(sub, hint, "%v", err)
			}
			h.Week[day] = spans
		case key == "open" || key == "closed":
			var dates []string
			d.value(sub, e.Value, reflect.ValueOf(&dates).Elem())
			for i, date := range dates {
				item := fmt.Sprintf("%s[%d]", sub, i)
				if _, err := time.Parse(time.DateOnly, date); err != nil {
					d.fail(item, "example: 2026-10-01", "%q is no date", date)
				} else if once(date, key, item) {
					h.Open[date] = key == "open"
				}
			}
		default:
			d.flagged[sub] = true
			d.add(sub, placeOf(e.Key.GetToken()), false, "known here: monday to sunday, open, closed", "unknown key")
		}
	}
}
