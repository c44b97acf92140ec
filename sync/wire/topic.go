// Package wire is the contract with the world: topics, events and their
// schemas, in one place, so that nothing about a message is decided elsewhere.
//
// Events are CloudEvents 1.0 in structured JSON, because MQTT 3.1.1 has no
// header fields to put attributes into. Records of a stream are stored without
// the attributes that depend on the sending (stream, epoch, sequence, replayed);
// those are spliced in by AppendRecord, so that the stored bytes stay what was
// accepted. Schemas holds a JSON Schema for every payload.
//
// Limits: a message is at most MaxMessage bytes; receivers ignore unknown keys,
// so keys are only ever added within a version.
package wire

import "strings"

// MaxMessage is the largest payload of one MQTT message in bytes.
const MaxMessage = 64 << 10

// Hall names a hall among all: the GB/T 2260 code of its area and an id unique
// within the area. Neither may contain characters that mean something in a topic.
type Hall struct {
	Area string
	ID   string
}

// ParseTopic takes a topic apart: whose it is, and its name below the hall's prefix.
func ParseTopic(topic string) (h Hall, name string, ok bool) {
	rest, ok := strings.CutPrefix(topic, "hall/v1/")
	if !ok {
		return Hall{}, "", false
	}
	area, rest, _ := strings.Cut(rest, "/")
	id, name, _ := strings.Cut(rest, "/")
	return Hall{area, id}, name, area != "" && id != "" && name != ""
}

// ClientID is the MQTT client id of the hall's agent.
func (h Hall) ClientID() string { return "hallagent-" + h.Area + "-" + h.ID }

// Source is the CloudEvents source of a device, or of the agent itself when
// device is "agent".
func (h Hall) Source(device string) string {
	return "//" + h.Area + "/" + h.ID + "/" + device
}

// Prefix starts every topic of the hall; it ends in a slash.
func (h Hall) Prefix() string { return "hall/v1/" + h.Area + "/" + h.ID + "/" }

// Status is the retained topic of the agent's own state; the will goes there.
func (h Hall) Status() string { return h.Prefix() + "status" }

// Device is the retained topic of one reader or counter.
func (h Hall) Device(id string) string { return h.Prefix() + "devices/" + id }

// Occupancy is the retained topic of the number of visitors.
func (h Hall) Occupancy() string { return h.Prefix() + "occupancy" }

// Stream is the topic of a durable stream, "visits" or "audit".
func (h Hall) Stream(name string) string { return h.Prefix() + name }

// Ack is the topic on which the consumer of a stream acknowledges.
func (h Hall) Ack(stream string) string { return h.Prefix() + "ack/" + stream }

// Alarm is the retained topic of one alarm of a device or of the agent.
func (h Hall) Alarm(code, about string) string {
	return h.Prefix() + "alarm/" + code + "/" + about
}

// Echo is the topic on which a client of the hall hears itself.
func (h Hall) Echo(id string) string { return h.Prefix() + "echo/" + id }

// AckStream gives the stream that an ack topic of this hall speaks of.
func (h Hall) AckStream(topic string) (stream string, ok bool) {
	rest, ok := strings.CutPrefix(topic, h.Prefix()+"ack/")
	return rest, ok && rest != "" && !strings.Contains(rest, "/")
}
