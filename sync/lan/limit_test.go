package lan

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/sync/wire"
)

// listen serves on a free port, with the limits, until the test ends.
func listen(t *testing.T, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, l)
	return l.Addr().String()
}

func run(t *testing.T, s *Server, l net.Listener) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.accept(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// open makes a connection and says whether it is served; it stays open.
func open(t *testing.T, address string) (net.Conn, bool) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	return c, err == nil && res.StatusCode == 200
}

// TestConnections opens one more than may be: it is closed at once, and taken
// when another has gone.
func TestConnections(t *testing.T) {
	for _, c := range []struct {
		reason          string
		all, perAddress int
	}{{"connections", 3, 9}, {"address", 9, 3}} {
		s := newServer(t)
		s.limits.connections, s.limits.perAddress = c.all, c.perAddress
		address := listen(t, s)
		var first net.Conn
		for i := range 3 {
			conn, ok := open(t, address)
			if !ok {
				t.Fatalf("%s: connection %d is refused", c.reason, i)
			}
			first = conn
		}
		for i := range 2 {
			if _, ok := open(t, address); ok {
				t.Errorf("%s: excess connection %d is served", c.reason, i)
			}
		}
		if n := s.Refused(); n[c.reason] != 2 || n["connections"]+n["address"]+n["streams"] != 2 {
			t.Errorf("%s: refused %v", c.reason, n)
		}
		first.Close()
		until(t, "there is room again", func() bool { _, ok := open(t, address); return ok })
	}
}

// TestStreams opens more streams than one address may have; a window's stream
// has a token and is not counted.
func TestStreams(t *testing.T) {
	s := newServer(t)
	s.limits.streams = 2
	base := serve(t, s)
	token := pair(t, s, "05")
	for range 2 {
		if _, status := stream(t, base, "/v1/occupancy/stream", ""); status != 200 {
			t.Fatal(status)
		}
	}
	res, err := http.Get(base + "/v1/occupancy/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 429 || !strings.Contains(string(body), `"code":"too_many"`) {
		t.Errorf("the third stream gives %d %s %v", res.StatusCode, body, err)
	}
	if _, status := stream(t, base, "/v1/windows/05/stream", token); status != 200 {
		t.Errorf("a stream with a token gives %d", status)
	}
	if n := s.Refused(); n["streams"] != 1 {
		t.Errorf("refused %v", n)
	}
	if s.limits.stream("192.0.2.7") == nil {
		t.Error("another address gets none")
	}
}

// TestStreamsLeave closes a stream and opens the next.
func TestStreamsLeave(t *testing.T) {
	l := newLimits()
	l.streams = 1
	leave := l.stream("a")
	if l.stream("a") != nil {
		t.Error("there are two")
	}
	leave()
	if l.stream("a") == nil || len(l.byFlow) != 1 {
		t.Errorf("no room after one has gone: %v", l.byFlow)
	}
}

// pipes is a listener of connections in memory, and of errors.
type pipes chan any

func (p pipes) Accept() (net.Conn, error) {
	switch v := (<-p).(type) {
	case net.Conn:
		return v, nil
	case error:
		return nil, v
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestWriteTimeout: who does not take an answer is let go after 30 s, but a
// stream goes on for as long as it is read.
func TestWriteTimeout(t *testing.T) {
	s := newServer(t)
	synctest.Test(t, func(t *testing.T) {
		l := make(pipes)
		run(t, s, l)
		dial := func(path string) net.Conn {
			ours, theirs := net.Pipe()
			l <- theirs
			io.WriteString(ours, "GET "+path+" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
			return ours
		}
		deaf, start := dial("/page/hall.js"), time.Now()
		synctest.Wait()
		time.Sleep(31 * time.Second) // of the bubble: its clock moves when all wait
		synctest.Wait()
		if rest, err := io.ReadAll(deaf); len(rest) > 0 || err != nil {
			t.Errorf("after %v there are %d bytes and %v", time.Since(start), len(rest), err)
		}

		live := dial("/v1/occupancy/stream")
		defer live.Close()
		lines, beats := bufio.NewScanner(live), 0
		for beats < 40 && lines.Scan() {
			if strings.HasPrefix(lines.Text(), ": heartbeat") {
				beats++
			}
		}
		if beats != 40 {
			t.Fatalf("the stream ended after %d heartbeats: %v", beats, lines.Err())
		}
		people := 77
		s.ShowOccupancy(wire.Occupancy{People: &people})
		for lines.Scan() && !strings.Contains(lines.Text(), `"people":77`) {
		}
		if !strings.Contains(lines.Text(), `"people":77`) {
			t.Errorf("after ten minutes no event comes: %v", lines.Err())
		}
	})
}

// TestAcceptErrors fails for a minute: the log says so three times, with a count.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		l := make(pipes, 1)
		limited := limitedListener{Listener: l, limits: newLimits(), log: slog.New(slog.NewTextHandler(&log, nil))}
		for range 61 {
			l <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
			if _, err := limited.Accept(); !errors.Is(err, syscall.EMFILE) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		l.Close()
		limited.Accept()
		text := log.String()
		if strings.Count(text, "level=WARN") != 3 || strings.Count(text, "count=30 ") != 2 || strings.Count(text, "count=1 ") != 1 {
			t.Errorf("the log is\n%s", text)
		}
	})
}
