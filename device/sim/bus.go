package sim

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
)

// OnBus is a device that shares a serial line with others, whatever they speak.
type OnBus interface {
	// find takes the first whole request to this device out of what has come, and
	// gives what is left behind it; nil if there is none yet.
	find(come []byte) (request, rest []byte)

	// reply answers a request, nil with silence.
	reply(request []byte) []byte

	// pace is the rate of its bytes, 0 for none.
	pace() int
}

// framePause ends a frame that did not become whole.
const framePause = 20 * time.Millisecond

// ServeBus is a serial line with these devices on it, of one kind or of several:
// each hears all that goes over the line, the answers of the others too, and
// finds in it what is meant for itself. It answers until rw fails or ctx ends,
// and closes rw at the end.
func ServeBus(ctx context.Context, rw io.ReadWriteCloser, devices ...OnBus) error {
	defer rw.Close()
	defer context.AfterFunc(ctx, func() { rw.Close() })()
	come := make([][]byte, len(devices))
	var last time.Time
	buf := make([]byte, 256)
	for {
		n, err := rw.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("read request: %w", err)
		}
		if time.Since(last) > framePause {
			clear(come)
		}
		last = time.Now()
		for i := range come {
			come[i] = append(come[i], buf[:n]...)
		}
		for i, d := range devices {
			for {
				var request []byte
				if request, come[i] = d.find(come[i]); request == nil {
					break
				}
				answer, err := answerOnBus(ctx, rw, d, request, last)
				if err != nil {
					return err
				}
				last = time.Now()
				for j := range come {
					if j != i {
						come[j] = append(come[j], answer...)
					}
				}
			}
		}
	}
}

// answerOnBus sends the answer of one device at its pace.
func answerOnBus(ctx context.Context, w io.Writer, d OnBus, request []byte, heard time.Time) ([]byte, error) {
	answer := d.reply(request)
	if answer == nil {
		return nil, nil
	}
	if err := device.Pause(ctx, time.Until(heard.Add(lineTime(len(request), d.pace())))); err != nil {
		return nil, err
	}
	if _, err := sendPaced(ctx, w, answer, d.pace(), time.Now()); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("write answer: %w", err)
	}
	return answer, nil
}

// ServeTCP serves every connection that comes to ln until ctx ends or ln fails. It
// closes ln. How one connection ended is no trouble of the device.
func ServeTCP(ctx context.Context, ln net.Listener, serve func(context.Context, io.ReadWriteCloser) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("accept: %w", err)
		}
		conns.Go(func() { serve(ctx, conn) })
	}
}
