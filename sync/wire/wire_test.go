package wire

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	hall = Hall{Area: "371003", ID: "sample"}
	noon = time.Date(2026, 11, 23, 4, 0, 0, 123_456_789, time.UTC)
)

// schemas compiles everything that is published.
func schemas(t testing.TB) func(name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	entries, err := fs.ReadDir(Schemas, "schemas")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := Schemas.ReadFile(path.Join("schemas", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
		if err := c.AddResource(Base+e.Name(), doc); err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
	}
	return func(name string) *jsonschema.Schema {
		s, err := c.Compile(Base + name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return s
	}
}

func valid(t testing.TB, s *jsonschema.Schema, payload []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return s.Validate(doc)
}

func ptr[T any](v T) *T { return &v }

// messages is one of every payload, as the agent makes it.
func messages(t *testing.T) map[string][]byte {
	t.Helper()
	state := func(topic, about, typ string, data any) []byte {
		p, err := State(hall, topic, about, typ, Session(12, 3), noon, data)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	record := func(about, typ string, seq uint64, data any) []byte {
		p, err := Store(hall, about, typ, noon, Unsynced, data)
		if err != nil {
			t.Fatal(err)
		}
		return AppendRecord(nil, p, Place{Stream: "visits", Epoch: "000001-9f3a77c2", Sequence: seq, Recorded: noon, Replayed: seq > 1})
	}
	visit := Visit{Door: "D1", Device: "gate-1", In: 3, Out: 1, From: noon.Add(-time.Second), To: noon}
	batch := record("gate-1", TypeVisit, 1, visit)
	second, err := Store(hall, "gate-2", TypeVisit, noon, Synced, Visit{Door: "D2", Device: "gate-2", Out: 1, From: noon, To: noon, Uncertain: true})
	if err != nil {
		t.Fatal(err)
	}
	batch = AppendRecord(batch, second, Place{Stream: "visits", Epoch: "000001-9f3a77c2", Sequence: 2, Recorded: noon, Replayed: true})
	return map[string][]byte{
		"status": state(hall.Status(), "agent", TypeStatus, Status{
			State: Degraded, Session: Session(12, 3), Since: noon, Version: "1.0.0", Reasons: []string{"device/rd-05/missing"},
			Streams: map[string]StreamState{"visits": {Epoch: "000001-9f3a77c2", Last: 7, Pending: 2}},
		}),
		"device-reader":  state(hall.Device("rd-05"), "rd-05", TypeDevice, Device{State: DeviceOffline, Since: noon, Code: "missing", Kind: "sam", Window: "05"}),
		"device-counter": state(hall.Device("gate-1"), "gate-1", TypeDevice, Device{State: DeviceOnline, Since: noon, Kind: "modbus", Door: "D1"}),
		"occupancy": state(hall.Occupancy(), "agent", TypeOccupancy, Occupancy{
			Day: "2026-11-23", People: ptr(45), Low: ptr(40), High: ptr(50), Level: ptr("moderate"), Trust: "approximate",
			In: 60, Out: 15, Capacity: 150, Doors: []DoorOccupancy{{Door: "D1", In: 60, Out: 15, Last: &noon, State: "online"}},
		}),
		"occupancy-unknown": state(hall.Occupancy(), "agent", TypeOccupancy, Occupancy{
			Day: "2026-11-23", Trust: "unknown", Reason: "not_read", Capacity: 150, Doors: []DoorOccupancy{{Door: "D1", State: "waiting"}},
			Findings: []Finding{{"direction", "D1"}, {"imbalance", ""}},
		}),
		"alarm":  state(hall.Alarm("store_unusable", "visits"), "agent", TypeAlarm, Alarm{Active: true, Severity: "warning", Since: noon, Text: "the store cannot be written", Hint: "free some space"}),
		"visits": batch,
		"gap":    record("agent", TypeGap, 9, Gap{Epoch: "000001-9f3a77c2", From: 5, To: 9, Count: 5, Reason: "size"}),
		// The first record of an epoch tells what is known to be lost of the one before it.
		"gap-salvage": record("agent", TypeGap, 1, Gap{Epoch: "000000-0000abcd", From: 713, To: 712, Reason: "salvage"}),
		"gap-restore": record("agent", TypeGap, 1, Gap{Epoch: "000000-0000abcd", From: 1, Open: true, Reason: "restore"}),
	}
}

// TestCorrectionSchema holds the data of a head count against its schema.
func TestCorrectionSchema(t *testing.T) {
	schema := schemas(t)("correction.json")
	for _, c := range []Correction{{By: "desk", Old: ptr(12), New: 30, Reason: "清点"}, {By: "desk", New: 0, Reason: "closed"}} {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := valid(t, schema, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if valid(t, schema, []byte(`{"by":"desk","old":-1,"new":30,"reason":"x"}`)) == nil {
		t.Error("less than nobody passes")
	}
}

// TestStateIDs raises two alarms of one source at the same moment: CloudEvents
// wants source and id together to be unique.
func TestStateIDs(t *testing.T) {
	seen := map[string]bool{}
	for _, code := range []string{"store_unusable", "records_lost"} {
		p, err := State(hall, hall.Alarm(code, "visits"), "agent", TypeAlarm, Session(12, 3), noon, Alarm{Since: noon})
		if err != nil {
			t.Fatal(err)
		}
		events, err := Decode(p)
		if err != nil {
			t.Fatal(err)
		}
		if seen[events[0].ID] {
			t.Errorf("id %s is given twice", events[0].ID)
		}
		seen[events[0].ID] = true
	}
}

func TestGolden(t *testing.T) {
	compile := schemas(t)
	event, batch := compile("event.json"), compile("batch.json")
	for name, payload := range messages(t) {
		schema := event
		if payload[0] == '[' {
			schema = batch
		}
		if err := valid(t, schema, payload); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, payload, "", "  "); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		pretty.WriteByte('\n')
		file := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(file, pretty.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if pretty.String() != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, pretty.String(), want)
		}
	}
}

// TestSchemasRefuse shows that the schemas can fail: each line spoils one thing.
func TestSchemasRefuse(t *testing.T) {
	compile := schemas(t)
	all := messages(t)
	for _, c := range []struct{ name, schema, old, new string }{
		{"status", "event.json", `"state":"degraded"`, `"state":"fine"`},
		{"status", "event.json", `"session":"000012-000000003"`, `"session":"12"`},
		{"status", "event.json", `"expirytime"`, `"expires"`},
		{"occupancy-unknown", "event.json", `"people":null`, `"people":12`},
		{"occupancy", "event.json", `"people":45`, `"people":null`},
		{"device-reader", "event.json", `"window":"05"`, `"door":"D1","window":"05"`},
		{"visits", "batch.json", `"sequence":"00000000000000000001"`, `"sequence":"1"`},
		{"visits", "batch.json", `"in":3`, `"in":-3`},
		{"visits", "batch.json", `"replayed":false,`, ``},
		{"gap", "batch.json", `"reason":"size"`, `"reason":"age"`},
	} {
		spoilt := strings.Replace(string(all[c.name]), c.old, c.new, 1)
		if c.old == `"replayed":false,` {
			spoilt = strings.Replace(string(all[c.name]), `,"replayed":false`, ``, 1)
		}
		if spoilt == string(all[c.name]) {
			t.Errorf("%s has no %s", c.name, c.old)
			continue
		}
		if valid(t, compile(c.schema), []byte(spoilt)) == nil {
			t.Errorf("%s passes with %s", c.name, c.new)
		}
	}
}

// TestDecode reads back what was made, single or in a batch.
func TestDecode(t *testing.T) {
	all := messages(t)
	events, err := Decode(all["visits"])
	if err != nil || len(events) != 2 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	e := events[1]
	if e.Stream != "visits" || e.Epoch != "000001-9f3a77c2" || e.Sequence != "00000000000000000002" ||
		e.ID != "visits/000001-9f3a77c2/00000000000000000002" || !*e.Replayed || e.Clock != Synced {
		t.Errorf("second record is %+v", e)
	}
	var v Visit
	if err := json.Unmarshal(e.Data, &v); err != nil || v.Door != "D2" || v.Out != 1 || !v.Uncertain {
		t.Errorf("its data is %+v, %v", v, err)
	}
	if events, err = Decode(all["status"]); err != nil || len(events) != 1 || events[0].Type != TypeStatus {
		t.Errorf("status is %+v, %v", events, err)
	}
	for _, bad := range []string{"", "{", "[{]", `"x"`} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%q was decoded", bad)
		}
	}
}

func TestAck(t *testing.T) {
	compile := schemas(t)
	text := []byte(`{"epoch":"000001-9f3a77c2","upto":12,"resend":true,"later":"ignored"}`)
	if err := valid(t, compile("ack.json"), text); err != nil {
		t.Error(err)
	}
	a, err := ParseAck(text)
	if err != nil || a != (Ack{"000001-9f3a77c2", 12, true}) {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{"", "{}", `{"epoch":"x","upto":-1}`, "[]"} {
		if _, err := ParseAck([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestTopics(t *testing.T) {
	if s, ok := hall.AckStream(hall.Ack("visits")); !ok || s != "visits" {
		t.Errorf("%q, %v", s, ok)
	}
	for _, topic := range []string{"hall/v1/371003/other/ack/visits", hall.Prefix() + "ack/", hall.Prefix() + "ack/a/b", hall.Status()} {
		if _, ok := hall.AckStream(topic); ok {
			t.Errorf("%s was taken for an acknowledgement", topic)
		}
	}
}

// TestAsyncAPI compares the published description with the topics in the code
// and with the schemas there are.
func TestAsyncAPI(t *testing.T) {
	var doc struct {
		Channels map[string]struct {
			Address  string
			Messages map[string]struct{ Payload map[string]string }
			Bindings struct {
				MQTT struct {
					QoS    int  `yaml:"qos"`
					Retain bool `yaml:"retain"`
				} `yaml:"mqtt"`
			}
		}
		Operations map[string]struct {
			Action  string
			Channel map[string]string
		}
	}
	if err := yaml.Unmarshal(AsyncAPI, &doc); err != nil {
		t.Fatal(err)
	}
	h := Hall{Area: "{area}", ID: "{hall}"}
	topics := map[string]string{
		"status": h.Status(), "devices": h.Device("{id}"), "occupancy": h.Occupancy(),
		"alarm": h.Alarm("{code}", "{about}"), "visits": h.Stream("visits"), "ack": h.Ack("{stream}"), "echo": h.Echo("{id}"),
	}
	compile := schemas(t)
	for name, topic := range topics {
		c, ok := doc.Channels[name]
		if !ok || c.Address != topic {
			t.Errorf("channel %s is at %q, want %q", name, c.Address, topic)
		}
		if c.Bindings.MQTT.QoS != 1 || c.Bindings.MQTT.Retain == (name == "visits" || name == "echo") {
			t.Errorf("channel %s has bindings %+v", name, c.Bindings)
		}
		for message, m := range c.Messages {
			if name == "echo" { // a word, no event
				continue
			}
			if m.Payload["$ref"] == "" || compile(strings.TrimPrefix(m.Payload["$ref"], "schemas/")) == nil {
				t.Errorf("message %s of %s has payload %v", message, name, m.Payload)
			}
		}
		used := 0
		for _, o := range doc.Operations {
			if o.Channel["$ref"] == "#/channels/"+name && (o.Action == "receive") == (name == "ack") {
				used++
			}
		}
		if used != 1 { // of an echo only what is sent
			t.Errorf("channel %s has %d operations", name, used)
		}
	}
	if len(doc.Channels) != len(topics) {
		t.Errorf("%d channels are described, %d topics are used", len(doc.Channels), len(topics))
	}
}
