package counter_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/serial"
	"github.com/hallagent/hallagent/device/sim"
)

// slave is a running Modbus server made of libmodbus: other people's code, in
// another language.
type slave struct {
	port int
	in   io.Writer

	mu        sync.Mutex
	functions map[string]int // requests by function
}

// startSlave compiles the server and runs it for as long as the test lives.
func startSlave(t *testing.T, args ...string) *slave {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("pseudo terminals: linux only")
	}
	missing := func(what string, err error) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s: %v", what, err)
		}
		t.Skipf("%s: %v", what, err)
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		missing("gcc is not installed", err)
	}
	if _, err := os.Stat("/usr/include/modbus/modbus.h"); err != nil {
		missing("libmodbus-dev is not installed", err)
	}
	program := filepath.Join(t.TempDir(), "slave")
	if out, err := exec.Command("gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, filepath.Join("testdata", "slave.c"), "-lmodbus").CombinedOutput(); err != nil {
		t.Fatalf("compile slave: %v\n%s", err, out)
	}
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &slave{in: in, functions: map[string]int{}}
	said := bufio.NewScanner(out)
	if !said.Scan() {
		t.Fatalf("slave ended at once: %v", cmd.Wait())
	}
	if _, err := fmt.Sscanf(said.Text(), "ready %d", &s.port); err != nil {
		t.Fatalf("slave says %q", said.Text())
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for said.Scan() {
			s.mu.Lock()
			s.functions[strings.TrimPrefix(said.Text(), "function ")]++
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		in.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("slave: %v", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for f, n := range s.functions {
			if f != "3" && f != "4" {
				t.Errorf("asked %d times for function %s", n, f)
			}
		}
		if s.functions["3"] == 0 || s.functions["4"] == 0 {
			t.Errorf("asked for functions %v", s.functions)
		}
	})
	return s
}

// set writes totals into registers from an address on, the word of lower value
// first.
func (s *slave) set(t *testing.T, address, words int, total uint64) {
	t.Helper()
	text := ""
	for i := range words {
		text += fmt.Sprintf("%d %d\n", address+i, uint16(total>>(16*i)))
	}
	if _, err := io.WriteString(s.in, text); err != nil {
		t.Fatal(err)
	}
}

// readSlave goes by the server's totals at 0x44 and 0x46 over a rollover, with in
// as holding and out as input registers.
func readSlave(t *testing.T, s *slave, dial device.Dial, line device.Address) {
	s.set(t, 0x44, 2, 1<<32-3)
	s.set(t, 0x46, 2, 1200)
	var d store
	wrong := counter.Config{ID: "wrong", Kind: "modbus", Door: "D2", Settings: &counter.Modbus{
		Station: 17, Map: counter.RegisterMap{In: &counter.Registers{Function: 3, Address: 1000, Words: 1}},
	}}
	b := keep(t, dial, line, &d, counter.Config{ID: "c", Kind: "modbus", Door: "D1", Settings: &counter.Modbus{
		Station: 17, Map: counter.RegisterMap{
			In:  &counter.Registers{Function: 3, Address: 0x44, Words: 2, Order: "low"},
			Out: &counter.Registers{Function: 4, Address: 0x46, Words: 2, Order: "low"},
		}}}, wrong)
	eventually(t, "a reading", func() bool {
		st := b.Status()[0]
		return st.State == device.Online && st.In == 1<<32-3 && st.Out == 1200
	})
	s.set(t, 0x44, 2, 4)
	s.set(t, 0x46, 2, 1203)
	eventually(t, "the passes", func() bool { in, out := d.sum("D1"); return in == 7 && out == 3 })
	eventually(t, "the refusal", func() bool { return b.Status()[1].Code == "exception" })
	if st := b.Status()[0]; st.Rollovers != 1 || st.Errors != 0 {
		t.Errorf("status %+v", st)
	}
}

func TestForeignSlaveOverTCP(t *testing.T) {
	s := startSlave(t, "tcp", "17")
	line := device.Address{Scheme: device.SchemeTCP, Host: fmt.Sprintf("127.0.0.1:%d", s.port)}
	readSlave(t, s, device.TCP(line), line)
}

// Two terminals are crossed, since each side wants one of its own.
func TestForeignSlaveOverATerminal(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("pseudo terminals: linux only")
	}
	dir := t.TempDir()
	var ends [2]*sim.PTY
	for i := range ends {
		pty, err := sim.OpenPTY(filepath.Join(dir, fmt.Sprint("tty", i)))
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = pty
	}
	run(t, func(ctx context.Context) error {
		copied := make(chan error, 2)
		go func() { _, err := io.Copy(ends[0], ends[1]); copied <- err }()
		go func() { _, err := io.Copy(ends[1], ends[0]); copied <- err }()
		<-ctx.Done()
		err := errors.Join(ends[0].Close(), ends[1].Close())
		<-copied
		<-copied
		return errors.Join(ctx.Err(), err)
	})
	s := startSlave(t, "rtu", ends[0].Name, "17")
	line, err := device.ParseAddress("serial://" + ends[1].Name + "?baud=115200")
	if err != nil {
		t.Fatal(err)
	}
	readSlave(t, s, serial.Dial(line), line)
}
