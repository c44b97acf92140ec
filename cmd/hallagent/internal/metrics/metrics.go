// Package metrics turns the snapshots of the parts into Prometheus metrics at
// the moment of a scrape.
//
// There is no metric that lives longer than a scrape: one collector asks every
// part for its Status and makes constant metrics of it. So a removed device is
// gone at the next scrape, and the page and the metrics can never disagree.
// Labels are device, line, door, kind, state, code, stream, reason, result,
// direction, address, what and version; nothing about a person is ever one.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/idcard"
	"github.com/hallagent/hallagent/sync/lan"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/uplink"
	"github.com/hallagent/hallagent/sync/wire"
)

// Sources give the snapshots.
type Sources struct {
	Hall      func() lan.Hall
	Occupancy func() wire.Occupancy
	Readers   func() []idcard.Status
	Counters  func() []counter.Status
	Outbox    func() outbox.Status
	Uplink    func() uplink.Status
	MQTT      func() mqtt.Status
	Cards     func() (claimed, unclaimed uint64)
	Refused   func() map[string]uint64 // HTTP connections and streams, by reason
	Photos    func() map[string]uint64 // photos decoded, by outcome; empty without a decoder
}

// Handler serves the metrics of the agent and of its process.
func Handler(s Sources) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collector{s},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// collector is unchecked: it describes nothing beforehand, since which devices
// there are is known only when it collects.
type collector struct{ Sources }

func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	e := emitter{ch}
	c.hall(e, c.Hall())
	c.readers(e)
	c.counters(e)
	c.stream(e)
	c.occupancy(e, c.Occupancy())
	claimed, unclaimed := c.Cards()
	const cards = "Cards read, by whether a workstation had claimed the window."
	e.count("hallagent_cards_total", cards, claimed, "result", "claimed")
	e.count("hallagent_cards_total", cards, unclaimed, "result", "unclaimed")
	for reason, n := range c.Refused() {
		e.count("hallagent_http_refused_total", "HTTP connections and streams beyond the limits, by limit.", n, "reason", reason)
	}
	for result, n := range c.Photos() {
		e.count("hallagent_photo_decodes_total", "Photos given to the decoder, by outcome.", n, "result", result)
	}
}

func (c collector) hall(e emitter, h lan.Hall) {
	e.gauge("hallagent_build_info", "Version of the agent; always 1.", 1, "version", h.Version)
	e.gauge("hallagent_degraded", "1 while something the agent needs is away.", boolean(h.State == wire.Degraded))
	e.gauge("hallagent_clock_synced", "1 while the system's clock is disciplined and did not jump.", boolean(h.Clock == wire.Synced))
	for _, l := range h.Lines {
		e.gauge("hallagent_line_state", "State of a line with its cause; always 1.", 1, "line", l.ID, "state", string(l.State), "code", l.Code)
		e.count("hallagent_line_opens_total", "Times a line was opened.", l.Opens, "line", l.ID)
		if l.Refused > 0 {
			e.count("hallagent_line_refused_total", "Devices that came to a listening line and were not served: not allowed, or too many at a time.", l.Refused, "line", l.ID)
		}
		const bytes = "Bytes carried by a line."
		e.count("hallagent_line_bytes_total", bytes, l.BytesIn, "line", l.ID, "direction", "in")
		e.count("hallagent_line_bytes_total", bytes, l.BytesOut, "line", l.ID, "direction", "out")
	}
	const up = "1 while a device answers."
	const state = "State of a device with its cause; always 1."
	for _, r := range h.Readers {
		e.gauge("hallagent_device_up", up, boolean(r.State == wire.DeviceOnline), "device", r.ID, "kind", r.Kind)
		e.gauge("hallagent_device_state", state, 1, "device", r.ID, "kind", r.Kind, "state", string(r.State), "code", r.Code)
	}
	for _, k := range h.Counters {
		e.gauge("hallagent_device_up", up, boolean(k.State == wire.DeviceOnline), "device", k.ID, "kind", k.Kind)
		e.gauge("hallagent_device_state", state, 1, "device", k.ID, "kind", k.Kind, "state", string(k.State), "code", k.Code)
	}
	for _, l := range h.Addresses {
		e.gauge("hallagent_listener_up", "1 while the HTTP address is served.", boolean(l.State == "online"), "address", l.Address, "code", l.Code)
	}
}

