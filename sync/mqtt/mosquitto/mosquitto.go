// Package mosquitto runs the mosquitto broker for tests, so that they meet a
// real one: killed, stopped and started again, with users, TLS and ACLs.
//
// Each broker has a configuration and a folder of its own and listens on a free
// port of the loopback address, which it keeps over a restart. Where mosquitto
// is not installed tests are skipped, except under CI.
package mosquitto

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options of a broker; the zero Options let everybody in.
type Options struct {
	Users       map[string]string // passwords by user name; none lets everybody in
	ACL         string            // content of an ACL file
	Persistence bool              // retained messages survive Restart
	Folder      string            // of its files, "" for one of its own
	CAFile      string            // with CertFile and KeyFile: TLS
	CertFile    string
	KeyFile     string
	Extra       []string // further lines of the configuration

	// Shipped is a whole configuration, in place of one from the options above
	// but Users, ACL and Extra: the files it names are looked for in Files, by
	// their names alone, and its listeners get free ports.
	Shipped string
	Files   map[string]string // contents
}

// Broker is a running mosquitto.
type Broker struct {
	URL  string // mqtt://127.0.0.1:port, or mqtts://localhost:port
	Host string
	Port int

	Services string // URL of the second listener of a shipped configuration

	t    testing.TB
	opts Options
	dir  string

	second int // port

	mu      sync.Mutex
	process *exec.Cmd
	exited  chan struct{}
	log     strings.Builder
}

// Start runs a broker for as long as the test lives and waits until it listens.
func Start(t testing.TB, o Options) *Broker {
	t.Helper()
	if _, err := program(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mosquitto is not installed: %v", err)
		}
		t.Skipf("mosquitto is not installed: %v", err)
	}
	b := &Broker{t: t, opts: o, dir: o.Folder, Host: "127.0.0.1"}
	if b.dir == "" {
		b.dir = t.TempDir()
	}
	if o.Users != nil {
		b.SetUsers(o.Users)
	}
	for name, content := range o.Files {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for try := 0; ; try++ { // another process may take the port first
		b.Port, b.second = freePort(t), freePort(t)
		err := b.start()
		if err == nil {
			break
		}
		if try == 5 {
			t.Fatal(err)
		}
	}
	b.URL = fmt.Sprintf("mqtt://127.0.0.1:%d", b.Port)
	if o.CertFile != "" || o.Shipped != "" {
		b.URL = fmt.Sprintf("mqtts://localhost:%d", b.Port)
		b.Services = fmt.Sprintf("mqtts://localhost:%d", b.second)
	}
	t.Cleanup(func() {
		b.Kill()
		if t.Failed() {
			t.Logf("mosquitto:\n%s", b.Log())
		}
	})
	return b
}

