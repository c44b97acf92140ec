package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Types of events. The number is the version of the data.
const (
	TypeStatus    = "hall.status.v1"
	TypeDevice    = "hall.device.v1"
	TypeOccupancy = "hall.occupancy.v1"
	TypeVisit     = "hall.visit.v1"
	TypeGap       = "hall.gap.v1"
	TypeAlarm     = "hall.alarm.v1"

	TypeCorrection = "hall.correction.v1"
)

// Clock says how far the time stamps of a record can be trusted.
type Clock string

const (
	Synced   Clock = "synced"   // the system says its clock is disciplined
	Unsynced Clock = "unsynced" // it says it is not, or does not know
	Stepped  Clock = "stepped"  // the clock jumped since the agent started
)

// Event is a CloudEvent 1.0 in structured mode. The attributes after Data are
// extensions: ExpiryTime for states, the rest for records of a stream.
type Event struct {
	SpecVersion     string          `json:"specversion"` // always "1.0"
	ID              string          `json:"id"`
	Source          string          `json:"source"` // Hall.Source
	Type            string          `json:"type"`
	Time            time.Time       `json:"time"` // UTC
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`

	ExpiryTime *time.Time `json:"expirytime,omitempty"`

	Stream       string     `json:"stream,omitempty"`
	Epoch        string     `json:"epoch,omitempty"`
	Sequence     string     `json:"sequence,omitempty"` // 20 digits, zero-padded
	RecordedTime *time.Time `json:"recordedtime,omitempty"`
	Replayed     *bool      `json:"replayed,omitempty"`
	Clock        Clock      `json:"clock,omitempty"`
}

// StateLife is how long a state may be believed without being renewed, and
// StateRenewal is how often it is renewed.
const (
	StateLife    = 90 * time.Second
	StateRenewal = 30 * time.Second
)

// State makes the event of a retained topic: newest wins, expires by itself.
// The id holds the topic below the hall's prefix: two alarms of one source are
// often raised within a millisecond, and are two events all the same.
func State(h Hall, topic, about, typ, session string, now time.Time, data any) ([]byte, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", typ, err)
	}
	now = stamp(now)
	expiry := now.Add(StateLife)
	return json.Marshal(Event{
		SpecVersion:     "1.0",
		ID:              fmt.Sprintf("%s/%s/%d", strings.TrimPrefix(topic, h.Prefix()), session, now.UnixMilli()),
		Source:          h.Source(about),
		Type:            typ,
		Time:            now,
		DataContentType: "application/json",
		Data:            raw,
		ExpiryTime:      &expiry,
	})
}

// stored is a record as it lies in the outbox: an Event before the stream gave
// it a place. AppendRecord relies on it being a JSON object that is not empty.
type stored struct {
	SpecVersion     string          `json:"specversion"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Clock           Clock           `json:"clock"`
	Data            json.RawMessage `json:"data"`
}

// Store makes the bytes of a record that goes into an outbox.
func Store(h Hall, about, typ string, at time.Time, clock Clock, data any) ([]byte, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", typ, err)
	}
	return json.Marshal(stored{
		SpecVersion:     "1.0",
		Source:          h.Source(about),
		Type:            typ,
		Time:            stamp(at),
		DataContentType: "application/json",
		Clock:           clock,
		Data:            raw,
	})
}

// Place is where a stored record stands in its stream.
type Place struct {
	Stream   string
	Epoch    string
	Sequence uint64
	Recorded time.Time
	Replayed bool // sent from the backlog rather than as it happened
}

// AppendRecord appends the full event of a stored record to a batch. It leaves
// the stored bytes untouched and only adds keys before the closing brace.
func AppendRecord(batch, record []byte, p Place) []byte {
	if len(batch) == 0 {
		batch = append(batch, '[')
	} else {
		batch[len(batch)-1] = ','
	}
	batch = append(batch, record[:len(record)-1]...)
	batch = fmt.Appendf(batch,
		`,"id":"%s/%s/%020d","stream":%q,"epoch":%q,"sequence":"%020d","recordedtime":%q,"replayed":%t}`,
		p.Stream, p.Epoch, p.Sequence, p.Stream, p.Epoch, p.Sequence,
		stamp(p.Recorded).Format(time.RFC3339Nano), p.Replayed)
	return append(batch, ']')
}

// stamp cuts a time to UTC milliseconds, the resolution of the contract.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// Decode reads one message of a stream or a state: a single event or a batch.
func Decode(payload []byte) ([]Event, error) {
	if bytes.HasPrefix(bytes.TrimLeft(payload, " \t\r\n"), []byte("[")) {
		var events []Event
		if err := json.Unmarshal(payload, &events); err != nil {
			return nil, fmt.Errorf("decode batch: %w", err)
		}
		return events, nil
	}
	var e Event
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	return []Event{e}, nil
}
