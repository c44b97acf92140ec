package lan

import (
	"time"

	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/sync/wire"
)

// Hall is the answer of /v1/hall: what stands where, and how it is. Nothing in
// it is about a person.
type Hall struct {
	Area     string     `json:"area"`
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Capacity int        `json:"capacity"`
	Levels   []int      `json:"levels"` // per cent of the capacity where moderate, busy and crowded begin
	Open     bool       `json:"open"`   // by the opening hours, now
	Hours    string     `json:"hours"`  // of today, "" when closed all day
	Now      time.Time  `json:"now"`    // the agent's clock
	Clock    wire.Clock `json:"clock"`
	Version  string     `json:"version"`
	Since    time.Time  `json:"since"` // start of the agent

	State     wire.AgentState `json:"state"`
	Reasons   []string        `json:"reasons"` // codes of what makes it degraded
	Lines     []Line          `json:"lines"`
	Readers   []Reader        `json:"readers"`
	Counters  []Counter       `json:"counters"`
	Strangers []Stranger      `json:"strangers,omitempty"`
	Broker    Broker          `json:"broker"`
	Streams   []Stream        `json:"streams"`
	Addresses []Listener      `json:"listen"`
}

// Line is one line and how it is.
type Line struct {
	ID  string `json:"id"`
	URL string `json:"url"`
	device.Status
}

// Reader is one reader and how it is.
type Reader struct {
	ID     string           `json:"id"`
	Kind   string           `json:"kind"`
	Line   string           `json:"line"`
	Window string           `json:"window"`
	State  wire.DeviceState `json:"state"`
	Since  time.Time        `json:"since"`
	Code   string           `json:"code,omitempty"`
	Err    string           `json:"err,omitempty"`
	Hint   string           `json:"hint,omitempty"`
	SAMID  string           `json:"sam_id,omitempty"`
	Baud   int              `json:"baud,omitempty"` // that was found on the line, bits per second
	Scans  uint64           `json:"scans"`
}

// Counter is one counter and how it is.
type Counter struct {
	ID    string           `json:"id"`
	Kind  string           `json:"kind"`
	Line  string           `json:"line"`
	Door  string           `json:"door"`
	State wire.DeviceState `json:"state"`
	Since time.Time        `json:"since"`
	Code  string           `json:"code,omitempty"`
	Err   string           `json:"err,omitempty"`
	Hint  string           `json:"hint,omitempty"`
	Last  *time.Time       `json:"last"` // newest reading
}

// Stranger is a device that speaks on a line and is not in the configuration.
type Stranger struct {
	Line string `json:"line"`
	Unit string `json:"unit"` // as it names itself
}

// Broker is the connection to the broker.
type Broker struct {
	URL   string    `json:"url"`
	State string    `json:"state"` // connected, waiting
	Since time.Time `json:"since"`
	Code  string    `json:"code,omitempty"`
	Err   string    `json:"err,omitempty"`
	Hint  string    `json:"hint,omitempty"`

	EchoMS        float64   `json:"echo_ms,omitempty"`       // milliseconds to the broker and back
	OwnExpires    time.Time `json:"own_expires,omitzero"`    // end of the gateway's certificate
	BrokerExpires time.Time `json:"broker_expires,omitzero"` // end of the broker's certificate
}

// Stream is a durable stream: where it stands and what waits in it.
type Stream struct {
	Name    string `json:"name"`
	Open    bool   `json:"open"` // its store can be written
	Code    string `json:"code,omitempty"`
	Err     string `json:"err,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Epoch   string `json:"epoch"`
	Last    uint64 `json:"last"`
	Pending uint64 `json:"pending"`
	Dropped uint64 `json:"dropped"`

	InFlight int       `json:"in_flight"`        // messages sent and not confirmed by the broker
	Replayed uint64    `json:"replayed"`         // records sent from the backlog
	Rate     float64   `json:"rate"`             // records acknowledged per second, over the last 10 s
	ETA      float64   `json:"eta_s"`            // seconds until the pending ones are, at that rate; 0 while unknown
	Stalled  time.Time `json:"stalled,omitzero"` // since when nothing is acknowledged though records wait and the broker is connected

	Damages  []Damage `json:"damages,omitempty"`  // what was found damaged and set aside
	Replaced bool     `json:"replaced,omitempty"` // begun anew in this run, although there had been one
	Restored bool     `json:"restored,omitempty"` // found in this run to have been put back from a copy
}

// Damage is a store that was found damaged, and what became of its records.
type Damage struct {
	At    time.Time `json:"at"`
	File  string    `json:"file"` // where it lies now
	Saved uint64    `json:"saved"`
	Lost  uint64    `json:"lost"`
	Open  bool      `json:"open"`  // and perhaps more are lost
	Marks bool      `json:"marks"` // what counters and the estimate had reached is still known
}
