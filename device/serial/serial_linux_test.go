package serial

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device"
)

func code(err error) string {
	c, _ := device.Cause(err)
	return c
}

func TestReadWrite(t *testing.T) {
	c := newCable(t)
	conn := c.dial()
	every := make([]byte, 256) // raw: no byte means anything to the tty
	for i := range every {
		every[i] = byte(i)
	}
	got := make([]byte, len(every))
	if _, err := conn.Write(every); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c.device, got); err != nil || !bytes.Equal(got, every) {
		t.Errorf("to the device: %x, %v", got, err)
	}
	clear(got)
	if _, err := c.device.Write(every); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, every) {
		t.Errorf("from the device: %x, %v", got, err)
	}
}

func TestReadDeadline(t *testing.T) {
	conn := newCable(t).dial()
	start := time.Now()
	conn.SetReadDeadline(start.Add(30 * time.Millisecond))
	n, err := conn.Read(make([]byte, 10))
	if took := time.Since(start); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || took < 30*time.Millisecond || took > time.Second {
		t.Errorf("Read = %d, %v after %v", n, err, took)
	}
}

// A device that takes nothing: the tty's buffers fill and the write stands.
func TestBlockedWrite(t *testing.T) {
	c := newCable(t)
	goroutines := runtime.NumGoroutine()
	conn := c.dial()
	much := make([]byte, 1<<20)
	conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	start := time.Now()
	n, err := conn.Write(much)
	if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || n == len(much) || took > 2*time.Second {
		t.Fatalf("Write = %d, %v after %v", n, err, took)
	}
	conn.SetWriteDeadline(time.Time{})
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Write(much)
		failed <- err
	}()
	select {
	case err := <-failed:
		t.Fatalf("a write nobody takes ended with %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; code(err) != "closed" {
		t.Errorf("Close ended the write with %v", err)
	}
	// The last one may have said that it ended and not be gone yet; a leak leaves 50.
	if n := runtime.NumGoroutine(); n > goroutines+1 {
		t.Errorf("%d goroutines before, %d after", goroutines, n)
	}
}

func TestCloseEndsRead(t *testing.T) {
	conn := newCable(t).dial()
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 10))
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Fatalf("a read of nothing ended with %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	start := time.Now()
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; code(err) != "closed" {
		t.Errorf("Close ended the read with %v", err)
	}
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("closing took %v", took)
	}
	if err := conn.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if err := device.Drain(conn); code(err) != "closed" {
		t.Errorf("Drain of a closed line: %v", err)
	}
}

func TestDrain(t *testing.T) {
	c := newCable(t)
	conn := c.dial()
	one := make([]byte, 1)
	c.device.Write([]byte("late answer"))
	if _, err := io.ReadFull(conn, one); err != nil {
		t.Fatal(err)
	}
	if err := device.Drain(conn); err != nil {
		t.Fatal(err)
	}
	c.device.Write([]byte("!"))
	if _, err := io.ReadFull(conn, one); err != nil || one[0] != '!' {
		t.Errorf("after Drain: %q, %v", one, err)
	}
}

func TestOpenAndCloseLeavesNothing(t *testing.T) {
	c := newCable(t)
	cycle := func() {
		conn := c.dial()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			conn.Read(make([]byte, 1))
		}()
		conn.Write([]byte("x"))
		conn.Close()
		<-ended
	}
	cycle()
	fds, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 50 {
		cycle()
	}
	if n := openFiles(t); n != fds {
		t.Errorf("%d descriptors before, %d after", fds, n)
	}
	// The last one may have said that it ended and not be gone yet; a leak leaves 50.
	if n := runtime.NumGoroutine(); n > goroutines+1 {
		t.Errorf("%d goroutines before, %d after", goroutines, n)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestUnplug(t *testing.T) {
	c := newCable(t)
	conn := c.dial()
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		ended <- err
	}()
	c.unplug()
	if err := <-ended; code(err) != "unplugged" {
		t.Errorf("unplugged while reading: %v is %q", err, code(err))
	}
	if _, err := conn.Write([]byte("x")); code(err) != "unplugged" {
		t.Errorf("write to an unplugged line: %v is %q", err, code(err))
	}
	if err := device.Drain(conn); code(err) != "unplugged" {
		t.Errorf("Drain of an unplugged line: %v is %q", err, code(err))
	}
	conn.Close()
	if _, err := Dial(c.address())(t.Context()); code(err) != "missing" {
		t.Errorf("dialling an unplugged line: %v is %q", err, code(err))
	}
}

func TestReplugUnderLink(t *testing.T) {
	c := newCable(t)
	got := make(chan byte)
	use := func(ctx context.Context, conn device.Conn, heard func()) error {
		b := make([]byte, 1)
		for {
			if _, err := conn.Read(b); err != nil {
				return err
			}
			heard()
			got <- b[0]
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	link := device.NewLink("window-05", Dial(c.address()), use, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- link.Run(ctx) }()
	c.device.Write([]byte("a"))
	if b := <-got; b != 'a' {
		t.Fatalf("got %q", b)
	}
	for range 3 {
		c.unplug()
		wait(t, 3*time.Second, func() bool { return link.Status().State == device.Waiting && link.Status().Code == "missing" })
		c.plug()
		start := time.Now()
		c.device.Write([]byte("b"))
		if b := <-got; b != 'b' {
			t.Fatalf("got %q", b)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("usable %v after it was plugged in", took)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func wait(t *testing.T, limit time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("not within " + limit.String())
		case <-tick.C:
		}
	}
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "missing",
		file:                       "not_serial",
	} {
		a, err := device.ParseAddress("serial://" + path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Dial(a)(t.Context())
		if code(err) != want || !strings.Contains(err.Error(), path) {
			t.Errorf("dial %s: %v is %q, want %q", path, err, code(err), want)
		}
	}
	if _, err := Dial(device.Address{Scheme: device.SchemeTCP})(t.Context()); err == nil {
		t.Error("a tcp address was opened as a port")
	}
}

// The modem lines of the address are set where the port has some.
func TestModemLinesOff(t *testing.T) {
	c := newCable(t)
	a := c.address()
	a.DTR, a.RTS = false, false
	conn, err := Dial(a)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

const openerPath = "HALLAGENT_TEST_OPEN"

func TestSecondOpenerIsTold(t *testing.T) {
	c := newCable(t)
	conn := c.dial()
	if _, err := Dial(c.address())(t.Context()); code(err) != "busy" {
		t.Errorf("second opener in the same process: %v is %q", err, code(err))
	}
	opener := exec.Command(os.Args[0], "-test.run=^TestOpener$")
	opener.Env = append(os.Environ(), openerPath+"="+c.name)
	out, err := opener.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "code=busy") {
		t.Errorf("second opener in another process: %v\n%s", err, out)
	}
	conn.Close()
	again, err := Dial(c.address())(t.Context())
	if err != nil {
		t.Fatalf("after the first let go: %v", err)
	}
	again.Close()
}

// TestOpener is the other process of TestSecondOpenerIsTold.
func TestOpener(t *testing.T) {
	path := os.Getenv(openerPath)
	if path == "" {
		t.Skip("runs as a child of TestSecondOpenerIsTold")
	}
	a, err := device.ParseAddress("serial://" + path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Dial(a)(t.Context())
	os.Stdout.WriteString("code=" + code(err) + "\n")
}
