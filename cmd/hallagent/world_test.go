package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/lan"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/wire"
)

// built is the folder of the program, once a test needed it.
var built string

// binary is the program, built once for all tests of this package.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hallagent-e2e-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "hallagent")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// need skips a test by name where a program is not installed, or fails it in CI.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed", p)
			}
			t.Skipf("%s is not installed", p)
		}
	}
}

// world is a hall around the built program: simulated devices in this process,
// the agent in one of its own.
type world struct {
	t       testing.TB
	dir     string
	folder  string   // of the agent's data, "" for one in dir
	url     string   // of the agent's pages
	broker  string   // mqtt:// of the broker
	listen  []string // further addresses of its pages
	lines   []string
	readers []string
	doors   []string
	counter []string
	extra   string // further configuration, in YAML
	poll    time.Duration
	flags   []string // of run

	mu      sync.Mutex
	process *exec.Cmd
	exited  chan struct{}
	log     bytes.Buffer
}

var hall = wire.Hall{Area: "371003", ID: "e2e"}

// newWorld makes an empty hall with a broker at that address.
func newWorld(t testing.TB, broker string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "hall") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, url: "http://" + freeAddress(t), broker: broker, poll: time.Second}
	t.Cleanup(func() {
		w.kill()
		if t.Failed() {
			w.mu.Lock()
			t.Logf("the agent's log:\n%s", w.log.String())
			w.mu.Unlock()
		}
		os.RemoveAll(dir)
	})
	return w
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// owned runs something until the test is over.
func owned(t testing.TB, run func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// pty makes a terminal that lives as long as the test.
func (w *world) pty(name string) *sim.PTY {
	w.t.Helper()
	pty, err := sim.OpenPTY(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { pty.Close() })
	return pty
}

// addReader hangs a reader on a terminal of its own, at window w.
func (w *world) addReader(window string, o sim.ReaderOptions) (*sim.Reader, *sim.PTY) {
	w.t.Helper()
	pty := w.pty("tty" + window)
	r := sim.NewReader(o)
	owned(w.t, func(ctx context.Context) { r.Serve(ctx, pty) })
	w.configReader(window, "serial://"+pty.Name+"?baud=115200")
	return r, pty
}

func (w *world) configReader(window, url string) {
	w.lines = append(w.lines, fmt.Sprintf("{id: w-%s, url: %q}", window, url))
	w.readers = append(w.readers, fmt.Sprintf("{id: rd-%s, kind: sam, line: w-%s, window: %q}", window, window, window))
}

var registers = struct{ in, out sim.ModbusRegisters }{
	sim.ModbusRegisters{Function: 3, Address: 0, Words: 2},
	sim.ModbusRegisters{Function: 3, Address: 2, Words: 2},
}

// addCounter puts a Modbus counter at a new door, on TCP or on a terminal.
func (w *world) addCounter(door string, tcp bool) *sim.ModbusCounter {
	w.t.Helper()
	c := sim.NewModbusCounter(sim.ModbusOptions{Station: 1, In: registers.in, Out: registers.out, Start: [2]uint64{65530, 70000}})
	w.addLine("l-"+door, w.serveModbus(door, tcp, 115200, c))
	w.configCounter(door)
	return c
}

// serveModbus serves counters on TCP or on a terminal at that rate, and gives the
// url of their line.
func (w *world) serveModbus(name string, tcp bool, baud int, counters ...*sim.ModbusCounter) (url string) {
	w.t.Helper()
	if tcp {
		l := w.listener()
		owned(w.t, func(ctx context.Context) { sim.ServeModbusTCP(ctx, l, counters...) })
		return "tcp://" + l.Addr().String()
	}
	pty := w.pty("tty-" + name)
	owned(w.t, func(ctx context.Context) { sim.ServeModbusRTU(ctx, pty, counters...) })
	return fmt.Sprintf("serial://%s?baud=%d", pty.Name, baud)
}

// registerMap is where the totals of these counters are.
const registerMap = "map: {in: {function: 3, address: 0, words: 2, order: high}, out: {function: 3, address: 2, words: 2, order: high}}"

func (w *world) configCounter(door string) {
	w.doors = append(w.doors, fmt.Sprintf("{id: %s}", door))
	w.counter = append(w.counter, fmt.Sprintf("{id: k-%s, kind: modbus, line: l-%s, station: 1, door: %s, %s}", door, door, door, registerMap))
}

func (w *world) data() string { return cmp.Or(w.folder, filepath.Join(w.dir, "data")) }
func (w *world) file() string { return filepath.Join(w.dir, "hallagent.yaml") }

// configure writes the configuration file.
func (w *world) configure(broker string) {
	w.t.Helper()
	list := func(items []string) string { return "[" + strings.Join(items, ", ") + "]" }
	text := fmt.Sprintf("hall: {area: %q, id: %s, name: 样例大厅, capacity: 100, hours: \"08:30-17:00\"}\ndata: %s\n"+
		"lines: %s\nreaders: %s\ndoors: %s\ncounters: %s\nbroker: {url: %q%s}\nlan: {listen: %s}\n%s\n",
		hall.Area, hall.ID, w.data(), list(w.lines), list(w.readers), list(w.doors), list(w.counter),
		w.broker, broker, list(append([]string{strconv.Quote(strings.TrimPrefix(w.url, "http://"))}, w.listen...)), w.extra)
	if err := os.WriteFile(w.file(), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// start starts the agent; ready waits until it can work.
func (w *world) start() {
	w.t.Helper()
	path, err := binary()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"run", "--config", w.file()}, w.flags...)...)
	cmd.Stderr = &lockedWriter{w}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	exited := make(chan struct{})
	w.mu.Lock()
	w.process, w.exited = cmd, exited
	w.mu.Unlock()
	go func() { // ends with the process, which the world's clean-up kills
		cmd.Wait()
		close(exited)
	}()
}

