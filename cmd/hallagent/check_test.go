package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/wire"
)

var (
	tenMistakes = filepath.Join("internal", "config", "testdata", "ten.yaml")
	sample      = filepath.Join("..", "..", "deploy", "hallagent.yaml")
)

func TestCheck(t *testing.T) {
	out, errs, code := command(t, "check", "--config", tenMistakes)
	found := regexp.MustCompile(`(?m)^\S*ten\.yaml:\d+:\d+: \S+: .+$`).FindAllString(out, -1)
	if code != 1 || len(found) < 10 || errs != "" {
		t.Errorf("check of a bad file exits with %d, %d messages with a position, stderr %q\n%s", code, len(found), errs, out)
	}
	t.Logf("%d messages with line and column", len(found))

	out, errs, code = command(t, "check", "--config", sample)
	if code != 0 || !contains(out, "0 errors, 0 warnings") || errs != "" {
		t.Errorf("check of the sample exits with %d\n%s%s", code, out, errs)
	}

	for _, c := range []struct {
		file        string
		code, least int
	}{{tenMistakes, 1, 10}, {sample, 0, 0}} {
		out, _, code := command(t, "check", "--json", "--config", c.file)
		var report struct {
			File     string
			Problems []struct {
				Line, Column int
				Key, Cause   string
			}
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil || code != c.code || len(report.Problems) < c.least || report.Problems == nil {
			t.Errorf("check --json of %s exits with %d, %v\n%s", c.file, code, err, out)
		}
		for _, p := range report.Problems {
			if p.Line < 1 || p.Column < 1 || p.Key == "" || p.Cause == "" {
				t.Errorf("problem %+v", p)
			}
		}
	}

	out, errs, code = command(t, "check", "--config", filepath.Join(t.TempDir(), "none.yaml"))
	if code != 1 || out != "" || !contains(errs, "none.yaml") {
		t.Errorf("check of no file exits with %d\n%s%s", code, out, errs)
	}
}

// TestCheckConnect has some things there and some that are not.
func TestCheckConnect(t *testing.T) {
	w := newWorld(t, "mqtt://"+freeAddress(t))
	w.addReader("01", sim.ReaderOptions{})
	w.addCounter("D1", true)
	w.configReader("02", "serial://"+filepath.Join(w.dir, "none")+"?baud=115200")
	w.lines = append(w.lines, fmt.Sprintf("{id: l-D2, url: %q}", "tcp://"+freeAddress(t)))
	w.configCounter("D2")
	w.extra = "photo: {decoder: [/opt/vendor/wlt2bmp-none]}"
	w.configure("")
	begin := time.Now()
	out, code := w.hallagent("check", "--connect")
	if code != 1 || !contains(out, `line "w-01": good`, `line "l-D1": good`, `line "w-02": `, "no such port", `line "l-D2": `, "refused", "photo decoder, locked in by ", "wlt2bmp-none", "broker mqtt://") {
		t.Errorf("check --connect exits with %d\n%s", code, out)
	}
	if hints := strings.Count(out, "hint: "); hints != 4 {
		t.Errorf("%d hints for four that are not there\n%s", hints, out)
	}
	t.Logf("check --connect took %v", time.Since(begin).Round(time.Millisecond))
	out, code = w.hallagent("check", "--connect", "--json")
	var report struct {
		Connects []struct {
			What, Err, Hint string
			Good            bool
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 || len(report.Connects) != 6 {
		t.Fatalf("check --connect --json exits with %d, %v\n%s", code, err, out)
	}
	for i, good := range []bool{true, true, false, false, false, false} {
		c := report.Connects[i]
		if c.Good != good || good == (c.Err != "") || good == (c.Hint != "") {
			t.Errorf("%+v, want good %v", c, good)
		}
	}
}

func TestUsage(t *testing.T) {
	out, errs, code := command(t, "--help")
	if code != 0 || errs != "" || !contains(out, "Usage: hallagent <command>") {
		t.Errorf("--help exits with %d\n%s%s", code, out, errs)
	}
	listed := regexp.MustCompile(`(?m)^  ([a-z]+(?: [a-z]+)?) {2,}[A-Z]`).FindAllStringSubmatch(out, -1)
	if len(listed) < 7 {
		t.Errorf("--help lists %q", listed)
	}
	for _, m := range listed {
		name := m[1]
		out, errs, code := command(t, append(strings.Fields(name), "--help")...)
		if code != 0 || errs != "" || !contains(out, "Example", "\n    hallagent "+name) {
			t.Errorf("%s --help exits with %d\n%s%s", name, code, out, errs)
		}
		if _, errs, code = command(t, append(strings.Fields(name), "--nonesuch")...); code != 2 || !contains(errs, "--nonesuch", "hint: ") {
			t.Errorf("%s with an unknown flag exits with %d: %s", name, code, errs)
		}
	}
	for _, args := range [][]string{{}, {"nonesuch"}, {"check", "more"}, {"pair"}, {"sim"}, {"sim", "counter"}} {
		if out, errs, code := command(t, args...); code != 2 || out != "" || !contains(errs, "hint: ") {
			t.Errorf("%q exits with %d\n%s%s", args, code, out, errs)
		}
	}
	if out, errs, code := command(t, "version"); code != 0 || errs != "" || !strings.HasPrefix(out, "hallagent ") {
		t.Errorf("version exits with %d: %s%s", code, out, errs)
	}
}

func TestPairRefuses(t *testing.T) {
	w := newWorld(t, "mqtt://"+freeAddress(t))
	w.addReader("05", sim.ReaderOptions{})
	w.configure("")
	out, errs, code := command(t, "pair", "--window", "05", "--config", w.file())
	if code != 1 || out != "" || !contains(errs, "hint: ", "must be running") {
		t.Errorf("pair without an agent exits with %d\n%s%s", code, out, errs)
	}
	w.start()
	w.ready()
	w.pair("05")
	out, errs, code = command(t, "pair", "--window", "99", "--config", w.file())
	if code != 1 || out != "" || !contains(errs, `"99"`) {
		t.Errorf("pair for an unknown window exits with %d\n%s%s", code, out, errs)
	}
}

// simulator is a command of the program that runs beside the test, such as a
// `hallagent sim` that obeys what is written to it.
type simulator struct {
	t       *testing.T
	process *os.Process
	in      io.Writer
	lines   chan string
	errs    strings.Builder // to be read when it has ended
	done    chan error
}

func startSim(t *testing.T, args ...string) *simulator {
	t.Helper()
	return startCommand(t, append([]string{"sim"}, args...)...)
}

func startCommand(t *testing.T, args ...string) *simulator {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &simulator{t: t, in: in, lines: make(chan string, 100), done: make(chan error, 1)}
	cmd.Stderr = &s.errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.process = cmd.Process
	ended := make(chan struct{})
	go func() { // ends with the process, which the clean-up kills and waits for
		defer close(ended)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			s.lines <- scan.Text()
		}
		s.done <- cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%q said:\n%s", args, s.errs.String())
		}
	})
	return s
}

