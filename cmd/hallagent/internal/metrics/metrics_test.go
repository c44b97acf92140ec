package metrics

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/idcard"
	"github.com/hallagent/hallagent/sync/lan"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/uplink"
	"github.com/hallagent/hallagent/sync/wire"
)

var update = flag.Bool("update", false, "write the golden file anew")

// hall is one in which everything has a number of its own.
func hall() Sources {
	people, low, high := 45, 40, 50
	at := time.UnixMilli(1_795_000_000_250)
	return Sources{
		Hall: func() lan.Hall {
			return lan.Hall{
				Version: "1.2.3", State: wire.Degraded, Clock: wire.Unsynced,
				Lines:     []lan.Line{{ID: "window-05", Status: device.Status{State: device.Waiting, Code: "missing", Opens: 3, BytesIn: 11, BytesOut: 12}}},
				Readers:   []lan.Reader{{ID: "rd-05", Kind: "sam", State: wire.DeviceOffline, Code: "missing"}},
				Counters:  []lan.Counter{{ID: "gate-1", Kind: "modbus", State: wire.DeviceOnline}},
				Addresses: []lan.Listener{{Address: "127.0.0.1:8080", State: "online"}},
			}
		},
		Occupancy: func() wire.Occupancy {
			return wire.Occupancy{People: &people, Low: &low, High: &high, Trust: "approximate",
				Doors: []wire.DoorOccupancy{{Door: "D1", In: 60, Out: 15}}}
		},
		Readers: func() []idcard.Status {
			return []idcard.Status{{ID: "rd-05", Scans: 21, Troubles: map[string]uint64{"read_failed": 22},
				Counts: idcard.Counts{Discarded: 23, ChecksumErrors: 24}}}
		},
		Counters: func() []counter.Status {
			return []counter.Status{{ID: "gate-1", Door: "D1", In: 31, Out: 32, LastReading: at, Resets: 33, Rollovers: 34, Rebases: 35, Errors: 36}}
		},
		Outbox: func() outbox.Status {
			return outbox.Status{Open: true, Accepted: 100, AcknowledgedCount: 90, Pending: 7, Dropped: map[string]uint64{"size": 3}, FileBytes: 4096}
		},
		Uplink: func() uplink.Status {
			return uplink.Status{Sent: 120, Replayed: 15, Rate: 3.5, ETA: 2 * time.Second, Stalled: at, Reconnects: 6, InFlight: 2, Ignored: map[string]uint64{"beyond": 4}}
		},
		MQTT: func() mqtt.Status {
			return mqtt.Status{State: mqtt.Connected, Connects: 5, Echo: 12 * time.Millisecond, EchoesLost: 8, OwnExpires: at, BrokerExpires: at.Add(time.Hour)}
		},
		Cards:   func() (uint64, uint64) { return 41, 42 },
		Refused: func() map[string]uint64 { return map[string]uint64{"connections": 51, "address": 52, "streams": 53} },
		Photos:  func() map[string]uint64 { return map[string]uint64{"good": 61, "photo_decoder_timeout": 62} },
	}
}

// TestExposition compares a whole scrape with what it was, so that a name or a
// label changes on purpose only.
func TestExposition(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{hall()})
	const golden = "testdata/hall.prom"
	if *update {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	if err := testutil.GatherAndCompare(reg, want); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// TestUnknownOccupancyHasNoNumber keeps an unsure number out of every graph.
func TestUnknownOccupancyHasNoNumber(t *testing.T) {
	s := hall()
	s.Occupancy = func() wire.Occupancy { return wire.Occupancy{Trust: "unknown"} }
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{s})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "hallagent_occupancy_people") {
			t.Errorf("%s is there", f.GetName())
		}
	}
}
