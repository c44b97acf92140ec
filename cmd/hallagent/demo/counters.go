package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
)

// addCounters makes the counters of one line.
func (h *hall) addCounters(line config.Line, all []config.Counter) error {
	var devices []sim.OnBus
	var overTCP []*sim.ModbusCounter
	for _, c := range all {
		if c.Line != line.ID {
			continue
		}
		d, err := imitate(line, c)
		if err != nil {
			return err
		}
		h.counters = append(h.counters, d)
		devices = append(devices, d)
		if s, ok := c.Settings.(*counter.Modbus); ok && line.URL.Scheme == device.SchemeTCP && cmp.Or(s.Framing, "tcp") == "tcp" {
			overTCP = append(overTCP, d.(*sim.ModbusCounter))
		}
	}
	if len(devices) == 0 {
		return nil
	}
	serve := func(ctx context.Context, rw io.ReadWriteCloser) error { return sim.ServeBus(ctx, rw, devices...) }
	if line.URL.Scheme == device.SchemeSerial {
		pty, err := h.pty(line)
		if err != nil {
			return err
		}
		h.serve = append(h.serve, func(ctx context.Context) error { return serve(ctx, pty) })
		return nil
	}
	l, err := h.listen(line)
	if err != nil {
		return err
	}
	h.serve = append(h.serve, func(ctx context.Context) error {
		if len(overTCP) > 0 {
			return sim.ServeModbusTCP(ctx, l, overTCP...)
		}
		return sim.ServeTCP(ctx, l, serve)
	})
	return nil
}

// onBus is a counter that is asked.
type onBus interface {
	sim.Counter
	sim.OnBus
}

// imitate makes the device that the settings of a counter are for.
func imitate(line config.Line, c config.Counter) (onBus, error) {
	baud := line.URL.Baud
	start := [2]uint64{rand.Uint64N(50_000), rand.Uint64N(50_000)}
	switch s := c.Settings.(type) {
	case *counter.Modbus:
		return sim.NewModbusCounter(sim.ModbusOptions{
			Station: byte(s.Station), Baud: baud, Start: start,
			In: registers(s.Map.In), Out: registers(s.Map.Out), Level: registers(s.Map.Level),
		}), nil
	case *counter.Gate7F:
		return sim.NewGate(sim.GateOptions{Machine: byte(s.Station), Baud: baud, Start: start}), nil
	case *counter.HPC:
		return sim.NewHPC(sim.HPCOptions{ID: uint16(s.Station), Baud: baud, Start: start}), nil
	case *counter.Text:
		if s.Preset == string(sim.TextTotals) && s.Ask != "" {
			return sim.NewTextCounter(sim.TextOptions{Form: sim.TextTotals, Ask: s.Ask, Baud: baud, Start: start}), nil
		}
	}
	return nil, fmt.Errorf("counter %q of the sample configuration has no simulated device", c.ID)
}

func registers(r *counter.Registers) sim.ModbusRegisters {
	if r == nil {
		return sim.ModbusRegisters{}
	}
	return sim.ModbusRegisters{
		Function: byte(r.Function), Address: uint16(r.Address), Words: r.Words,
		LowFirst: r.Order == "low", Swapped: r.Swap, Bits: r.Bits,
	}
}
