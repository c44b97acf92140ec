// Package nats runs a cluster of three NATS servers for tests, from the
// configuration that is shipped: each server a process of its own, to be killed
// and started again while an agent sends through its MQTT gateway.
//
// Only addresses, ports and paths of the configuration are replaced. The server
// is a tool of go.mod: the go command builds it once per machine, which takes
// half a minute, and no package of ours imports it. Where it cannot be built
// tests are skipped, except under CI.
package nats

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/deploy"
	"github.com/hallagent/hallagent/sync/mqtt/certificates"
)

const (
	// Messages is the stream of messages with QoS 1.
	Messages = "$MQTT_msgs"
	// Retained is the stream of retained messages.
	Retained = "$MQTT_rmsgs"

	patience = 30 * time.Second
	tick     = 20 * time.Millisecond
)

// Options of a cluster.
type Options struct {
	// Passwords is the file that users.sh reads: user:password, one a line.
	Passwords string
	// Replace changes the shipped files, old and new text in turns.
	Replace []string
}

// Cluster is three running servers.
type Cluster struct {
	Nodes     [3]*Node
	Authority certificates.Authority

	t testing.TB
}

// Node is one server.
type Node struct {
	Name    string
	URL     string // of the MQTT gateway: mqtts://localhost:port
	Addr    string // of the same: 127.0.0.1:port
	Client  string // of NATS' own protocol: 127.0.0.1:port
	monitor string

	t       testing.TB
	program string
	dir     string

	mu      sync.Mutex
	process *exec.Cmd
	exited  chan struct{}
	log     strings.Builder
}

// Start runs a cluster for as long as the test lives and waits until it serves.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	program := build(t)
	c := &Cluster{Authority: certificates.New(t), t: t}
	for try := 0; ; try++ { // another process may take a port first
		if c.configure(program, o); c.start() {
			break
		}
		c.Kill()
		if try == 3 {
			t.Fatalf("the cluster does not start:\n%s", c.logs())
		}
	}
	t.Cleanup(func() {
		c.Kill()
		if t.Failed() {
			t.Logf("nats-server:\n%s", c.logs())
		}
	})
	return c
}

// build gives the path of the server.
func build(t testing.TB) string {
	var out, problems strings.Builder
	c := exec.Command("go", "tool", "-n", "nats-server")
	c.Stdout, c.Stderr = &out, &problems
	if err := c.Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("nats-server cannot be built: %v\n%s", err, problems.String())
		}
		t.Skipf("nats-server cannot be built: %v\n%s", err, problems.String())
	}
	return strings.TrimSpace(out.String())
}

// configure gives each node a folder with the shipped files.
func (c *Cluster) configure(program string, o Options) {
	c.t.Helper()
	users := c.users(o.Passwords)
	ports := freePorts(c.t, 4*len(c.Nodes))
	var places []string
	for i := range c.Nodes {
		places = append(places, fmt.Sprintf("nats-%d.example:6222", i+1), address(ports[4*i+3]))
	}
	for i := range c.Nodes {
		n := &Node{Name: fmt.Sprintf("nats-%d", i+1), t: c.t, program: program, dir: c.t.TempDir()}
		p := ports[4*i : 4*i+4]
		n.URL, n.Addr = fmt.Sprintf("mqtts://localhost:%d", p[0]), address(p[0])
		n.Client, n.monitor = address(p[1]), "http://"+address(p[2])
		replace := strings.NewReplacer(slices.Concat(o.Replace, places, []string{
			`NODE: "nats-1"`, fmt.Sprintf("NODE: %q", n.Name),
			"/etc/nats/certs", filepath.ToSlash(c.Authority.Dir), "/var/lib/nats", filepath.ToSlash(filepath.Join(n.dir, "store")),
			"0.0.0.0:8883", n.Addr, "127.0.0.1:4222", n.Client, "127.0.0.1:8222", address(p[2]), "0.0.0.0:6222", address(p[3]),
		})...)
		for name, text := range map[string]string{"nats.conf": shipped(c.t, "nats.conf"), "node.conf": shipped(c.t, "node.conf"), "users.conf": users} {
			if err := os.WriteFile(filepath.Join(n.dir, name), []byte(replace.Replace(text)), 0o600); err != nil {
				c.t.Fatal(err)
			}
		}
		c.Nodes[i] = n
	}
}

