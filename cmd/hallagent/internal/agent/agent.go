// Package agent builds the agent of one hall from its configuration and runs
// it. It is the only place that knows all parts; each part knows only what it
// needs.
//
// The parts stand on floors: the store, the connection to the broker, the
// uplink, and on top of them the lines, the LAN and what tells the world. They
// start bottom-up and stop top-down, so that what was counted last is still
// stored, and what was stored last is still sent, if the broker is there.
//
// Limits: one hall for each process and data directory. A device, a broker or a
// disk that is away never ends the agent; only ctx, or a bug of a part, does, and
// an agent that runs already keeps it from starting.
package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/cmd/hallagent/internal/metrics"
	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/counter/occupancy"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/serial"
	"github.com/hallagent/hallagent/idcard"
	"github.com/hallagent/hallagent/sync/lan"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/outbox"
	"github.com/hallagent/hallagent/sync/uplink"
	"github.com/hallagent/hallagent/sync/wire"
)

const (
	visits     = "visits"         // the stream of passes
	bootMark   = "boot"           // mark: the store's copy of the boot count
	openLimit  = time.Second      // for the store when the agent starts
	flushLimit = 2 * time.Second  // for the last records when the agent stops
	sayAgain   = 30 * time.Second // between two lines of the log that say the same
)

// Agent is a hall's agent, built and not yet running.
type Agent struct {
	cfg     config.Config
	version string
	log     *slog.Logger
	since   time.Time
	hall    wire.Hall
	boot    *boot
	clock   *clock

	session atomic.Pointer[string] // of the newest connection

	// Of the one goroutine that receives.
	unread     int       // acknowledgements that could not be read, since
	saidUnread time.Time // the log last said so
	renewed    time.Time // when doubt began an epoch last

	visits   *outbox.Outbox
	uplink   *uplink.Uplink
	mqtt     *mqtt.Client
	lan      *lan.Server
	pairings *lan.Pairings
	photos   *photos
	passes   *passes
	kept     *kept
	rates    rates

	lines   []line
	readers []readerOnLine
	owners  []ownerOfLine
}

// line is a link and how it is named in the configuration.
type line struct {
	id, url string
	link    *device.Link
}

type readerOnLine struct {
	line   string
	window string
	reader *idcard.Reader
	link   *device.Link
}

// ownerOfLine has all counters of a line.
type ownerOfLine struct {
	line string
	counter.Owner
	link *device.Link
}

// New builds an agent. It opens and dials no device, no store and no broker.
func New(cfg config.Config, version string, log *slog.Logger) (*Agent, error) {
	a := &Agent{
		cfg: cfg, version: version, log: log, since: time.Now(),
		hall:  wire.Hall{Area: cfg.Hall.Area, ID: cfg.Hall.ID},
		boot:  &boot{path: filepath.Join(cfg.Data, "boot")},
		clock: newClock(),
		rates: readRates(filepath.Join(cfg.Data, "rates.json")),
	}
	none := wire.Session(0, 0)
	a.session.Store(&none)
	a.visits = outbox.New(outbox.Options{
		Path: filepath.Join(cfg.Data, visits+".db"), Stream: visits,
		MaxSize: int64(cfg.Visits.MaxSize), NewEpoch: a.boot.epoch, Log: log,
	})
	a.passes = &passes{
		hall: a.hall, outbox: a.visits, clock: a.clock, log: log, changed: make(chan struct{}, 1),
		settings: estimateSettings(cfg),
	}
	a.kept = &kept{outbox: a.visits, topics: map[string]bool{}}
	if err := a.buildLines(); err != nil {
		return nil, err
	}
	a.buildBroker()
	a.photos = newPhotos(cfg.Photo, log)
	a.pairings = lan.NewPairings(filepath.Join(cfg.Data, "pairings.json"), replace)
	a.lan = lan.New(lan.Options{
		Listen: cfg.LAN.Listen, Hosts: cfg.LAN.Hosts, Origins: cfg.LAN.Origins,
		Hall: a.view, Occupancy: a.occupancy, NotReady: a.notReady, Window: a.window, Reread: a.reread,
		Day: a.day, Correct: a.correct, Corrections: func() ([]json.RawMessage, error) { return a.passes.corrections(time.Now()) },
		Photo: a.photos.decode(), Metrics: a.metrics(), Pairings: a.pairings, Log: log,
	})
	return a, nil
}

