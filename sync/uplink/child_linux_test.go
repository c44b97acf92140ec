package uplink

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/outbox"
)

// childJob names the variable that makes the test binary a child with a job.
const childJob = "HALLAGENT_UPLINK_CHILD"

// job is what a child does: bring up what is in a store, and accept Rate records
// a second meanwhile, or end when all is acknowledged.
type job struct {
	Path, URL string
	Rate      int
	Record    []byte
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childJob); text != "" {
		var j job
		if err := json.Unmarshal([]byte(text), &j); err != nil {
			panic(err)
		}
		j.run()
		return
	}
	os.Exit(m.Run())
}

// start runs the job in a process of its own and gives its output.
func (j job) start(t testing.TB) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childJob+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd, bufio.NewScanner(out)
}

// run prints each sequence that was accepted, or in the end the most anonymous
// memory there was, in KiB.
func (j job) run() {
	log := slog.New(slog.DiscardHandler)
	box := outbox.New(outbox.Options{Path: j.Path, Stream: "visits", Log: log, NewEpoch: func(string) (string, string, error) { return epoch, "", nil }})
	client := mqtt.New(mqtt.Options{URL: j.URL, ClientID: "child", Log: log})
	up := New(Options{Outbox: box, Publisher: client, Topic: "visits", Encode: envelopes, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, run := range []func(context.Context) error{box.Run, client.Run, up.Run} {
		all.Go(func() { run(ctx) })
	}
	<-box.Opened()
	if j.Rate > 0 {
		j.accept(ctx, box) // until it is killed
	}
	most := make(chan int)
	flushed := make(chan struct{})
	go func() {
		n := 0
		for {
			n = max(n, anonymous(os.Getpid()))
			select {
			case <-flushed:
				most <- n
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	if err := up.Flush(ctx); err != nil {
		panic(err)
	}
	close(flushed)
	fmt.Println(<-most)
	cancel()
	all.Wait()
}

// accept appends in steps of 10 ms and tells what was accepted.
func (j job) accept(ctx context.Context, box *outbox.Outbox) {
	out := make(chan uint64, 1024)
	go func() {
		for seq := range out {
			fmt.Println(seq)
		}
	}()
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		for range j.Rate / 100 {
			go func() {
				if p, err := box.Append(ctx, j.Record); err == nil {
					out <- p.Seq
				}
			}()
		}
	}
}

// anonymous memory of a process in KiB.
func anonymous(pid int) (n int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	if _, rest, ok := strings.Cut(string(text), "RssAnon:"); ok {
		fmt.Sscan(rest, &n)
	}
	return n
}