// program finds mosquitto, which Debian keeps off the path of users.
func program() (string, error) {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if elsewhere, found := exec.LookPath("/usr/sbin/mosquitto"); found == nil {
			return elsewhere, nil
		}
	}
	return path, err
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// SetUsers replaces users and passwords; a running broker sees them after
// Restart.
func (b *Broker) SetUsers(users map[string]string) {
	b.t.Helper()
	file := filepath.Join(b.dir, "passwords")
	var plain strings.Builder
	for user, password := range users {
		fmt.Fprintf(&plain, "%s:%s\n", user, password)
	}
	if err := os.WriteFile(file, []byte(plain.String()), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if len(users) == 0 {
		return
	}
	if out, err := exec.Command("mosquitto_passwd", "-U", file).CombinedOutput(); err != nil {
		b.t.Fatalf("mosquitto_passwd: %v %s", err, out)
	}
}

// SetACL replaces the rights; a running broker that was started with an ACL sees
// them after Reload or Restart.
func (b *Broker) SetACL(acl string) {
	b.t.Helper()
	b.opts.ACL = acl
	if err := os.WriteFile(filepath.Join(b.dir, "acl"), []byte(acl), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *Broker) config() (string, error) {
	lines := []string{
		fmt.Sprintf("listener %d 127.0.0.1", b.Port),
		"user root", // has no effect unless run as root, and then keeps the test's own folder readable
		"log_dest stderr",
		"set_tcp_nodelay true",
		fmt.Sprintf("persistence %t", b.opts.Persistence),
		"persistence_location " + b.dir + "/",
		"autosave_interval 1",
		"max_queued_messages 0",
	}
	if b.opts.Users != nil {
		lines = append(lines, "allow_anonymous false", "password_file "+filepath.Join(b.dir, "passwords"))
	} else {
		lines = append(lines, "allow_anonymous true")
	}
	if b.opts.ACL != "" {
		file := filepath.Join(b.dir, "acl")
		if err := os.WriteFile(file, []byte(b.opts.ACL), 0o600); err != nil {
			return "", err
		}
		lines = append(lines, "acl_file "+file)
	}
	if b.opts.CertFile != "" {
		lines = append(lines, "certfile "+b.opts.CertFile, "keyfile "+b.opts.KeyFile)
		if b.opts.CAFile != "" {
			lines = append(lines, "cafile "+b.opts.CAFile)
		}
	}
	if b.opts.Shipped != "" {
		lines = []string{b.shipped(), "user root"}
	}
	file := filepath.Join(b.dir, "mosquitto.conf")
	return file, os.WriteFile(file, []byte(strings.Join(append(lines, b.opts.Extra...), "\n")+"\n"), 0o600)
}

// shipped puts the test's folder and ports into the shipped configuration.
func (b *Broker) shipped() string {
	ports := []int{b.Port, b.second}
	lines := strings.Split(b.opts.Shipped, "\n")
	for i, line := range lines {
		key, value, _ := strings.Cut(line, " ")
		switch {
		case key == "listener" && len(ports) > 0:
			lines[i] = fmt.Sprintf("listener %d 127.0.0.1", ports[0])
			ports = ports[1:]
		case strings.HasSuffix(value, "/"):
			lines[i] = key + " " + b.dir + "/"
		case strings.HasPrefix(value, "/"):
			lines[i] = key + " " + filepath.Join(b.dir, filepath.Base(value))
		}
	}
	return strings.Join(lines, "\n")
}

// start runs the program and reads its log until it says that it is ready.
func (b *Broker) start() error {
	config, err := b.config()
	if err != nil {
		return err
	}
	path, err := program()
	if err != nil {
		return err
	}
	process := exec.Command(path, "-c", config)
	log, err := process.StderrPipe()
	if err != nil {
		return err
	}
	if err := process.Start(); err != nil {
		return err
	}
	ready, exited := make(chan struct{}), make(chan struct{})
	go func() { // ends with the process, which Kill and Stop wait for
		defer close(exited)
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			b.mu.Lock()
			b.log.WriteString(lines.Text() + "\n")
			b.mu.Unlock()
			if strings.Contains(lines.Text(), " running") {
				close(ready)
				break
			}
		}
		for lines.Scan() {
			b.mu.Lock()
			b.log.WriteString(lines.Text() + "\n")
			b.mu.Unlock()
		}
		io.Copy(io.Discard, log)
		process.Wait()
	}()
	b.mu.Lock()
	b.process, b.exited = process, exited
	b.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-exited:
		return fmt.Errorf("mosquitto ended:\n%s", b.Log())
	case <-time.After(10 * time.Second):
		process.Process.Kill()
		<-exited
		return fmt.Errorf("mosquitto is not ready after 10 s:\n%s", b.Log())
	}
}

// Kill ends the broker at once: nothing is saved, connections break.
func (b *Broker) Kill() { b.end(syscall.SIGKILL) }

// Stop ends the broker in good order.
func (b *Broker) Stop() { b.end(syscall.SIGTERM) }

func (b *Broker) end(signal syscall.Signal) {
	b.mu.Lock()
	process, exited := b.process, b.exited
	b.mu.Unlock()
	process.Process.Signal(signal) // an error says that it has ended already
	<-exited
}

// Restart starts the broker again on its port, after Kill, Stop, or by itself.
func (b *Broker) Restart() {
	b.t.Helper()
	b.Stop()
	if err := b.start(); err != nil {
		b.t.Fatal(err)
	}
}

// Log gives what the broker has logged.
func (b *Broker) Log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}
