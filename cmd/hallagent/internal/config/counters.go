package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
)

func (c *Config) checkCounters(d *decoder) {
	doors := map[string]string{}
	var doorIDs []string
	for i, door := range c.Doors {
		path := fmt.Sprintf("doors[%d]", i)
		d.id(path+".id", door.ID, doors)
		doorIDs = append(doorIDs, door.ID)
		if !slices.Contains([]string{"visitor", "staff", "both"}, door.Role) {
			d.fail(path+".role", "visitor, staff or both", "%q is no role", door.Role)
		}
		if d.has(path+".scale") && (door.Scale < 0.5 || door.Scale > 2) {
			d.fail(path+".scale", scaleHint, "%v is no plausible scale", door.Scale)
		}
	}
	seen, readers := map[string]string{}, map[string]bool{}
	for i, r := range c.Readers {
		readers[r.Line] = true
		if r.ID != "" {
			seen[r.ID] = fmt.Sprintf("readers[%d]", i)
		}
	}
	counted := map[string]bool{}
	for i, k := range c.Counters {
		path := fmt.Sprintf("counters[%d]", i)
		d.deviceID(path+".id", k.ID, seen)
		counted[k.Door] = true
		if d.require(path+".kind", k.Kind, "known: "+strings.Join(counter.Kinds().Names(), ", ")) && k.Settings == nil {
			d.fail(path+".kind", suggest(k.Kind, counter.Kinds().Names()), "there is no kind of counter %q", k.Kind)
		}
		c.line(d, path+".line", k.Line)
		if readers[k.Line] && k.Line != "" {
			d.fail(path+".line", "a reader needs a line of its own", "%q already belongs to a reader", k.Line)
		}
		if k.Rate < 0.1 || k.Rate > 100 {
			d.fail(path+".rate", "0.1 to 100; 3 suits one lane", "%v persons a second is no plausible rate", k.Rate)
		}
		if !slices.Contains([]string{"", "gate", "camera", "beam"}, k.Sensor) {
			d.fail(path+".sensor", "gate, camera or beam", "%q is no technique of counting", k.Sensor)
		}
		switch {
		case counter.Measures(k.Settings):
			if k.Door != "" {
				d.fail(path+".door", "leave it out: this counter sees the whole hall", "a counter of people inside has no door")
			}
		case d.require(path+".door", k.Door, "the id of one of the doors") && doors[k.Door] == "":
			d.fail(path+".door", suggest(k.Door, doorIDs), "there is no door %q", k.Door)
		}
	}
	c.checkPlaces(d)
	for i, door := range c.Doors {
		if door.ID != "" && !counted[door.ID] {
			d.warn(fmt.Sprintf("doors[%d].id", i), "add a counter, or people pass unseen and no number can be shown", "nothing counts at door %q", door.ID)
		}
	}
}

const scaleHint = "0.5 to 2: people counted by hand, divided by the counter's number"

// checkPlaces asks each kind what it thinks of its own keys and of its line, and
// looks whether the counters of a line can share it.
func (c *Config) checkPlaces(d *decoder) {
	stations := map[string]string{}
	for i, k := range c.Counters {
		path := fmt.Sprintf("counters[%d]", i)
		if k.Settings == nil {
			continue
		}
		line, ok := c.LineOf(k.Line)
		if !k.suits(d, path, "line", line.URL.Address) || !ok {
			continue
		}
		key, value := k.Settings.Place()
		place := fmt.Sprintf("%s %s on line %q", key, value, k.Line)
		if first, ok := stations[place]; ok {
			d.fail(join(path, key), "each counter of a line needs its own", "%s is already %s", place, first)
		}
		stations[place] = path
		for n, other := range c.Counters[:i] {
			if other.Line == k.Line {
				c.checkPair(d, path, fmt.Sprintf("counters[%d]", n), line.URL.Address, k, other)
			}
		}
	}
}

// suits asks a counter's kind what it thinks of the line, and of its own keys on
// it. False says that such a line is not for it, which is told at key.
func (k Counter) suits(d *decoder, path, key string, line device.Address) bool {
	kind, err := counter.Kinds().Find(k.Kind)
	if err != nil {
		return false
	}
	if line.Scheme != "" && !slices.Contains(kind.Schemes, line.Scheme) {
		d.fail(join(path, key), "its line is one of "+strings.Join(kind.Schemes, ", "), "kind %s is not for a %s line", k.Kind, line.Scheme)
		return false
	}
	for _, p := range k.Settings.Check(line) {
		d.fail(join(path, p.Key), p.Hint, "%s", p.Cause)
	}
	return true
}

// checkPair looks whether two counters can share a line.
func (c *Config) checkPair(d *decoder, path, first string, line device.Address, k, other Counter) {
	kind, err1 := counter.Kinds().Find(k.Kind)
	kind2, err2 := counter.Kinds().Find(other.Kind)
	if err1 != nil || err2 != nil || k.Settings == nil || other.Settings == nil {
		return
	}
	asked := kind.Asked(line, k.Settings)
	switch {
	case asked != kind2.Asked(line, other.Settings):
		d.fail(path+".line", "give the one that speaks by itself a line of its own", "one that is asked and one that speaks by itself (%s) cannot share %q", first, k.Line)
	case !asked && k.Kind != other.Kind:
		d.fail(path+".line", "give each kind a line of its own", "kinds %s and %s (%s) cannot share a line on which devices speak by themselves", k.Kind, other.Kind, first)
	}
	if key, value := shares(line, k.Settings, other.Settings); key != "" {
		d.fail(join(path, key), "each counter needs its own, or a line of its own", "%s is already used by %s", value, first)
	} else if key, _ := shares(line, other.Settings, k.Settings); key != "" {
		d.fail(path+".line", "give one of them a line of its own", "what %s needs for itself (%s) leaves no room for kind %s on %q", first, key, k.Kind, k.Line)
	}
}

// shares says what of one counter's own another one of the line uses, too.
func shares(line device.Address, own, other counter.Settings) (key, value string) {
	s, ok := own.(interface {
		Shares(device.Address, counter.Settings) (key, value string)
	})
	if !ok {
		return "", ""
	}
	return s.Shares(line, other)
}

// ParseCounter reads one counter as it stands in the list of counters; door and
// line may be left out. It checks the keys of its kind for a line of that address.
func ParseCounter(text []byte, line device.Address) (Counter, Problems) {
	var k Counter
	d := newDecoder()
	d.decode(text, &k)
	if d.syntax {
		return k, d.sorted()
	}
	if k.Settings == nil {
		d.fail("kind", suggest(k.Kind, counter.Kinds().Names()), "there is no kind of counter %q", k.Kind)
	} else {
		k.suits(d, "", "kind", line)
	}
	return k, d.sorted()
}
