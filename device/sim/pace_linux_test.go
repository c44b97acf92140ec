package sim

import (
	"bytes"
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// setBaud sets the host's rate.
func setBaud(t testing.TB, p *PTY, code uint32) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	err := control(p.held, func(fd int) error {
		m, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		m.Cflag = m.Cflag&^unix.CBAUD | code
		return unix.IoctlSetTermios(fd, unix.TCSETS, m)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReaderTakesTheLinesTime reads a card as a host without any delay of its
// own would. What it takes beyond the line's time is ours, or the machine's: the
// best of several shows ours.
func TestReaderTakesTheLinesTime(t *testing.T) {
	const baud = 115200
	p := openPTY(t)
	host := openHost(t, p)
	setBaud(t, p, unix.B115200)
	r := NewReader(ReaderOptions{Baud: baud, Exact: true})
	go r.Serve(context.Background(), p) // ends with the terminal
	requests := [][]byte{askFind, askSelect, askRead}
	sizes := []int{15, 19, 1295}
	var over [4][]time.Duration // of each exchange, and of all
	buf := make([]byte, 2000)
	for range 15 {
		r.Lay(Cards()[0])
		begin := time.Now()
		size := 0
		for i, req := range requests {
			start := time.Now()
			if _, err := host.Write(req); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(host, buf[:sizes[i]]); err != nil {
				t.Fatal(err)
			}
			n := len(req) + sizes[i]
			size += n
			over[i] = append(over[i], time.Since(start)-lineTime(n, baud))
		}
		over[3] = append(over[3], time.Since(begin)-lineTime(size, baud))
	}
	for i, o := range over {
		slices.Sort(o)
		t.Logf("%-8s over the line's time: best %v, median %v, worst %v", []string{"find", "select", "read", "together"}[i], o[0], o[len(o)/2], o[len(o)-1])
	}
	whole := lineTime(1359, baud)
	if best := over[3][0]; best < 0 || best > whole/40 {
		t.Errorf("a card took at best %v more than the %v of its line", best, whole)
	}
}

func TestReaderAtAnotherRateThanItsHost(t *testing.T) {
	p := openPTY(t)
	host := openHost(t, p)
	r := NewReader(ReaderOptions{Baud: 19200})
	go r.Serve(context.Background(), p) // ends with the terminal
	codes := map[int]uint32{9600: unix.B9600, 19200: unix.B19200, 38400: unix.B38400, 57600: unix.B57600, 115200: unix.B115200}
	understood := func(baud int) bool {
		t.Helper()
		setBaud(t, p, codes[baud])
		if p.HostBaud() != baud {
			t.Fatalf("the host has set %d, the reader sees %d", baud, p.HostBaud())
		}
		if _, err := host.Write(askStatus); err != nil {
			t.Fatal(err)
		}
		host.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		got := make([]byte, len(sayDone))
		_, err := io.ReadFull(host, got)
		return err == nil && bytes.Equal(got, sayDone)
	}
	only := func(right int) {
		t.Helper()
		for _, baud := range bauds {
			if got := understood(baud); got != (baud == right) {
				t.Errorf("the reader at %d, the host at %d: understood: %v", right, baud, got)
			}
		}
	}
	only(19200)
	setBaud(t, p, unix.B19200)
	host.SetReadDeadline(time.Now().Add(10 * time.Second))
	steps(t, host, []byte("\xAA\xAA\xAA\x96\x69\x00\x03\x60\x00\x63"), 0x90) // at the old rate
	only(115200)
	r.SetBaud(9600)
	only(9600)
}

func TestReaderAnswersRubbishToAHostThatChangesItsRate(t *testing.T) {
	p := openPTY(t)
	host := openHost(t, p)
	r := NewReader(ReaderOptions{Baud: 9600})
	r.SetMood(Mood{Delay: 50 * time.Millisecond})
	go r.Serve(context.Background(), p) // ends with the terminal
	setBaud(t, p, unix.B9600)
	if _, err := host.Write(askFind); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { setBaud(t, p, unix.B115200) })
	host.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	got, err := io.ReadAll(host)
	if len(got) == 0 || bytes.Contains(got, preamble) {
		t.Errorf("it hears % X, %v", got, err)
	}
}