func shipped(t testing.TB, name string) string {
	t.Helper()
	b, err := deploy.Brokers.ReadFile("nats/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// users runs the shipped script over a password file.
func (c *Cluster) users(passwords string) string {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "passwords")
	if err := os.WriteFile(file, []byte(passwords), 0o600); err != nil {
		c.t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", shipped(c.t, "users.sh"), "users.sh", file).Output()
	if err != nil {
		c.t.Fatalf("users.sh: %v", err)
	}
	return string(out)
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // at the end: no port twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func (c *Cluster) start() bool {
	for _, n := range c.Nodes {
		n.start()
	}
	for _, n := range c.Nodes {
		if !n.wait() {
			return false
		}
	}
	return true
}

// Kill ends all servers at once.
func (c *Cluster) Kill() {
	for _, n := range c.Nodes {
		n.Kill()
	}
}

func (c *Cluster) logs() string {
	var b strings.Builder
	for _, n := range c.Nodes {
		var log string
		for line := range strings.Lines(n.Log()) {
			if !strings.Contains(line, "connect to route") { // of a server that was killed there are many
				log += line
			}
		}
		fmt.Fprintf(&b, "%s, at last:\n%s\n", n.Name, log[max(0, len(log)-3000):])
	}
	return b.String()
}

// Leader waits until all living servers agree who leads a stream, and gives it.
func (c *Cluster) Leader(stream string) *Node {
	c.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(tick) {
		var names []string
		for _, n := range c.Nodes {
			if n.lives() {
				names = append(names, n.leader(stream))
			}
		}
		slices.Sort(names)
		if names = slices.Compact(names); len(names) != 1 {
			continue
		}
		for _, n := range c.Nodes {
			if n.Name == names[0] && n.lives() {
				return n
			}
		}
	}
	c.t.Fatalf("nobody leads %s", stream)
	return nil
}

// Other gives a living server that is none of these.
func (c *Cluster) Other(not ...*Node) *Node {
	c.t.Helper()
	for _, n := range c.Nodes {
		if n.lives() && !slices.Contains(not, n) {
			return n
		}
	}
	c.t.Fatal("no other server lives")
	return nil
}

// start runs the server.
func (n *Node) start() {
	n.t.Helper()
	process, exited := exec.Command(n.program, "-c", filepath.Join(n.dir, "nats.conf")), make(chan struct{})
	log, err := process.StderrPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() { // ends with the process, which Kill waits for
		defer close(exited)
		io.Copy(writer{n}, log)
		process.Wait()
	}()
	n.mu.Lock()
	n.process, n.exited = process, exited
	n.mu.Unlock()
}

// wait waits until the server is up, of the cluster, and has caught up.
func (n *Node) wait() bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && n.lives(); time.Sleep(tick) {
		if n.get("/healthz", nil) == nil {
			return true
		}
	}
	return false
}

// Kill ends the server with SIGKILL.
func (n *Node) Kill() {
	n.mu.Lock()
	process, exited := n.process, n.exited
	n.mu.Unlock()
	if process != nil {
		process.Process.Kill() // an error says that it has ended already
		<-exited
	}
}

// Restart starts the server again after Kill, with what it has on disk, and
// waits until it has caught up.
func (n *Node) Restart() {
	n.t.Helper()
	n.Kill()
	n.start()
	if !n.wait() {
		n.t.Fatalf("%s does not come back:\n%s", n.Name, n.Log())
	}
}

func (n *Node) lives() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

// leader is whom the server takes for the leader of a stream, "" for none.
func (n *Node) leader(stream string) string {
	var answer struct {
		Accounts []struct {
			Streams []struct {
				Name    string
				Cluster struct{ Leader string }
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if n.get("/jsz?accounts=true&streams=true", &answer) != nil {
		return ""
	}
	for _, a := range answer.Accounts {
		for _, s := range a.Streams {
			if s.Name == stream {
				return s.Cluster.Leader
			}
		}
	}
	return ""
}

// get asks the monitoring endpoint.
func (n *Node) get(path string, answer any) error {
	client := http.Client{Timeout: 5 * time.Second}
	r, err := client.Get(n.monitor + path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, r.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(r.Body).Decode(answer)
}

// Log gives what the server has logged.
func (n *Node) Log() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

// writer collects the log.
type writer struct{ n *Node }

func (w writer) Write(p []byte) (int, error) {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	return w.n.log.Write(p)
}
