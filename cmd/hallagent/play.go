package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/device/transcript"
)

type playCommand struct {
	File   string `arg:"" help:"The recording." placeholder:"FILE"`
	PTY    string `help:"Name of the terminal to make." xor:"where" required:"" placeholder:"PATH" name:"pty"`
	TCP    string `help:"Address to listen on, such as 127.0.0.1:4001." xor:"where" required:"" placeholder:"HOST:PORT" name:"tcp"`
	Pace   bool   `help:"Answer as slowly as the device did; --no-pace is as fast as it goes." default:"true" negatable:""`
	Repeat bool   `help:"Begin again at the end, until stopped."`
	Strict bool   `help:"End with the first request that is not the one recorded."`
}

func (playCommand) Help() string {
	return "Answers as the recorded device did, so that the agent or a vendor's tool can talk to it. How often a reader " +
		"is asked before a card comes is chance, so: a request that was recorded further up gets the same answer again, " +
		"at most three times in a row if it also comes further down; one that comes further down only is answered from " +
		"there, and what lies between is left out; one that was never recorded gets no answer. The last two are told, " +
		"with the line of the recording.\n\n" +
		"Example:\n  hallagent play reader.transcript --pty /tmp/reader\n" +
		"  hallagent read --line 'serial:///tmp/reader?baud=115200'"
}

// lastWords is how long the far end may take to fetch the last answer: a
// terminal that is closed takes with it what was not read.
const lastWords = time.Second

func (p playCommand) Run(ctx context.Context, s streams) error {
	bursts, err := p.load()
	if err != nil {
		return err
	}
	line, where, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer line.Close()
	defer context.AfterFunc(ctx, func() { line.Close() })()
	fmt.Fprintf(s.out, "playing %s on %s\n", p.File, where)
	player := transcript.Player{
		Bursts: bursts, Pace: p.Pace, Tolerant: !p.Strict,
		Mismatch: func(err error) { fmt.Fprintln(s.err, err) },
	}
	for {
		err := player.Play(ctx, line)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("play %s: %w", p.File, err)
		}
		fmt.Fprintln(s.err, "已播放完毕 / played to the end")
		if !p.Repeat {
			return device.Pause(ctx, lastWords)
		}
	}
}

// load reads the recording. One in which nothing is asked has no end that a
// repeated play could wait for.
func (p playCommand) load() ([]transcript.Burst, error) {
	file, err := os.Open(p.File)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	bursts, err := transcript.Parse(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p.File, err)
	}
	for _, b := range bursts {
		if b.Direction == transcript.Sent {
			return bursts, nil
		}
	}
	if len(bursts) == 0 || p.Repeat {
		return nil, fmt.Errorf("read %s: it holds no request (a line that begins with >)", p.File)
	}
	return bursts, nil
}

// open makes the line and names it.
func (p playCommand) open(ctx context.Context) (io.ReadWriteCloser, string, error) {
	if p.PTY != "" {
		pty, err := sim.OpenPTY(p.PTY)
		return pty, p.PTY, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", p.TCP)
	if err != nil {
		return nil, "", err
	}
	return &tcpLine{listener: l}, l.Addr().String(), nil
}

// tcpLine is a line that whoever connects is on, one after the other.
type tcpLine struct {
	listener net.Listener

	mu     sync.Mutex
	conn   net.Conn // nil while nobody is connected
	met    bool     // somebody was
	closed bool
}

// Read gives what the far end sends. When it leaves, the next one is waited for.
func (t *tcpLine) Read(b []byte) (int, error) {
	for {
		c, err := t.connected()
		if err != nil {
			return 0, err
		}
		n, err := c.Read(b)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			t.left(c)
		}
	}
}

// Write sends to the far end. It waits for the first one; later it is no error
// that nobody is there, as on a wire.
func (t *tcpLine) Write(b []byte) (int, error) {
	t.mu.Lock()
	gone := t.met && t.conn == nil
	t.mu.Unlock()
	if gone {
		return len(b), nil
	}
	c, err := t.connected()
	if err != nil {
		return 0, err
	}
	if _, err := c.Write(b); err != nil {
		t.left(c)
	}
	return len(b), nil
}

// connected gives the far end, and waits for one.
func (t *tcpLine) connected() (net.Conn, error) {
	t.mu.Lock()
	c := t.conn
	t.mu.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := t.listener.Accept()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	t.conn, t.met = c, true
	return c, nil
}

func (t *tcpLine) left(c net.Conn) {
	c.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == c {
		t.conn = nil
	}
}

// Close ends the line and calls that wait on it.
func (t *tcpLine) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.conn != nil {
		t.conn.Close()
	}
	return t.listener.Close()
}
