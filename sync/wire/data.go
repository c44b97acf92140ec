package wire

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/counter/occupancy"
)

// AgentState is the life of an agent as the broker's clients see it.
type AgentState string

const (
	Ready    AgentState = "ready"
	Degraded AgentState = "degraded" // runs, but something it needs is away
	Stopping AgentState = "stopping" // goes down on purpose
	Lost     AgentState = "lost"     // the will: the connection broke
)

// Status is the data of hall.status.v1. The will carries State Lost and the
// same Session as the birth that it revokes: a will that arrives after a newer
// birth is told by the lower session.
type Status struct {
	State   AgentState             `json:"state"`
	Session string                 `json:"session"` // Session(boot, connection)
	Since   time.Time              `json:"since"`   // start of the agent
	Version string                 `json:"version"`
	Streams map[string]StreamState `json:"streams,omitempty"`
	Reasons []string               `json:"reasons,omitempty"` // codes of what makes it degraded
}

// Session numbers a connection so that sessions compare as strings: the boot
// count of the agent and its count of attempts to connect since.
func Session(boot, attempt uint64) string {
	return fmt.Sprintf("%06d-%09d", boot, attempt)
}

// StreamState is where a stream stands.
type StreamState struct {
	Epoch   string `json:"epoch"`
	Last    uint64 `json:"last"`    // sequence of the newest record, 0 when none
	Pending uint64 `json:"pending"` // records that nobody acknowledged yet
}

// DeviceState is what a reader or a counter is for those who use it.
type DeviceState string

const (
	DeviceOnline   DeviceState = "online"
	DeviceOffline  DeviceState = "offline"
	DeviceWedged   DeviceState = "wedged"
	DeviceDisabled DeviceState = "disabled"
)

// Device is the data of hall.device.v1. Window is set for readers, Door for
// counters.
type Device struct {
	State  DeviceState `json:"state"`
	Since  time.Time   `json:"since"`
	Code   string      `json:"code,omitempty"` // stable cause while not online
	Kind   string      `json:"kind"`
	Window string      `json:"window,omitempty"`
	Door   string      `json:"door,omitempty"`
}