func estimateSettings(cfg config.Config) occupancy.Settings {
	zone := cfg.Hall.Timezone.Location
	s := occupancy.Settings{
		Capacity: cfg.Hall.Capacity, Location: zone,
		Scale: cfg.Occupancy.Scale, Stay: cfg.Occupancy.Stay, Levels: [3]int(cfg.Occupancy.Levels),
	}
	for _, shift := range cfg.Occupancy.Staff {
		s.Staff = append(s.Staff, occupancy.Shift(shift))
	}
	if !cfg.Hall.Hours.IsZero() {
		s.Hours = func(day time.Time) (spans []occupancy.Span) {
			for _, span := range cfg.Hall.Hours.Spans(day.In(zone)) {
				spans = append(spans, occupancy.Span(span))
			}
			return spans
		}
	}
	for _, d := range cfg.Doors {
		door := occupancy.Door{ID: d.ID, Role: occupancy.Role(d.Role), Scale: d.Scale}
		for _, c := range cfg.Counters {
			if c.Door == d.ID {
				door.Counters = append(door.Counters, c.ID)
				door.Sensor = lessSure(door.Sensor, sensorOf(c))
				door.Wiring += fmt.Sprintf("%s %t;", c.ID, counter.Config{Swap: c.Swap, Settings: c.Settings}.Turned())
			}
		}
		s.Doors = append(s.Doors, door)
	}
	return s
}

// sensorOf is the technique of a counter: as configured, or that of its kind.
func sensorOf(c config.Counter) counter.Sensor {
	if c.Sensor != "" {
		return counter.Sensor(c.Sensor)
	}
	kind, err := counter.Kinds().Find(c.Kind)
	if err != nil {
		return counter.Beam // the configuration was refused long before
	}
	return kind.Sensor
}

