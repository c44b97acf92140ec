//go:build linux

package sim

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func openPTY(t *testing.T) *PTY {
	t.Helper()
	p, err := OpenPTY(filepath.Join(t.TempDir(), "ttyDEV"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func openHost(t *testing.T, p *PTY) *os.File {
	t.Helper()
	f, err := os.OpenFile(p.Name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	f.SetDeadline(time.Now().Add(10 * time.Second))
	return f
}

func TestPTYCarriesEveryByteBothWays(t *testing.T) {
	p := openPTY(t)
	host := openHost(t, p)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	got := make([]byte, 256)
	for _, way := range []struct {
		name     string
		from, to io.ReadWriter
	}{{"to the host", p, host}, {"to the device", host, p}} {
		if _, err := way.from.Write(all); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way.to, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, all) {
			t.Errorf("%s: % X", way.name, got)
		}
	}
}

func TestPTYUnplugAndPlug(t *testing.T) {
	p := openPTY(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- NewReader(ReaderOptions{}).Serve(ctx, p) }()
	for range 3 {
		host := openHost(t, p)
		steps(t, host, askFind, 0x80)
		if err := p.Unplug(); err != nil {
			t.Fatal(err)
		}
		if n, err := host.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
			t.Fatalf("a host on a pulled cable read %d bytes, %v", n, err)
		}
		if _, err := os.Lstat(p.Name); !os.IsNotExist(err) {
			t.Fatalf("the name is still there: %v", err)
		}
		if _, err := p.Write([]byte("nobody")); err != nil {
			t.Fatalf("write to a pulled cable: %v", err)
		}
		if err := p.Plug(); err != nil {
			t.Fatal(err)
		}
	}
	steps(t, openHost(t, p), askFind, 0x80)
	if err := p.Unplug(); err != nil {
		t.Fatal(err)
	}
	cancel() // with the cable out
	if err := <-ended; err != context.Canceled {
		t.Errorf("Serve ended with %v", err)
	}
}

func TestPTYLosesWhatNobodyReads(t *testing.T) {
	p := openPTY(t)
	openHost(t, p)
	if _, err := p.Write(make([]byte, 1<<20)); err != nil {
		t.Errorf("write to a host that does not read: %v", err)
	}
}

func TestPTYDoesNotReplaceAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPTY(name); err == nil {
		t.Error("opened in place of a file")
	}
}
