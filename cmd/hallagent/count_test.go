package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestCount watches a simulated counter of every kind at the command line, each as
// an installer would, and sees the people who pass.
func TestCount(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("pseudo terminals: linux only")
	}
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdefghij"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, kind string
		sim        []string // flags of the simulator; PORT is a free one
		line, with string
		turned     bool // in is seen as out
	}{
		{"modbus", "modbus", []string{"--tcp", "PORT"}, "tcp://PORT", "station: 1, " + registerMap, false},
		{"modbus on a terminal, turned", "modbus", []string{"--pty", "TTY"}, "serial://TTY?baud=9600", "station: 1, swap: true, " + registerMap, true},
		{"gate", "gate-7e7f", []string{"--kind", "gate-7e7f", "--pty", "TTY", "--station", "2"}, "serial://TTY?baud=9600", "station: 2", false},
		{"hpc", "hpc", []string{"--kind", "hpc", "--tcp", "PORT"}, "tcp://PORT", "station: 1", false},
		{"line", "line", []string{"--kind", "line", "--tcp", "PORT"}, "tcp://PORT", "preset: in-out", false},
		{"ir, fa", "ir-tcp", []string{"--kind", "ir-tcp", "--to", "PORT", "--period", "1s"}, "tcp-listen://PORT", `serial: "2410640A0B0C"`, false},
		{"ir, 7e", "ir-tcp", []string{"--kind", "ir-tcp", "--to", "PORT", "--period", "1s", "--dialect", "7e", "--serial", "20190101A001"}, "tcp-listen://PORT", `serial: "20190101A001"`, false},
		{"hikvision", "camera", []string{"--kind", "hikvision", "--to", "http://PORT/0123456789abcdefghij"}, "http-listen://PORT", "secret_file: " + secret, false},
		{"dahua", "camera", []string{"--kind", "dahua", "--tcp", "PORT", "--user", "admin:secret-of-it"}, "http://PORT", "poll: 1s, username: admin, password_file: " + filepath.Join(dir, "password"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := os.WriteFile(filepath.Join(dir, "password"), []byte("secret-of-it"), 0o600); err != nil {
				t.Fatal(err)
			}
			place := strings.NewReplacer("PORT", freeAddress(t), "TTY", filepath.Join(t.TempDir(), "tty"))
			args := []string{"counter"}
			for _, a := range c.sim {
				args = append(args, place.Replace(a))
			}
			s := startSim(t, args...)
			s.says("counter ")
			w := startCommand(t, "count", "--poll", "200ms", "--line", place.Replace(c.line), "--kind", c.kind, "--with", place.Replace(c.with))
			if c.kind == "line" {
				w.shows("online") // it tells nobody what passed before
			}
			s.obey("in 2")
			s.obey("out 1")
			s.obey("in 1")
			want := "进 in 3  出 out 1"
			if c.turned {
				want = "进 in 1  出 out 3"
			}
			w.shows(want)
		})
	}
}

// shows waits for a line with that in it.
func (s *simulator) shows(part string) {
	s.t.Helper()
	for limit := time.After(10 * time.Second); ; {
		select {
		case line := <-s.lines:
			if strings.Contains(line, part) {
				return
			}
		case <-limit:
			s.t.Fatalf("nothing shows %q", part)
		}
	}
}
