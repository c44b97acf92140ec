package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
)

const (
	often  = 2 * time.Second // what a device says every few minutes, at the demo's pace
	secret = "demo-demo-demo-demo"
)

// addSpeakers makes the devices that come to a listening line, and those that are
// asked over HTTP; their settings get the files and the pace of the demo.
func (h *hall) addSpeakers(line config.Line, all []config.Counter) error {
	for _, c := range all {
		if c.Line != line.ID {
			continue
		}
		var err error
		switch s := c.Settings.(type) {
		case *counter.IR:
			err = h.addInfrared(line, s)
		case *counter.CameraSettings:
			if line.URL.Listens() {
				err = h.addPushing(line, c.ID, s)
			} else {
				err = h.addAsked(line, c.ID, s)
			}
		default:
			err = fmt.Errorf("counter %q of the sample configuration has no simulated device", c.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *hall) addInfrared(line config.Line, s *counter.IR) error {
	at, err := h.free(line)
	if err != nil {
		return err
	}
	u := sim.NewIRUnit(sim.IROptions{Dialect: "fa", Serial: s.Serial, Period: often})
	h.counters = append(h.counters, u)
	h.serve = append(h.serve, func(ctx context.Context) error {
		return u.Run(ctx, func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", at)
		})
	})
	return nil
}

func (h *hall) addPushing(line config.Line, id string, s *counter.CameraSettings) error {
	at, err := h.free(line)
	if err != nil {
		return err
	}
	if s.SecretFile, err = h.file(id); err != nil {
		return err
	}
	k := sim.NewHikvision(sim.HikvisionOptions{URL: "http://" + at + "/" + secret, Heartbeat: often})
	h.counters = append(h.counters, k)
	h.serve = append(h.serve, func(ctx context.Context) error { return k.Run(ctx, nil) })
	return nil
}

func (h *hall) addAsked(line config.Line, id string, s *counter.CameraSettings) error {
	l, err := h.listen(line)
	if err != nil {
		return err
	}
	h.urls[line.ID] = device.SchemeHTTP + "://" + l.Addr().String()
	if s.PasswordFile, err = h.file(id); err != nil {
		return err
	}
	s.Poll = time.Second
	k := sim.NewDahua(sim.DahuaOptions{User: s.Username, Password: secret})
	h.counters = append(h.counters, k)
	h.serve = append(h.serve, func(ctx context.Context) error { return k.Serve(ctx, l) })
	return nil
}

// free finds an address at which the agent can listen for the line, once.
func (h *hall) free(line config.Line) (at string, err error) {
	if at, found := strings.CutPrefix(h.urls[line.ID], line.URL.Scheme+"://"); found {
		return at, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port for line %q: %w", line.ID, err)
	}
	at = l.Addr().String()
	h.urls[line.ID] = line.URL.Scheme + "://" + at
	return at, l.Close()
}

// file holds the secret of a device.
func (h *hall) file(id string) (name string, err error) {
	name = filepath.Join(h.dir, id+".secret")
	if err := os.WriteFile(name, []byte(secret), 0o600); err != nil {
		return "", fmt.Errorf("write secret of %q: %w", id, err)
	}
	return name, nil
}
