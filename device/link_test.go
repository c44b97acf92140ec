package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// run starts the link and returns the end of it: stopped, and Run returned.
func run(t *testing.T, l *Link) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	}
}

// pipe dials one end of a net.Pipe and plays echo at the other.
func pipe(context.Context) (Conn, error) {
	near, far := net.Pipe()
	go func() {
		io.Copy(far, far)
		far.Close()
	}()
	return near, nil
}

// echo says one word and demands it back, then reads until the line ends.
func echo(ctx context.Context, c Conn, heard func()) error {
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		return err
	}
	heard()
	_, err := c.Read(make([]byte, 1))
	return err
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestLinkOnlineAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLink("gates", pipe, echo, discard())
		if s := l.Status(); s.State != Waiting || s.Opens != 0 {
			t.Errorf("before Run: %+v", s)
		}
		stop := run(t, l)
		synctest.Wait()
		s := l.Status()
		if s.State != Online || s.Code != "" || s.Opens != 1 || s.BytesIn != 4 || s.BytesOut != 4 {
			t.Errorf("in use: %+v", s)
		}
		stop() // a goroutine left behind would keep the bubble from ending
		if s := l.Status(); s.State != Waiting || s.Code != "closed" {
			t.Errorf("stopped: %+v", s)
		}
	})
}

// TestLinkTakenAndDropped: a device server that is busy with another program
// takes each connection and drops it. That is one trouble, not one for each.
func TestLinkTakenAndDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLink("gates", pipe, func(context.Context, Conn, func()) error {
			time.Sleep(300 * time.Millisecond)
			return io.EOF
		}, discard())
		defer run(t, l)()
		time.Sleep(time.Second)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			if s := l.Status(); s.State != Waiting || s.Code != "closed" || s.Hint == "" {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func TestLinkBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := make(chan time.Time, 2000)
		var ok atomic.Bool
		dial := func(ctx context.Context) (Conn, error) {
			tries <- time.Now()
			if ok.Load() {
				return pipe(ctx)
			}
			return nil, &fs.PathError{Op: "open", Path: "/dev/ttyUSB0", Err: syscall.ENOENT}
		}
		fail := make(chan struct{})
		use := func(ctx context.Context, c Conn, heard func()) error {
			heard()
			<-fail
			return io.EOF
		}
		l := NewLink("window-05", dial, use, discard())
		stop := run(t, l)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := l.Status(); s.State != Waiting || s.Code != "missing" || s.Hint == "" || s.Opens != 0 {
			t.Errorf("away: %+v", s)
		}
		n := len(tries)
		if n < 400 || n > 1200 {
			t.Fatalf("%d tries in 10 min", n)
		}
		var longest time.Duration
		last := <-tries
		for i := 1; i < n; i++ {
			now := <-tries
			if gap := now.Sub(last); i == 1 && gap > firstRetry {
				t.Errorf("first retry after %v", gap)
			}
			longest = max(longest, now.Sub(last))
			last = now
		}
		if longest > lastRetry || longest < lastRetry/2 {
			t.Errorf("longest pause of %d tries: %v", n, longest)
		}

		ok.Store(true)
		back := time.Now()
		for l.Status().State != Online {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(back); took > 3*time.Second {
			t.Errorf("back after %v", took)
		}
		lost := time.Now()
		fail <- struct{}{}
		synctest.Wait()
		if s := l.Status(); s.State != Waiting || s.Code != "closed" || !s.Since.Equal(lost) {
			t.Errorf("lost: %+v", s)
		}
		time.Sleep(firstRetry)
		synctest.Wait()
		if l.Status().State != Online {
			t.Error("the back-off did not start afresh after the line was heard")
		}
		close(fail)
		stop()
	})
}

func TestLinkWedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var there, answers atomic.Bool
		there.Store(true)
		dial := func(ctx context.Context) (Conn, error) {
			if !there.Load() {
				return nil, fs.ErrNotExist
			}
			return pipe(ctx)
		}
		use := func(ctx context.Context, c Conn, heard func()) error {
			if answers.Load() {
				return echo(ctx, c, heard)
			}
			c.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			return fmt.Errorf("ask status: %w", ErrSilent)
		}
		l := NewLink("window-05", dial, use, discard())
		stop := run(t, l)
		time.Sleep(1200 * time.Millisecond)
		first := l.Status()
		if first.State != Wedged || first.Code != "silent" || first.Hint == "" {
			t.Fatalf("silent: %+v", first)
		}
		for range 1000 { // reopened again and again, and always Wedged
			time.Sleep(20 * time.Millisecond)
			if s := l.Status(); s.State != Wedged || s.Since != first.Since {
				t.Fatalf("while silent: %+v", s)
			}
		}
		if l.Status().Opens < 5 {
			t.Errorf("a wedged line was opened %d times in 20 s", l.Status().Opens)
		}
		there.Store(false)
		time.Sleep(4 * time.Second)
		if s := l.Status(); s.State != Waiting || s.Code != "missing" {
			t.Errorf("unplugged: %+v", s)
		}
		there.Store(true)
		answers.Store(true)
		time.Sleep(3 * time.Second)
		if s := l.Status(); s.State != Online || s.Code != "" || s.Err != "" {
			t.Errorf("answers: %+v", s)
		}
		stop()
	})
}

func TestLinkStopEndsDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := func(ctx context.Context) (Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		l := NewLink("gates", dial, echo, discard())
		stop := run(t, l)
		synctest.Wait()
		stop()
	})
}

// closeOrder notes when the line is closed.
type closeOrder struct {
	Conn
	note func(string)
}

func (c closeOrder) Close() error {
	c.note("close")
	return c.Conn.Close()
}

func TestLinkStopOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		dial := func(ctx context.Context) (Conn, error) {
			c, err := pipe(ctx)
			return closeOrder{c, func(s string) { order = append(order, s) }}, err
		}
		use := func(ctx context.Context, c Conn, heard func()) error {
			err := echo(ctx, c, heard)
			time.Sleep(time.Second) // a use that needs its time to end
			order = append(order, "use")
			return err
		}
		l := NewLink("gates", dial, use, discard())
		stop := run(t, l)
		synctest.Wait()
		stop()
		order = append(order, "run")
		if got := strings.Join(order, " "); got != "close use run" {
			t.Errorf("order of stopping: %s", got)
		}
	})
}

func TestLinkPanicPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := false
		dial := func(ctx context.Context) (Conn, error) {
			c, err := pipe(ctx)
			return closeOrder{c, func(string) { closed = true }}, err
		}
		l := NewLink("gates", dial, func(context.Context, Conn, func()) error { panic("bug") }, discard())
		defer func() {
			if p := recover(); p != "bug" || !closed {
				t.Errorf("recovered %v, line closed: %v", p, closed)
			}
		}()
		l.Run(t.Context())
	})
}

func TestLinkLogsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		dial := func(context.Context) (Conn, error) { return nil, fs.ErrNotExist }
		l := NewLink("gates", dial, echo, slog.New(slog.NewTextHandler(&out, nil)))
		stop := run(t, l)
		time.Sleep(10 * time.Minute)
		stop()
		if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "line=gates code=missing") {
			t.Errorf("away for 10 min logged %d lines:\n%s", n, out.String())
		}
	})
	synctest.Test(t, func(t *testing.T) { // a loose contact
		var out bytes.Buffer
		use := func(ctx context.Context, c Conn, heard func()) error {
			heard()
			time.Sleep(time.Second)
			return io.EOF
		}
		l := NewLink("gates", pipe, use, slog.New(slog.NewTextHandler(&out, nil)))
		stop := run(t, l)
		time.Sleep(5 * time.Minute)
		stop()
		if n := strings.Count(out.String(), "\n"); n < 15 || n > 23 || !strings.Contains(out.String(), "repeats=") {
			t.Errorf("a loose contact for 5 min logged %d lines:\n%s", n, out.String())
		}
	})
}