// says waits for a line that begins so and gives it.
func (s *simulator) says(prefix string) string {
	s.t.Helper()
	limit := time.After(5 * time.Second)
	for {
		select {
		case line := <-s.lines:
			if strings.HasPrefix(line, prefix) {
				return line
			}
		case <-limit:
			s.t.Fatalf("the simulator does not say %q", prefix)
		}
	}
}

func (s *simulator) obey(command string) {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.in, command); err != nil {
		s.t.Fatal(err)
	}
}

func (s *simulator) quit() {
	s.t.Helper()
	s.obey("quit")
	if err := s.wait(); err != nil {
		s.t.Errorf("the simulator ends with %v", err)
	}
}

// wait waits for the end by itself.
func (s *simulator) wait() error {
	s.t.Helper()
	select {
	case err := <-s.done:
		return err
	case <-time.After(10 * time.Second):
		s.t.Fatal("the simulator does not end")
		return nil
	}
}

// TestSim plays a hall with three processes from the command line.
func TestSim(t *testing.T) {
	w := newWorld(t, "mqtt://"+freeAddress(t))
	w.poll = 200 * time.Millisecond
	tty := filepath.Join(w.dir, "reader")
	reader := startSim(t, "reader", "--pty", tty)
	reader.says("reader on ")
	w.configReader("05", "serial://"+tty+"?baud=115200")
	gate := startSim(t, "counter", "--tcp", "127.0.0.1:0")
	address, _, _ := strings.Cut(strings.TrimPrefix(gate.says("counter on "), "counter on "), ",")
	if _, _, err := net.SplitHostPort(address); err != nil {
		t.Fatal(err)
	}
	w.lines = append(w.lines, fmt.Sprintf("{id: l-D1, url: %q, poll: %v}", "tcp://"+address, w.poll))
	w.configCounter("D1")
	tty2 := filepath.Join(w.dir, "counter")
	gate2 := startSim(t, "counter", "--pty", tty2, "--baud", "9600")
	gate2.says("counter on ")
	w.lines = append(w.lines, fmt.Sprintf("{id: l-D2, url: %q, poll: %v}", "serial://"+tty2+"?baud=9600", w.poll))
	w.configCounter("D2")
	w.configure("")
	w.start()
	w.ready()
	allOnline := func() error {
		h, err := w.hallView()
		if err != nil {
			return err
		}
		if len(h.Reasons) != 1 || !strings.HasPrefix(h.Reasons[0], "broker/") {
			return fmt.Errorf("reasons %v", h.Reasons)
		}
		return nil
	}
	eventually(t, 10*time.Second, "all devices are there", allOnline)

	events := w.follow("05", w.pair("05"))
	next := func(want string) sse {
		t.Helper()
		for limit := time.After(5 * time.Second); ; {
			select {
			case e := <-events:
				if e.name == want {
					return e
				}
			case <-limit:
				t.Fatalf("no %s event", want)
			}
		}
	}
	reader.obey("lay 2")
	reader.says("laid 2")
	if e := next("card"); !contains(string(e.data), sim.Persons()[1].Name) {
		t.Errorf("card 2 is %s", e.data)
	}
	reader.obey("lift")
	reader.says("lifted")
	next("removed")

	gate.obey("in 3")
	gate.says("in 3 out 0")
	gate.obey("out 1")
	gate.says("in 3 out 1")
	gate2.obey("in 2")
	gate2.says("in 2 out 0")
	eventually(t, 5*time.Second, "the passes are counted", func() error {
		body, err := get(w.url + "/v1/occupancy")
		var o wire.Occupancy
		if err == nil {
			err = json.Unmarshal(body, &o)
		}
		if err == nil && (o.In != 5 || o.Out != 1) {
			err = fmt.Errorf("occupancy is %s", body)
		}
		return err
	})

	reader.obey("unplug")
	eventually(t, 5*time.Second, "the reader is missed", func() error {
		if h, err := w.hallView(); err != nil || h.Readers[0].State != wire.DeviceOffline {
			return fmt.Errorf("%+v %v", h.Readers, err)
		}
		return nil
	})
	reader.obey("plug")
	eventually(t, 3*time.Second, "the reader is back", allOnline)
	reader.quit()
	gate.quit()
	gate2.quit()
}