// Visit is the data of hall.visit.v1: passes of one door between two readings.
type Visit struct {
	Door      string    `json:"door"`
	Device    string    `json:"device"`
	In        uint64    `json:"in"`
	Out       uint64    `json:"out"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Uncertain bool      `json:"uncertain"` // the interval holds a reset or a leap of the counter
}

// NewVisit makes the data of a pass.
func NewVisit(p counter.Pass) Visit {
	return Visit{
		Door: p.Door, Device: p.Device, In: p.In, Out: p.Out,
		From: stamp(p.From), To: stamp(p.To), Uncertain: p.Uncertain,
	}
}

// Occupancy is the data of hall.occupancy.v1. People, Low, High and Level are
// null while Trust is unknown.
type Occupancy struct {
	Day      string          `json:"day"` // local date, from 04:00 to 04:00
	People   *int            `json:"people"`
	Low      *int            `json:"low"`
	High     *int            `json:"high"`
	Level    *string         `json:"level"`            // idle, moderate, busy, crowded
	Trust    string          `json:"trust"`            // good, approximate, unknown
	Reason   string          `json:"reason,omitempty"` // occupancy.Reason, while Trust is not good
	In       uint64          `json:"in"`
	Out      uint64          `json:"out"`
	Capacity int             `json:"capacity"`
	Doors    []DoorOccupancy `json:"doors"`
	Findings []Finding       `json:"findings,omitempty"` // what the passes show to be wrong; each is an alarm, too
}

// Finding is one thing wrong with the doors: door_silent, direction, imbalance.
type Finding struct {
	Code string `json:"code"`
	Door string `json:"door,omitempty"` // "" where it is about the hall
}

// DoorOccupancy is one door's share of the day.
type DoorOccupancy struct {
	Door  string     `json:"door"`
	In    uint64     `json:"in"`
	Out   uint64     `json:"out"`
	Last  *time.Time `json:"last"` // newest reading of its counters, null when none
	State string     `json:"state"`
}

// NewOccupancy makes the data of an estimate.
func NewOccupancy(s occupancy.Snapshot) Occupancy {
	o := Occupancy{
		Day: s.Day, People: s.People, Low: s.Low, High: s.High, Trust: string(s.Trust),
		Reason: string(s.Reason), In: s.In, Out: s.Out, Capacity: s.Capacity, Doors: []DoorOccupancy{},
	}
	if s.Level != "" {
		level := string(s.Level)
		o.Level = &level
	}
	for _, d := range s.Doors {
		door := DoorOccupancy{Door: d.Door, In: d.In, Out: d.Out, State: string(d.State)}
		if d.Last != nil {
			last := stamp(*d.Last)
			door.Last = &last
		}
		o.Doors = append(o.Doors, door)
	}
	for _, f := range s.Findings {
		o.Findings = append(o.Findings, Finding{Code: string(f.Code), Door: f.Door})
	}
	return o
}

// Correction is the data of hall.correction.v1: a head count by a manager. Old is
// null where no number was known.
type Correction struct {
	By     string `json:"by"` // workstation, as it was paired
	Old    *int   `json:"old"`
	New    int    `json:"new"`
	Reason string `json:"reason"`
}

// Day is the curve of one day, from 04:00 to 04:00 local time, in steps of five
// minutes; steps of which nothing is known are left out.
type Day struct {
	Day   string `json:"day"`
	Steps []Step `json:"steps"`
}

// Step is how a step ended, and the passes in it. People, Low and High are null
// while Trust was unknown.
type Step struct {
	Minute int    `json:"minute"` // at which it began, since 04:00
	In     uint64 `json:"in"`
	Out    uint64 `json:"out"`
	People *int   `json:"people"`
	Low    *int   `json:"low"`
	High   *int   `json:"high"`
	Trust  string `json:"trust"`
}

// NewDay makes the curve of a day.
func NewDay(d occupancy.Day) Day {
	day := Day{Day: d.Date, Steps: []Step{}}
	for _, s := range d.Steps {
		day.Steps = append(day.Steps, Step{
			Minute: s.Minute, In: s.In, Out: s.Out, People: s.People, Low: s.Low, High: s.High, Trust: string(s.Trust),
		})
	}
	return day
}

// Gap is the data of hall.gap.v1: records From to To of Epoch will never come. The
// first record of an epoch that follows a damaged or missing store is a Gap that
// names the epoch before it; there To may be From-1, if nothing is known to be
// lost, and Open says that nobody can tell whether more is.
type Gap struct {
	Epoch  string `json:"epoch"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Count  uint64 `json:"count"`
	Open   bool   `json:"open,omitempty"`
	Reason string `json:"reason"` // size, corruption, salvage, restore
}

// Alarm is the data of hall.alarm.v1.
type Alarm struct {
	Active   bool      `json:"active"`
	Severity string    `json:"severity"` // warning, critical
	Since    time.Time `json:"since"`
	Text     string    `json:"text"`
	Hint     string    `json:"hint,omitempty"`
}

// Ack is what a consumer says on ack/{stream}: it has everything up to Upto of
// Epoch. With Resend it asks for the rest again.
type Ack struct {
	Epoch  string `json:"epoch"`
	Upto   uint64 `json:"upto"`
	Resend bool   `json:"resend,omitempty"`
}

// ParseAck reads an Ack; a message without an epoch is none.
func ParseAck(payload []byte) (Ack, error) {
	var a Ack
	if err := json.Unmarshal(payload, &a); err != nil {
		return Ack{}, fmt.Errorf("decode acknowledgement: %w", err)
	}
	if a.Epoch == "" {
		return Ack{}, fmt.Errorf("decode acknowledgement: no epoch")
	}
	return a, nil
}
