package sim

import (
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
	r := NewReader(ReaderOptions{Baud: baud})
	go r.Serve(context.Background(), p) // ends with the terminal
	requests := [][]byte{askFind, askSelect, askRead}
	sizes := []int{15, 19, 1295}
	var over [4][]time.Duration // of each exchange, and of all
	buf := make([]byte, 2000)
	for range 15 {
		r.Lay(Cards()[0])
		begin := time.Now()
		bytes := 0
		for i, req := range requests {
			start := time.Now()
			if _, err := host.Write(req); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(host, buf[:sizes[i]]); err != nil {
				t.Fatal(err)
			}
			n := len(req) + sizes[i]
			bytes += n
			over[i] = append(over[i], time.Since(start)-lineTime(n, baud))
		}
		over[3] = append(over[3], time.Since(begin)-lineTime(bytes, baud))
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
