package config

import (
	"fmt"
	"strings"
	"time"
)

// Span is a part of a day, in minutes from local midnight; From < To <= 1440.
type Span struct{ From, To int }

// Hours are the opening hours of a hall. The zero value is "never open".
type Hours struct {
	Week [7][]Span       // by time.Weekday, spans rising and apart
	Open map[string]bool // dates "2026-10-10" that are open although the weekday is not, and the reverse
}

// weekdays are the keys of the map form, in the order of time.Weekday.
var weekdays = [7]string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

// IsOpen says whether the hall is open at a time, given in the hall's zone.
func (h Hours) IsOpen(t time.Time) bool {
	spans := h.Week[t.Weekday()]
	if open, ok := h.Open[t.Format(time.DateOnly)]; ok {
		if !open {
			return false
		}
		if len(spans) == 0 {
			spans = h.workday()
		}
	}
	minute := t.Hour()*60 + t.Minute()
	for _, s := range spans {
		if minute >= s.From && minute < s.To {
			return true
		}
	}
	return false
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

// String gives the spans of a day as in the file.
func spansString(spans []Span) string {
	parts := make([]string, len(spans))
	for i, s := range spans {
		parts[i] = fmt.Sprintf("%02d:%02d-%02d:%02d", s.From/60, s.From%60, s.To/60, s.To%60)
	}
	return strings.Join(parts, ",")
}

// On gives the opening hours of the day of t as text, "" when closed.
func (h Hours) On(t time.Time) string {
	spans := h.Week[t.Weekday()]
	if open, ok := h.Open[t.Format(time.DateOnly)]; ok && !open {
		return ""
	} else if ok && len(spans) == 0 {
		spans = h.workday()
	}
	return spansString(spans)
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