func (c collector) readers(e emitter) {
	for _, r := range c.Readers() {
		e.count("hallagent_reader_scans_total", "Cards read.", r.Scans, "device", r.ID)
		for code, n := range r.Troubles {
			e.count("hallagent_reader_troubles_total", "Cards that could not be read, by cause.", n, "device", r.ID, "code", code)
		}
		e.count("hallagent_reader_discarded_bytes_total", "Bytes that belonged to no frame.", r.Discarded, "device", r.ID)
		e.count("hallagent_reader_checksum_errors_total", "Frames with a wrong checksum.", r.ChecksumErrors, "device", r.ID)
	}
}

func (c collector) counters(e emitter) {
	for _, s := range c.Counters() {
		const total = "Total as the device shows it; it falls when the device is reset."
		if !s.LastReading.IsZero() {
			e.gauge("hallagent_device_reading", total, float64(s.In), "device", s.ID, "door", s.Door, "direction", "in")
			e.gauge("hallagent_device_reading", total, float64(s.Out), "device", s.ID, "door", s.Door, "direction", "out")
			e.gauge("hallagent_device_last_reading_timestamp_seconds", "Time of the newest reading.", seconds(s.LastReading), "device", s.ID)
		}
		e.count("hallagent_device_reading_errors_total", "Readings that did not come.", s.Errors, "device", s.ID)
		const leaps = "Leaps of a total, by what they were taken for."
		e.count("hallagent_device_leaps_total", leaps, s.Resets, "device", s.ID, "reason", "reset")
		e.count("hallagent_device_leaps_total", leaps, s.Rollovers, "device", s.ID, "reason", "rollover")
		e.count("hallagent_device_leaps_total", leaps, s.Rebases, "device", s.ID, "reason", "rebased")
		for _, n := range []struct {
			reason string
			n      uint64
		}{{"gap", s.Gaps}, {"duplicate", s.Duplicates}, {"noise", s.Noise}, {"undirected", s.Undirected}} {
			if n.n > 0 { // most kinds know one or two of them
				e.count("hallagent_device_oddities_total", "Gaps in what a counter tells, and what it told that was not counted, by reason.", n.n, "device", s.ID, "reason", n.reason)
			}
		}
	}
}

