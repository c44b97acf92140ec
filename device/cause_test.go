package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCause(t *testing.T) {
	_, missing := os.Open(filepath.Join(t.TempDir(), "ttyUSB0"))
	tests := []struct {
		err        error
		code, hint string
	}{
		{nil, "", ""},
		{missing, "missing", "plug"},
		{&fs.PathError{Op: "open", Path: "/dev/x", Err: syscall.EACCES}, "permission", "dialout"},
		{&net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, "busy", "listens"},
		{&net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}, "no_address", "its own"},
		{fmt.Errorf("lock /dev/x: %w", syscall.EBUSY), "busy", "vendor"},
		{fmt.Errorf("read /dev/x: %w", syscall.ENODEV), "unplugged", "plug"},
		{syscall.EIO, "unplugged", "plug"},
		{syscall.ENOTTY, "not_serial", "not a serial port"},
		{fmt.Errorf("ask status: %w", ErrSilent), "silent", "baud"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "refused", "port"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, "unreachable", "cable"},
		{&net.DNSError{Err: "no such host", Name: "x.example", IsNotFound: true}, "unreachable", "DNS"},
		{&net.DNSError{Err: "timeout", Name: "x.example", IsTimeout: true}, "timeout", ""},
		{os.ErrDeadlineExceeded, "timeout", ""},
		{context.DeadlineExceeded, "timeout", ""},
		{io.EOF, "closed", "other side"},
		{net.ErrClosed, "closed", ""},
		{errors.New("checksum"), "io", ""},
	}
	for _, tt := range tests {
		code, hint := Cause(tt.err)
		if code != tt.code || !strings.Contains(hint, tt.hint) {
			t.Errorf("Cause(%v) = %q, %q; want %q and a hint with %q", tt.err, code, hint, tt.code, tt.hint)
		}
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dial := TCP(Address{Scheme: SchemeTCP, Host: l.Addr().String()})
	c, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Write([]byte("late answer")); err != nil {
		t.Fatal(err)
	}
	// The bytes are on their way; wait for the first so that Drain finds the rest.
	one := make([]byte, 1)
	if _, err := io.ReadFull(c, one); err != nil {
		t.Fatal(err)
	}
	if err := Drain(c); err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, one); err != nil || one[0] != '!' {
		t.Fatalf("after Drain: %q, %v", one, err)
	}
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := c.Read(one); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past the deadline: %v", err)
	}
	peer.Close()
	c.SetReadDeadline(time.Time{})
	_, err = c.Read(one)
	if code, _ := Cause(err); code != "closed" {
		t.Errorf("peer closed: %v is %q", err, code)
	}

	l.Close()
	_, err = dial(t.Context())
	if code, _ := Cause(err); code != "refused" {
		t.Errorf("nobody listens: %v is %q", err, code)
	}
}

// babble never stops talking.
type babble struct{ net.Conn }

func (babble) Read(p []byte) (int, error)      { return len(p), nil }
func (babble) SetReadDeadline(time.Time) error { return nil }

func TestDrainEnds(t *testing.T) {
	start := time.Now()
	if err := Drain(babble{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("draining a line that never stops took %v", took)
	}
}
