package occupancy

import (
	"math"
	"time"
)

// Trust says what a number is worth.
type Trust string

const (
	Good        Trust = "good"
	Approximate Trust = "approximate" // show it with "about"
	Unknown     Trust = "unknown"     // there is no number
)

// Reason is the gravest cause of a trust that is not Good; the doors tell where.
type Reason string

const (
	NotRead   Reason = "not_read"  // a visitors' door has not been read since the start
	ReadLost  Reason = "read_lost" // one has not been read for 45 min
	ReadLate  Reason = "read_late" // one has not been read for 15 min
	NoDoor    Reason = "no_door"   // no visitors' door is configured
	Unseen    Reason = "unseen"    // a counter did not count for a part of the day, see Estimator.Unseen
	Negative  Reason = "negative"  // more people went out than were inside: some were missed on the way in
	Guessed   Reason = "guessed"   // a counter was reset or leapt, and some passes are guessed
	Uncounted Reason = "uncounted" // nobody counted by hand how many people the doors miss
	Drift     Reason = "drift"     // errors have added up since the last head count or 04:00
)

// Snapshot is the hall at one moment. While Trust is Unknown, People, Low and
// High are nil and Level is "".
type Snapshot struct {
	Day      string         `json:"day"`    // local date, from 04:00 to 04:00
	People   *int           `json:"people"` // visitors
	Low      *int           `json:"low"`    // with High: a band of 90 per cent
	High     *int           `json:"high"`
	Level    string         `json:"level"` // idle, moderate, busy, crowded
	Trust    Trust          `json:"trust"`
	Reason   Reason         `json:"reason"` // why Trust is not Good, "" when it is
	In       uint64         `json:"in"`     // passes of the day through visitors' doors, as counted
	Out      uint64         `json:"out"`
	Capacity int            `json:"capacity"`
	Doors    []DoorSnapshot `json:"doors"`
}

// DoorSnapshot is one door, whatever its role.
type DoorSnapshot struct {
	Door  string     `json:"door"`
	In    uint64     `json:"in"` // passes of the day, as counted
	Out   uint64     `json:"out"`
	Last  *time.Time `json:"last"`  // last reading of the counter that was read longest ago; nil: one has not been read
	State string     `json:"state"` // waiting (not read since the start), online, late (15 min), lost (45 min)
}

const (
	late = 15 * time.Minute // a door not read for so long makes the number approximate
	lost = 45 * time.Minute // and for so long unknown

	tolerated = 0.02 // share of uncertain passes in a good number
	narrow    = 0.1  // half width of the band of a good number, as a share of the capacity
	stay      = 40.0 // minutes, a visitor's mean: how soon those whom nobody counted in are gone
	ninety    = 1.64 // standard deviations of a band of 90 per cent
)

// Snapshot computes the hall at now; it changes nothing.
func (e *Estimator) Snapshot(now time.Time) Snapshot {
	at := *e
	at.state = e.on(now)
	at.state.settle(now)
	return at.snapshot(now)
}

func (e *Estimator) snapshot(now time.Time) Snapshot {
	s := Snapshot{Day: e.state.Day, Capacity: e.settings.Capacity}
	trust := trust{level: Good}
	variance := e.state.BaseVar + e.state.Doubt + e.state.Eaten*e.state.Eaten
	visitors := 0
	for _, door := range e.settings.Doors {
		t := e.state.Doors[door.ID]
		last, heard := e.last(door)
		d := DoorSnapshot{Door: door.ID, In: t.In, Out: t.Out, State: "waiting"}
		age := now.Sub(last)
		if heard {
			d.Last, d.State = &last, "online"
			switch {
			case age >= lost:
				d.State = "lost"
			case age >= late:
				d.State = "late"
			}
		}
		s.Doors = append(s.Doors, d)
		if door.Role == Staff {
			continue
		}
		visitors++
		s.In, s.Out = s.In+t.In, s.Out+t.Out
		switch d.State {
		case "waiting":
			trust.lower(Unknown, NotRead)
		case "lost":
			trust.lower(Unknown, ReadLost)
		case "late":
			trust.lower(Approximate, ReadLate)
		}
		if heard && age > 0 {
			missing := e.rate(t, last) * age.Seconds()
			variance += missing * missing
		}
	}
	if visitors == 0 {
		trust.lower(Unknown, NoDoor)
	}
	scale, sigma := e.scale()
	net := e.state.Net
	x := e.people()
	variance += noise * scale * float64(net.In+net.Out)
	half := ninety * math.Sqrt(variance+1+(sigma*x)*(sigma*x))

	if at := e.state.Unseen; !at.IsZero() {
		trust.lower(Approximate, Unseen)
		hidden := float64(e.settings.Capacity) / 2
		half += hidden * math.Exp(-max(0, now.Sub(at).Minutes())/stay)
	}
	if e.state.Eaten > missable {
		trust.lower(Approximate, Negative)
	}
	if e.state.Uncertain > 0 && float64(e.state.Uncertain) > tolerated*float64(net.In+net.Out) {
		trust.lower(Approximate, Guessed)
	}
	if e.settings.Scale <= 0 {
		trust.lower(Approximate, Uncounted)
	}
	if half > narrow*float64(e.settings.Capacity) {
		trust.lower(Approximate, Drift)
	}
	s.Trust, s.Reason = trust.level, trust.reason
	if s.Trust == Unknown {
		return s
	}
	people, low, high := int(math.Round(x)), int(math.Floor(max(0, x-half))), int(math.Ceil(x+half))
	s.People, s.Low, s.High = &people, &low, &high
	if e.settings.Capacity > 0 {
		s.Level = e.state.level()
	}
	return s
}

// last is the last reading of the door's counter that was read longest ago.
func (e *Estimator) last(d Door) (last time.Time, heard bool) {
	for i, c := range d.Counters {
		at, ok := e.heard[c]
		if !ok {
			return time.Time{}, false
		}
		if i == 0 || at.Before(last) {
			last = at
		}
	}
	return last, len(d.Counters) > 0
}

// rate is how many people a second have passed a door today until it was last read.
func (e *Estimator) rate(t tally, last time.Time) float64 {
	open := last.Sub(e.begin(last))
	if open < time.Hour {
		open = time.Hour
	}
	return float64(t.In+t.Out) / open.Seconds()
}

// trust is lowered by every cause found; the first of the gravest is the reason.
type trust struct {
	level  Trust
	reason Reason
}

func (t *trust) lower(to Trust, reason Reason) {
	rank := map[Trust]int{Good: 0, Approximate: 1, Unknown: 2}
	if rank[to] > rank[t.level] {
		t.level, t.reason = to, reason
	}
}
