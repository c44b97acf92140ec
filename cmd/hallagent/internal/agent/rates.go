package agent

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"time"
)

// rates remembers on disk which rate was found on which line, so that the next
// start tries it first. Losing the file costs two seconds per line.
type rates struct {
	path  string
	known map[string]int // line -> bits per second
}

// remember is the pause between two looks for rates that were found.
const remember = 2 * time.Second

// readRates reads what was remembered; what cannot be read was not.
func readRates(path string) rates {
	r := rates{path: path, known: map[string]int{}}
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &r.known) != nil || r.known == nil {
		r.known = map[string]int{}
	}
	maps.DeleteFunc(r.known, func(_ string, baud int) bool { return baud <= 0 })
	return r
}

// rememberRates saves rates as they are found. Where the disk does not take
// them it is tried again.
func (a *Agent) rememberRates(ctx context.Context) error {
	tick := time.NewTicker(remember)
	defer tick.Stop()
	saved := maps.Clone(a.rates.known)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		found := maps.Clone(saved)
		for _, r := range a.readers {
			if baud := r.reader.Status().Baud; baud > 0 {
				found[r.line] = baud
			}
		}
		if maps.Equal(found, saved) {
			continue
		}
		if text, err := json.Marshal(found); err == nil && replace(a.rates.path, text) == nil {
			saved = found
		}
	}
}
