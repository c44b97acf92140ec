package counter

import (
	"testing"
	"time"
)

// FuzzContacts gives a pair of contacts any sequence of looks: what is counted
// never exceeds what the levels and the dead time allow.
func FuzzContacts(f *testing.F) {
	f.Add([]byte{0x00, 0x01, 0x03, 0x02, 0x00})
	f.Fuzz(func(t *testing.T, looks []byte) {
		now := nine
		contacts := [2]*contact{{hold: usualDebounce}, {hold: usualDebounce}}
		var p path
		var pulses, changes [2]uint64
		var raw [2]bool
		var edges [2]uint32
		ways := 0
		for _, look := range looks {
			now = now.Add(time.Duration(1+look>>4) * 5 * time.Millisecond)
			var levels [2]bool
			var since [2]time.Time
			for i, c := range contacts {
				if next := look>>i&1 == 1; next != raw[i] {
					raw[i] = next
					edges[i]++
					changes[i]++
				}
				if look>>(2+i)&1 == 1 { // a pulse that came and went
					edges[i] += 2
					changes[i] += 2
				}
				n, _ := c.look(now, raw[i], edges[i], look&0x80 == 0, false)
				pulses[i] += n
				levels[i], since[i] = c.level, c.since
			}
			if p.step(levels, since) != wayNone {
				ways++
			}
		}
		for i := range pulses {
			if pulses[i] > changes[i] {
				t.Fatalf("%d pulses of %d changes", pulses[i], changes[i])
			}
		}
		if most := min(changes[0], changes[1]); uint64(ways) > most {
			t.Fatalf("%d passages of %d changes", ways, most)
		}
	})
}
