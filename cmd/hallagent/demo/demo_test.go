package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// printed collects what the demo prints.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// TestDemo runs the demo until everything in it has happened once, looks at the
// page, and stops it as Ctrl-C would.
func TestDemo(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("pseudo terminals: linux only")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out printed
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"--listen", address, "--speed", "300"}, &out) }()

	missing := []string{
		"http://" + address, "agent is ready", "rd-05 is online", "gate-2 is online", "occupancy about",
		"window 05  workstation is paired", "window 05  card read", "window 06  card read", "card lifted", "door D1  in", "door D2  in",
	}
	for deadline := time.Now().Add(30 * time.Second); len(missing) > 0; {
		if strings.Contains(out.String(), missing[0]) {
			missing = missing[1:]
			continue
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended by itself: %v\n%s", err, out.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing says %q:\n%s", missing[0], out.String())
		}
	}
	page, err := http.Get("http://" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	if body, err := io.ReadAll(page.Body); err != nil || !strings.Contains(string(body), "<html") {
		t.Errorf("the page is %q, %v", body, err)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not stop")
	}
	if text := out.String(); !strings.Contains(text, "agent is stopping") || !strings.HasSuffix(strings.TrimSpace(text), "stopped") {
		t.Errorf("its last words are %q", text[max(0, len(text)-200):])
	}
}

func TestDemoRefusesASpeedNobodyBelieves(t *testing.T) {
	if err := run(t.Context(), []string{"--speed", "1000"}, io.Discard); err == nil {
		t.Error("a speed of 1000 is taken")
	}
}
