package inbox

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// childEnv makes the test binary a consumer of its own: its value is what it
// does, and the URL of the database.
const childEnv = "INBOX_TEST_CHILD"

const childItems = 20_000

func TestMain(m *testing.M) {
	if what, url, ok := strings.Cut(os.Getenv(childEnv), " "); ok {
		consume(what, url)
	}
	os.Exit(m.Run())
}

// childWorld is the same agent in parent and child: one that has childItems.
func childWorld(t testing.TB, url string) (*world, *agent) {
	w := newWorld(t, url)
	a := w.agent(hallOne)
	for i := range childItems {
		a.items = append(a.items, item{epoch: first, sequence: uint64(i + 1)})
	}
	return w, a
}

// consume is the child: an instance and its agent. It prints how far the agent
// was acknowledged. Told to stand, it says so in the midst of a transaction and
// waits there for a line.
func consume(what, url string) {
	t := &testing.B{}
	w, a := childWorld(t, url)
	var said atomic.Bool
	l := w.begin("z", func(ctx context.Context, tx *sql.Tx, r Record) error {
		err := write(ctx, tx, r)
		if what == "stand" && r.Sequence == 100 && said.CompareAndSwap(false, true) {
			fmt.Println("stands")
			io.ReadFull(os.Stdin, make([]byte, 1))
			fmt.Println("goes on")
		}
		return err
	}, false)
	acked, lost := 0, false
	random := rand.New(rand.NewPCG(1, 1))
	for {
		a.send(random, 0)
		a.mu.Lock()
		now := a.acked
		a.mu.Unlock()
		if now != acked {
			acked = now
			fmt.Println("acknowledged", acked)
		}
		if said.Load() && !lost && l.serves() == 0 {
			lost = true
			fmt.Println("lost")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// child is a consumer in a process of its own.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

func startChild(t *testing.T, what, url string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0]), lines: make(chan string, 1000)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+what+" "+url)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the child
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
		close(c.lines)
	}()
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		for range c.lines {
		}
		c.cmd.Wait()
	})
	return c
}

// wait reads the child's lines up to one.
func (c *child) wait(t *testing.T, line string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case got, ok := <-c.lines:
			if !ok {
				t.Fatalf("the child ended before it said %q", line)
			}
			if strings.HasPrefix(got, line) {
				return
			}
		case <-deadline:
			t.Fatalf("the child does not say %q", line)
		}
	}
}

// A consumer's process is killed at random moments: what it had acknowledged is
// in the file, and nothing is there twice.
func TestTortureKilled(t *testing.T) {
	t.Parallel()
	url := filepath.Join(t.TempDir(), "central.db")
	w, a := childWorld(t, url)
	db := w.open()
	rounds := pick(6, 200)
	for round := range rounds {
		c := startChild(t, "consume", url)
		c.wait(t, "acknowledged")
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		c.cmd.Process.Kill()
		acknowledged := 0
		for line := range c.lines {
			fmt.Sscanf(line, "acknowledged %d", &acknowledged)
		}
		c.cmd.Wait()
		got, _ := applied(t, db, hallOne)
		if len(got) < acknowledged {
			t.Fatalf("round %d: acknowledged %d, %d had their effect", round, acknowledged, len(got))
		}
		for i, item := range got {
			if item != a.items[i].String() {
				t.Fatalf("round %d: effect %d is of %s", round, i, item)
			}
		}
	}
	got, _ := applied(t, db, hallOne)
	t.Logf("killed %d times, %d records", rounds, len(got))
}