// lessSure is the one of two techniques at one door that misses more.
func lessSure(a, b counter.Sensor) counter.Sensor {
	order := []counter.Sensor{"", counter.Gate, counter.Camera, counter.Beam}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// Dial gives the way to open a line that does not listen.
func Dial(a device.Address) device.Dial {
	if a.Scheme == device.SchemeSerial || a.Scheme == device.SchemePulse {
		return serial.Dial(a)
	}
	return device.TCP(a)
}

// Link makes the link of a line, whether it is dialled or listens.
func Link(name string, a device.Address, use device.Use, log *slog.Logger) *device.Link {
	if a.Listens() {
		return device.NewListenLink(name, a, use, log)
	}
	return device.NewLink(name, Dial(a), use, log)
}

func (a *Agent) buildLines() error {
	counters := map[string][]counter.Config{}
	for _, c := range a.cfg.Counters {
		counters[c.Line] = append(counters[c.Line], counter.Config{
			ID: c.ID, Kind: c.Kind, Line: c.Line, Door: c.Door, Swap: c.Swap, Rate: c.Rate, Settings: c.Settings,
		})
	}
	for _, l := range a.cfg.Lines {
		for _, r := range a.cfg.Readers {
			if r.Line == l.ID {
				if err := a.addReader(l, r); err != nil {
					return err
				}
			}
		}
		if on := counters[l.ID]; len(on) > 0 {
			owner, err := counter.NewOwner(l.URL.Address, on, l.Poll, a.passes.mark, a.passes.take, a.log.With("line", l.ID))
			if err != nil {
				return fmt.Errorf("build line %q: %w", l.ID, err)
			}
			a.owners = append(a.owners, ownerOfLine{l.ID, owner, a.addLine(l, owner.Use)})
		}
	}
	return nil
}

func (a *Agent) addReader(l config.Line, r config.Reader) error {
	reader, err := idcard.NewReader(idcard.Config{
		ID: r.ID, Kind: r.Kind, Window: r.Window, Poll: r.Poll,
		Baud: cmp.Or(l.URL.Baud, a.rates.known[l.ID]), Auto: l.URL.AutoBaud(),
	}, a.scanned, a.log.With("line", l.ID))
	if err != nil {
		return fmt.Errorf("build reader %q: %w", r.ID, err)
	}
	a.readers = append(a.readers, readerOnLine{l.ID, r.Window, reader, a.addLine(l, reader.Use)})
	return nil
}

func (a *Agent) addLine(l config.Line, use device.Use) *device.Link {
	link := Link(l.ID, l.URL.Address, use, a.log)
	a.lines = append(a.lines, line{l.ID, l.URL.String(), link})
	return link
}

// scanned hands what a reader found to its window.
func (a *Agent) scanned(_ context.Context, e idcard.Event) { a.lan.ShowCard(e) }

func (a *Agent) buildBroker() {
	b := a.cfg.Broker
	a.mqtt = mqtt.New(mqtt.Options{
		URL: b.URL, ClientID: a.hall.ClientID(), Username: b.Username, PasswordFile: b.PasswordFile,
		CAFile: b.CAFile, CertFile: b.CertFile, KeyFile: b.KeyFile,
		Will:          a.will,
		Birth:         func(uint64) mqtt.Message { return a.birth() },
		Farewell:      func() mqtt.Message { return a.statusMessage(wire.Stopping) },
		Echo:          a.hall.Echo("agent"),
		Subscriptions: []string{a.hall.Ack(visits)},
		Handle:        a.received,
		Log:           a.log,
	})
	a.uplink = uplink.New(uplink.Options{
		Outbox: a.visits, Publisher: a.mqtt, Topic: a.hall.Stream(visits), Encode: a.encode, MaxBytes: wire.MaxMessage,
		Central: b.Acknowledge == "central", Rate: a.cfg.Visits.DrainRate, Log: a.log,
	})
}

// will is left with the broker by each attempt to connect. It names the session
// for as long as the connection lasts: a boot count that becomes known later
// must not part the will from its birth.
func (a *Agent) will(attempt uint64) mqtt.Message {
	boot, err := a.boot.number()
	if err != nil {
		boot = 0 // the view says so
	}
	session := wire.Session(boot, attempt)
	a.session.Store(&session)
	return a.statusMessage(wire.Lost)
}

// birth is the first message of a connection. It also replaces the state that
// was retained for the connection before, which would follow it otherwise.
func (a *Agent) birth() mqtt.Message {
	m := a.statusMessage("")
	a.mqtt.Retain(m.Topic, m.Payload)
	return m
}

// statusMessage is the status of the connection; a state forces it.
func (a *Agent) statusMessage(state wire.AgentState) mqtt.Message {
	s := a.status(a.view())
	if state != "" {
		s.State, s.Reasons = state, nil
	}
	payload, err := wire.State(a.hall, a.hall.Status(), "agent", wire.TypeStatus, s.Session, time.Now(), s)
	if err != nil {
		a.log.Error("cannot encode the status", "err", err)
	}
	return mqtt.Message{Topic: a.hall.Status(), Retain: true, Payload: payload}
}

// encode makes a message of records.
func (a *Agent) encode(records []outbox.Record, replayed bool) ([]byte, error) {
	var batch []byte
	for _, r := range records {
		value := r.Value
		if g := r.Gap; g != nil {
			var err error
			value, err = wire.Store(a.hall, "agent", wire.TypeGap, r.Recorded, a.clock.state(), wire.Gap{
				Epoch: g.Epoch, From: g.From, To: g.To, Count: g.Count, Open: g.Open, Reason: g.Reason,
			})
			if err != nil {
				return nil, err
			}
		}
		batch = wire.AppendRecord(batch, value, wire.Place{
			Stream: visits, Epoch: r.Epoch, Sequence: r.Seq, Recorded: r.Recorded, Replayed: replayed,
		})
	}
	return batch, nil
}

// received takes what comes down from the broker. A wish to have records again
// is of the moment: one that the broker kept would be granted at each connect.
func (a *Agent) received(topic string, payload []byte, retained bool) {
	stream, ok := a.hall.AckStream(topic)
	if !ok || stream != visits {
		return
	}
	ack, err := wire.ParseAck(payload)
	if err != nil {
		a.uplink.Malformed()
		if a.unread++; time.Since(a.saidUnread) >= sayAgain {
			a.log.Warn("cannot read an acknowledgement", "stream", stream, "err", err, "count", a.unread)
			a.saidUnread, a.unread = time.Now(), 0
		}
		return
	}
	if a.cfg.Broker.Acknowledge == "central" {
		a.doubt(ack)
		ack.Upto = a.known(ack)
	}
	a.uplink.Acknowledged(ack.Epoch, ack.Upto, ack.Resend && !retained)
}

func (a *Agent) metrics() http.Handler {
	return metrics.Handler(metrics.Sources{
		Hall: a.view, Occupancy: a.occupancy,
		Readers: func() (all []idcard.Status) {
			for _, r := range a.readers {
				all = append(all, r.reader.Status())
			}
			return all
		},
		Counters: a.counters,
		Outbox:   a.visits.Status, Uplink: a.uplink.Status, MQTT: a.mqtt.Status,
		Cards:   func() (uint64, uint64) { return a.lan.Cards() },
		Refused: func() map[string]uint64 { return a.lan.Refused() },
		Photos:  a.photos.outcomes,
	})
}

// Run runs the agent until ctx ends and everything has stopped. It refuses to run
// beside another agent of the same data folder: with the same client id they
// would throw each other off the broker, and the later boot count of the second
// would make the sessions of the first look old even after the second has gone.
func (a *Agent) Run(ctx context.Context) error {
	top := []part{
		{"lan", a.lan.Run}, {"control", a.control}, {"tell", a.tell}, {"forget", a.forget}, {"rates", a.rememberRates},
	}
	for _, l := range a.lines {
		top = append(top, part{"line " + l.id, l.link.Run})
	}
	if err := a.makeFolder(); err != nil {
		a.log.Error("cannot make the data folder", "err", err)
	}
	unlock, err := lockFolder(a.cfg.Data)
	if err != nil {
		return fmt.Errorf("run the agent: %w", err)
	}
	defer unlock()
	return climb(ctx,
		floor{parts: []part{{"folder", a.folder}, {"outbox", a.visits.Run}}, enter: a.opened},
		floor{parts: []part{{"mqtt", a.mqtt.Run}}},
		floor{parts: []part{{"uplink", a.uplink.Run}}, leave: a.flush},
		floor{parts: top},
	)
}

// opened waits a moment for the store, so that the first readings already find
// their marks. A disk that is not there keeps nothing from starting.
func (a *Agent) opened(ctx context.Context) {
	select {
	case <-a.visits.Opened():
		if err := a.liftBoot(ctx); err != nil {
			a.log.Warn("boot count may not grow", "err", err)
		}
	case <-time.After(openLimit):
	case <-ctx.Done():
	}
}

// liftBoot lets the store and the boot file remember for each other.
func (a *Agent) liftBoot(ctx context.Context) error {
	stored, err := a.visits.Mark(bootMark)
	if err != nil {
		return fmt.Errorf("read the store's boot count: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	next, putBack, err := a.boot.lift(stored, a.visits.Status().Epoch)
	if err == nil && putBack {
		if err = a.visits.Renew(ctx); err == nil {
			next, _, err = a.boot.lift(stored, a.visits.Status().Epoch)
		}
	}
	if err != nil {
		return err
	}
	if err := a.visits.SetMarks(ctx, outbox.Mark{Name: bootMark, Value: next}); err != nil {
		return err
	}
	return a.boot.remembered()
}

// renewAgain is the least time between two epochs that a consumer's word begins.
const renewAgain = time.Minute

// doubt begins a new epoch when a consumer has more of the present one than was
// ever given: then the whole data folder was put back from a copy, and the store
// gives sequences once more. Those it gave before the consumer could say so are
// taken for what the consumer has, and if by then it has given as many as it ever
// had, nobody finds out.
func (a *Agent) doubt(ack wire.Ack) {
	s := a.visits.Status()
	if ack.Epoch != s.Epoch || ack.Upto <= s.Last || !s.Open || time.Since(a.renewed) < renewAgain {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), openLimit)
	defer cancel()
	if err := a.visits.Renew(ctx); err != nil {
		a.log.Error("no new epoch", "stream", visits, "err", err)
		return
	}
	a.renewed = time.Now()
}

// known gives how far the store knows what a consumer has of an epoch. Of one that
// was put back from a copy the consumer may have more; it never acknowledges less
// then, and what the store has left of that epoch would wait for ever.
func (a *Agent) known(ack wire.Ack) uint64 {
	if ack.Epoch == a.visits.Status().Epoch {
		return ack.Upto
	}
	next, err := a.visits.Read(outbox.Position{Epoch: ack.Epoch, Seq: ack.Upto}, 1, 1)
	if err != nil || len(next) == 0 || next[0].Gap == nil {
		return ack.Upto
	}
	if g := next[0].Gap; g.Open && g.Epoch == ack.Epoch && g.Epoch != next[0].Epoch {
		return min(ack.Upto, g.To)
	}
	return ack.Upto
}

// flush gives the last records a moment to be acknowledged. What is not stays on
// disk and goes out after the next start.
func (a *Agent) flush() {
	if a.mqtt.Status().State != mqtt.Connected {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
	defer cancel()
	if err := a.uplink.Flush(ctx); err != nil {
		a.log.Info("records wait for the next start", "stream", visits, "pending", a.visits.Status().Pending)
	}
}