func (c collector) stream(e emitter) {
	s, u, m := c.Outbox(), c.Uplink(), c.MQTT()
	const stream = "visits"
	e.gauge("hallagent_stream_open", "1 while the store takes records.", boolean(s.Open), "stream", stream, "code", s.Code)
	e.count("hallagent_stream_accepted_total", "Records accepted: on disk. It is acknowledged + pending + dropped.", s.Accepted, "stream", stream)
	e.count("hallagent_stream_acknowledged_total", "Records acknowledged.", s.AcknowledgedCount, "stream", stream)
	e.gauge("hallagent_stream_pending", "Records not acknowledged yet.", float64(s.Pending), "stream", stream)
	e.gauge("hallagent_stream_pending_bytes", "What the pending records count of visits.max_size.", float64(s.PendingBytes), "stream", stream)
	for reason, n := range s.Dropped {
		e.count("hallagent_stream_dropped_total", "Records lost, each announced by a gap record.", n, "stream", stream, "reason", reason)
	}
	e.gauge("hallagent_stream_file_bytes", "Size of the store's file.", float64(s.FileBytes), "stream", stream)
	e.count("hallagent_stream_compactions_total", "Times that the store was written anew to give back space.", s.Compactions, "stream", stream)
	e.gauge("hallagent_stream_compaction_pause_seconds", "Longest time that records had to wait while the store was written anew.", s.Pause.Seconds(), "stream", stream)
	e.gauge("hallagent_stream_damaged_files", "Stores that were found damaged and set aside, and still lie there.", float64(len(s.Damages)), "stream", stream)
	e.count("hallagent_stream_sent_total", "Records handed to a connection, repetitions counted.", u.Sent, "stream", stream)
	e.count("hallagent_stream_replayed_total", "Records sent from the backlog, repetitions counted.", u.Replayed, "stream", stream)
	e.gauge("hallagent_stream_rate", "Records acknowledged per second, over the last 10 s.", u.Rate, "stream", stream)
	e.gauge("hallagent_stream_eta_seconds", "Time until the pending records are acknowledged at that rate, 0 while unknown.", u.ETA.Seconds(), "stream", stream)
	e.gauge("hallagent_stream_stalled", "1 while nothing is acknowledged though records wait and the broker is connected.", boolean(!u.Stalled.IsZero()), "stream", stream)
	e.count("hallagent_stream_reconnects_total", "Connections that were ended because nothing was acknowledged.", u.Reconnects, "stream", stream)
	e.gauge("hallagent_stream_message_limit_bytes", "Largest message of more than one record; it falls while the broker takes none.", float64(u.MessageLimit), "stream", stream)
	e.gauge("hallagent_stream_in_flight", "Messages sent and not acknowledged by the broker.", float64(u.InFlight), "stream", stream)
	for reason, n := range u.Ignored {
		e.count("hallagent_stream_acks_ignored_total", "Acknowledgements that could not be meant.", n, "stream", stream, "reason", reason)
	}
	const again = "Times that records were sent again because the consumer asked for them, or said nothing."
	e.count("hallagent_stream_repeats_total", again, u.Rewinds, "stream", stream, "reason", "asked")
	e.count("hallagent_stream_repeats_total", again, u.Reminders, "stream", stream, "reason", "silent")
	e.gauge("hallagent_broker_up", "1 while the broker is connected.", boolean(m.State == mqtt.Connected))
	e.gauge("hallagent_broker_state", "State of the connection with its cause; always 1.", 1, "state", string(m.State), "code", m.Code)
	e.count("hallagent_broker_connects_total", "Connections made.", m.Connects)
	e.gauge("hallagent_broker_echo_seconds", "Time to the broker and back, of the newest echo; 0 before the first.", m.Echo.Seconds())
	e.count("hallagent_broker_echoes_lost_total", "Echoes that the broker confirmed and did not deliver.", m.EchoesLost)
	for what, expires := range map[string]time.Time{"own": m.OwnExpires, "broker": m.BrokerExpires} {
		if !expires.IsZero() {
			e.gauge("hallagent_certificate_expiry_timestamp_seconds", "End of a certificate: own, or the one the broker showed last.", seconds(expires), "what", what)
		}
	}
	e.count("hallagent_broker_overflow_total", "Messages from the broker dropped because too many came at once.", m.Overflow)
}

// occupancy is not there while it is unknown: a number that is not sure must not
// look sure, least of all in a graph.
func (c collector) occupancy(e emitter, o wire.Occupancy) {
	for _, trust := range []string{"good", "approximate", "unknown"} {
		e.gauge("hallagent_occupancy_trust", "1 for the trust the estimate deserves.", boolean(o.Trust == trust), "state", trust)
	}
	if o.People != nil {
		e.gauge("hallagent_occupancy_people", "Visitors in the hall.", float64(*o.People))
		e.gauge("hallagent_occupancy_people_low", "Lower end of the 90 % band.", float64(*o.Low))
		e.gauge("hallagent_occupancy_people_high", "Upper end of the 90 % band.", float64(*o.High))
	}
	for _, f := range o.Findings {
		e.gauge("hallagent_occupancy_finding", "1 while the passes show that something is wrong with a door, or with the hall where door is empty.", 1, "code", f.Code, "door", f.Door)
	}
	const passes = "Passes of the day, which begins at 04:00."
	for _, d := range o.Doors {
		e.gauge("hallagent_door_day_passes", passes, float64(d.In), "door", d.Door, "direction", "in")
		e.gauge("hallagent_door_day_passes", passes, float64(d.Out), "door", d.Door, "direction", "out")
	}
}

// emitter makes constant metrics.
type emitter struct{ ch chan<- prometheus.Metric }

func (e emitter) gauge(name, help string, v float64, labels ...string) {
	e.emit(prometheus.GaugeValue, name, help, v, labels)
}

func (e emitter) count(name, help string, n uint64, labels ...string) {
	e.emit(prometheus.CounterValue, name, help, float64(n), labels)
}

// emit takes labels as pairs of name and value.
func (e emitter) emit(t prometheus.ValueType, name, help string, v float64, labels []string) {
	var names, values []string
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	e.ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), t, v, values...)
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
