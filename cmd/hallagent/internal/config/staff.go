package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml/ast"
)

// Shift is how much staff is expected inside from a minute of the local day on.
type Shift struct {
	From   int // minutes from local midnight
	People float64
}

// Staff is a schedule in order of time; a single number is one shift of the whole
// day.
type Staff []Shift

// decodeNode reads both forms: a number, or a mapping from times to numbers.
func (s *Staff) decodeNode(d *decoder, path string, n ast.Node) {
	const hint = `a number, or a schedule: {"08:00": 20, "12:00": 6, "13:20": 20, "17:30": 0}`
	people := func(path string, n ast.Node) float64 {
		text, ok := d.text(path, n)
		if !ok {
			return 0
		}
		v, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil || math.IsNaN(v) || v > 10_000:
			d.fail(path, hint, "%q is no number of staff", text)
		case v < 0:
			d.fail(path, hint, "%v is less than nobody", v)
		}
		return v
	}
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		*s = Staff{{0, people(path, n)}}
		return
	}
	entries, _ := d.entries(path, n)
	for _, e := range entries {
		key := e.Key.GetToken().Value
		sub := join(path, key)
		d.places[sub] = valuePlace(e)
		minute, err := parseMinute(key)
		if err != nil || minute >= 24*60 {
			d.fail(sub, hint, "%q is no time of the day", key)
			continue
		}
		if slices.ContainsFunc(*s, func(x Shift) bool { return x.From == minute }) {
			d.fail(sub, "remove one of the two", "%s stands twice", fmt.Sprintf("%02d:%02d", minute/60, minute%60))
			continue
		}
		*s = append(*s, Shift{minute, people(sub, e.Value)})
	}
	slices.SortFunc(*s, func(a, b Shift) int { return a.From - b.From })
}
