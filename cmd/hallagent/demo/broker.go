package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/sync/wire"
)

// broker is the broker of the demo and the one consumer behind it.
type broker struct {
	*mqtt.Server
	url  string
	left chan struct{} // the agent has disconnected
}

// newBroker starts a broker on a free port of the loopback.
func newBroker() (*broker, error) {
	s := mqtt.New(&mqtt.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, fmt.Errorf("make broker: %w", err)
	}
	left := make(chan struct{}, 1)
	if err := s.AddHook(&goodbye{left: left}, nil); err != nil {
		return nil, fmt.Errorf("make broker: %w", err)
	}
	l := listeners.NewTCP(listeners.Config{ID: "demo", Address: "127.0.0.1:0"})
	if err := s.AddListener(l); err != nil {
		return nil, fmt.Errorf("make broker: %w", err)
	}
	if err := s.Serve(); err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	return &broker{s, "mqtt://" + l.Address(), left}, nil
}

// quiet waits a moment until the broker has taken note of the agent's good-bye:
// closed before that, it would announce a client that left in good order as lost.
func (b *broker) quiet() {
	select {
	case <-b.left:
	case <-time.After(time.Second):
	}
}

// goodbye notes that a client has left.
type goodbye struct {
	mqtt.HookBase
	left chan struct{} // has room for one
}

func (*goodbye) Provides(hook byte) bool { return hook == mqtt.OnDisconnect }

func (g *goodbye) OnDisconnect(*mqtt.Client, error, bool) {
	select {
	case g.left <- struct{}{}:
	default:
	}
}

// watch prints what reaches the broker. It drops duplicates by epoch and
// sequence, as every consumer must.
func (b *broker) watch(cfg config.Config, p *printer) error {
	h := wire.Hall{Area: cfg.Hall.Area, ID: cfg.Hall.ID}
	seen := map[string]string{} // epoch -> last sequence
	return b.Subscribe(h.Prefix()+"#", 1, func(_ *mqtt.Client, _ packets.Subscription, pk packets.Packet) {
		if len(pk.Payload) == 0 || strings.HasPrefix(pk.TopicName, h.Echo("")) {
			return // a retained topic was cleared, or the agent heard itself
		}
		events, err := wire.Decode(pk.Payload)
		if err != nil {
			p.say("broker", "%s: %v", pk.TopicName, err)
			return
		}
		for _, e := range events {
			if e.Stream != "" {
				if e.Sequence <= seen[e.Epoch] {
					continue
				}
				seen[e.Epoch] = e.Sequence
			}
			if text := describe(e); text != "" {
				p.say("broker", "%s", text)
			}
		}
	})
}

// describe tells an event in one line.
func describe(e wire.Event) string {
	switch e.Type {
	case wire.TypeVisit:
		var v wire.Visit
		if json.Unmarshal(e.Data, &v) != nil {
			return "a visit that cannot be read"
		}
		return fmt.Sprintf("door %s  in %d  out %d  (%s)", v.Door, v.In, v.Out, v.Device)
	case wire.TypeOccupancy:
		var o wire.Occupancy
		if json.Unmarshal(e.Data, &o) != nil {
			return "an occupancy that cannot be read"
		}
		if o.People == nil {
			return fmt.Sprintf("occupancy is not known (%s)", o.Reason)
		}
		return fmt.Sprintf("occupancy about %d (%d to %d), %s", *o.People, *o.Low, *o.High, *o.Level)
	case wire.TypeStatus:
		var s wire.Status
		if json.Unmarshal(e.Data, &s) != nil {
			return "a status that cannot be read"
		}
		return fmt.Sprintf("agent is %s, session %s %s", s.State, s.Session, strings.Join(s.Reasons, ", "))
	case wire.TypeDevice:
		var d wire.Device
		if json.Unmarshal(e.Data, &d) != nil {
			return "a device that cannot be read"
		}
		return strings.TrimSpace(fmt.Sprintf("%s is %s %s", path.Base(e.Source), d.State, d.Code))
	case wire.TypeAlarm:
		var a wire.Alarm
		if json.Unmarshal(e.Data, &a) != nil {
			return "an alarm that cannot be read"
		}
		return fmt.Sprintf("alarm: %s (active: %t)", a.Text, a.Active)
	}
	return ""
}