func (w *world) ready() {
	w.t.Helper()
	eventually(w.t, 10*time.Second, "the agent is ready", func() error {
		_, err := get(w.url + "/readyz")
		return err
	})
}

// lockedWriter collects the agent's log.
type lockedWriter struct{ *world }

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(p)
}

// kill ends the agent as a power cut would; stop ends it in good order.
func (w *world) kill() { w.signal(syscall.SIGKILL) }
func (w *world) stop() { w.signal(syscall.SIGTERM) }

func (w *world) signal(s syscall.Signal) {
	w.mu.Lock()
	cmd, exited := w.process, w.exited
	w.mu.Unlock()
	if cmd == nil {
		return
	}
	cmd.Process.Signal(s)
	select {
	case <-exited:
	case <-time.After(10 * time.Second):
		w.t.Errorf("the agent does not end after %v", s)
		cmd.Process.Kill()
		<-exited
	}
}

// running says whether the agent's process lives.
func (w *world) running() bool {
	select {
	case <-w.exited:
		return false
	default:
		return true
	}
}

// hallagent runs another command of the program.
func (w *world) hallagent(args ...string) (out string, code int) {
	w.t.Helper()
	out, _, code = command(w.t, append(args, "--config", w.file())...)
	return out, code
}

// command runs the program to its end.
func command(t testing.TB, args ...string) (out, errs string, code int) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

func get(url string) ([]byte, error) {
	res, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, res.Status, body)
	}
	return body, err
}

// hallView asks the agent how it is.
func (w *world) hallView() (h lan.Hall, err error) {
	body, err := get(w.url + "/v1/hall")
	if err == nil {
		err = json.Unmarshal(body, &h)
	}
	return h, err
}

// countersRead says which counter has not been read since the start.
func (w *world) countersRead() error {
	h, err := w.hallView()
	for _, k := range h.Counters {
		if k.Last == nil {
			return fmt.Errorf("%s is not read", k.ID)
		}
	}
	return err
}

var codePattern = regexp.MustCompile(`code +(\S+)`)

// pair pairs a workstation as an installer does: a code from the command line,
// typed in at the workstation.
func (w *world) pair(window string) (token string) {
	w.t.Helper()
	out, exit := w.hallagent("pair", "--window", window)
	m := codePattern.FindStringSubmatch(out)
	if m == nil {
		w.t.Fatalf("pair gives %q, exit %d", out, exit)
	}
	body := fmt.Sprintf(`{"code":%q,"workstation":"ws-%s"}`, m[1], window)
	res, err := http.Post(w.url+"/v1/pair", "application/json", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var got struct{ Token string }
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil || got.Token == "" {
		w.t.Fatalf("pairing gives %s: %v", res.Status, err)
	}
	return got.Token
}

// sse is an event of a stream and when it came.
type sse struct {
	name string
	data []byte
	at   time.Time
}

// follow claims a window and gives its events.
func (w *world) follow(window, token string) <-chan sse {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/v1/windows/"+window+"/stream?claim=1", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		w.t.Fatalf("follow window %s: %v %v", window, res, err)
	}
	events := make(chan sse, 1024)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer res.Body.Close()
		var e sse
		for scan := bufio.NewScanner(res.Body); scan.Scan(); {
			line := scan.Text()
			if name, ok := strings.CutPrefix(line, "event: "); ok {
				e.name = name
			} else if data, ok := strings.CutPrefix(line, "data: "); ok {
				e.data, e.at = []byte(data), time.Now()
				events <- e
			}
		}
	})
	w.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return events
}

// subscriber is a client of the broker that keeps what comes.
type subscriber struct {
	*mqtt.Client
	mu  sync.Mutex
	got map[string][]wire.Event // by topic
}

// subscribe follows the whole hall at the broker, again after each restart of
// it, and hands on what comes, in order.
func subscribe(t testing.TB, broker string, received func(*subscriber, string, []wire.Event)) *subscriber {
	t.Helper()
	s := &subscriber{got: map[string][]wire.Event{}}
	s.Client = mqtt.New(mqtt.Options{
		URL: broker, ClientID: "test-" + rand.Text(), Log: slog.New(slog.DiscardHandler),
		Subscriptions: []string{hall.Prefix() + "#"},
		Handle: func(topic string, payload []byte, _ bool) {
			events, err := wire.Decode(payload)
			if err != nil || len(events) == 0 || events[0].SpecVersion == "" {
				return // acknowledgements of our own
			}
			s.mu.Lock()
			s.got[topic] = append(s.got[topic], events...)
			s.mu.Unlock()
			if received != nil {
				received(s, topic, events)
			}
		},
	})
	owned(t, func(ctx context.Context) { s.Run(ctx) })
	return s
}

// last gives the newest event of a topic.
func (s *subscriber) last(topic string, data any) (wire.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.got[topic]
	if len(all) == 0 {
		return wire.Event{}, fmt.Errorf("nothing came on %s", topic)
	}
	e := all[len(all)-1]
	return e, json.Unmarshal(e.Data, data)
}

func (s *subscriber) all(topic string) []wire.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got[topic])
}

// eventually asks again and again until it is so.
func eventually(t testing.TB, limit time.Duration, what string, so func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := so()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
