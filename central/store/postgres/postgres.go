// Package postgres runs PostgreSQL for tests, so that they meet a real one:
// shut down without ceremony, stopped and started again.
//
// Each server has a data folder of its own and listens on a free port of the
// loopback address and on a socket in that folder; it keeps both over a restart.
// As root, which PostgreSQL refuses, it runs as the user postgres. Where it is
// not installed tests are skipped, except under CI.
package postgres

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const patience = 30 * time.Second

// Options of a server.
type Options struct {
	Durable bool     // commits outlive the machine, as in earnest; without it, which is faster, only the server
	Extra   []string // further settings, name=value
}

// Server is a running PostgreSQL.
type Server struct {
	URL    string // postgres://… over TCP, of the database postgres
	Socket string // postgres://… over the unix socket

	t    testing.TB
	opts Options
	bin  string
	dir  string // holds data and socket
	port int

	mu        sync.Mutex
	process   *exec.Cmd
	exited    chan struct{}
	log       bytes.Buffer
	databases int
}

// Start runs a server for as long as the test lives and waits until it answers.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	bin, err := programs()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("postgresql is not installed: %v", err)
		}
		t.Skipf("postgresql is not installed: %v", err)
	}
	s := &Server{t: t, opts: o, bin: bin}
	// Not t.TempDir: its path may be too long for a socket, and closed to another user.
	if s.dir, err = os.MkdirTemp("", "postgres"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	if err := s.own(s.dir); err != nil {
		t.Fatal(err)
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "--pgdata", s.data(), "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	if err := s.as(initdb); err != nil {
		t.Fatal(err)
	}
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	for try := 0; ; try++ { // another process may take the port first
		s.port = freePort(t)
		err := s.start()
		if err == nil {
			break
		}
		if try == 5 {
			t.Fatal(err)
		}
	}
	s.URL = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres", s.port)
	s.Socket = fmt.Sprintf("postgres://postgres@/postgres?host=%s&port=%d", url.QueryEscape(s.dir), s.port)
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("postgresql:\n%s", s.Log())
		}
	})
	return s
}

// programs finds the newest installed version, which Debian keeps off the path.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int {
			if d := len(a) - len(b); d != 0 {
				return d
			}
			return strings.Compare(a, b)
		})), nil
	}
	path, err := exec.LookPath("postgres")
	return filepath.Dir(path), err
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// start runs the program and asks until it answers.
func (s *Server) start() error {
	args := []string{"-D", s.data(), "-p", fmt.Sprint(s.port), "-k", s.dir, "-h", "127.0.0.1"}
	settings := append([]string{fmt.Sprintf("fsync=%t", s.opts.Durable), fmt.Sprintf("full_page_writes=%t", s.opts.Durable), "max_connections=200", "shared_buffers=32MB"}, s.opts.Extra...)
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	process := exec.Command(filepath.Join(s.bin, "postgres"), args...)
	if err := s.as(process); err != nil {
		return err
	}
	process.Stderr = writer{s}
	if err := process.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { // ends with the process, which Kill and Stop wait for
		process.Wait()
		close(exited)
	}()
	s.mu.Lock()
	s.process, s.exited = process, exited
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := s.exec(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("postgresql ended:\n%s", s.Log())
		case <-ctx.Done():
			s.end(syscall.SIGQUIT)
			return fmt.Errorf("postgresql does not answer: %w\n%s", err, s.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) exec(ctx context.Context, statement string) error {
	c, err := pgx.Connect(ctx, fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres", s.port))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, statement)
	return err
}

// Database makes an empty database and gives its URL.
func (s *Server) Database() string {
	s.t.Helper()
	s.mu.Lock()
	s.databases++
	name := fmt.Sprintf("test%d", s.databases)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.exec(ctx, "CREATE DATABASE "+name); err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSuffix(s.URL, "postgres") + name
}

// Kill is an immediate shutdown: nothing is saved, connections break, and the
// next start recovers as after a crash.
func (s *Server) Kill() { s.end(syscall.SIGQUIT) }

// Stop breaks connections and ends the server in good order.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

func (s *Server) end(signal syscall.Signal) {
	s.mu.Lock()
	process, exited := s.process, s.exited
	s.mu.Unlock()
	process.Process.Signal(signal) // an error says that it has ended already
	<-exited
}

// Restart starts the server again on its port, after Kill, Stop, or by itself.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// Log gives what the server has logged.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

type writer struct{ s *Server }

func (w writer) Write(p []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.log.Write(p)
}
