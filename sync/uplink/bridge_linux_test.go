package uplink

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/outbox"
)

const (
	bridgeRecords = 100_000 // of one repetition
	bridgeRounds  = 3       // repetitions that are measured
	mostMemory    = 40      // MiB, anonymous, of a process that drains
	acceptRate    = 5000    // records a second when the process is killed
	acceptTime    = 2 * time.Second
)

// centre is the broker at the far end, with a subscriber, and the way to it,
// which is closed at first.
type centre struct {
	b    *testing.B
	port string
	url  string

	mu     sync.Mutex
	opened chan struct{}

	seen     map[uint64]bool
	messages int
	again    int // messages with a record that had come before
	first    time.Time
	last     time.Time
}

func newCentre(b *testing.B) *centre {
	far := mosquitto.Start(b, mosquitto.Options{Extra: []string{"max_inflight_messages 0"}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	c := &centre{b: b, opened: make(chan struct{}), seen: map[uint64]bool{}, url: "mqtt://" + l.Addr().String()}
	_, c.port, _ = net.SplitHostPort(l.Addr().String())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.carry(in, net.JoinHostPort(far.Host, strconv.Itoa(far.Port)), stop) })
		}
	})
	b.Cleanup(func() { close(stop); l.Close(); wg.Wait() })
	subscriber := paho.NewClient(paho.NewClientOptions().AddBroker(far.URL).SetClientID("subscriber").SetAutoReconnect(false))
	for _, token := range []func() paho.Token{subscriber.Connect, func() paho.Token {
		return subscriber.Subscribe("visits", 1, func(_ paho.Client, m paho.Message) { c.take(m.Payload()) })
	}} {
		if t := token(); !t.WaitTimeout(drainPatience) || t.Error() != nil {
			b.Fatal(t.Error())
		}
	}
	b.Cleanup(func() { subscriber.Disconnect(100) })
	return c
}

// carry holds a connection until the way is open.
func (c *centre) carry(in net.Conn, far string, stop chan struct{}) {
	defer in.Close()
	c.mu.Lock()
	opened := c.opened
	c.mu.Unlock()
	select {
	case <-opened:
	case <-stop:
		return
	}
	out, err := net.Dial("tcp", far)
	if err != nil {
		return
	}
	defer out.Close()
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(out, in); out.Close() })
	wg.Go(func() { io.Copy(in, out); in.Close() })
	ended := make(chan struct{})
	go func() {
		select {
		case <-stop:
			in.Close()
			out.Close()
		case <-ended:
		}
	}()
	wg.Wait()
	close(ended)
}

// take counts records by their sequences and does no more.
func (c *centre) take(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	if len(c.seen) == 0 {
		c.first = c.last
	}
	c.messages++
	const mark = `"sequence":"`
	twice := false
	for {
		i := bytes.Index(payload, []byte(mark))
		if i < 0 {
			break
		}
		payload = payload[i+len(mark):]
		seq := uint64(0)
		for _, digit := range payload[:20] {
			seq = seq*10 + uint64(digit-'0')
		}
		twice = twice || c.seen[seq]
		c.seen[seq] = true
	}
	if twice {
		c.again++
	}
}

// close forgets what came and shuts the way to who comes from now on.
func (c *centre) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened, c.seen, c.messages, c.again = make(chan struct{}), map[uint64]bool{}, 0, 0
}

func (c *centre) open() { close(c.opened) }

// wait waits until enough records came, or none came for as long as patience.
func (c *centre) wait(n int, patience time.Duration) {
	for since, had := time.Now(), 0; ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		have := len(c.seen)
		c.mu.Unlock()
		if have >= n || time.Since(since) > patience {
			return
		}
		if have > had {
			since, had = time.Now(), have
		}
	}
}

// rate of records, from the first that came to the last.
func (c *centre) rate() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return float64(len(c.seen)) / c.last.Sub(c.first).Seconds()
}

// bridge is a mosquitto that keeps messages and brings them to the centre.
func bridge(b *testing.B, c *centre, dir string, extra ...string) *mosquitto.Broker {
	return mosquitto.Start(b, mosquitto.Options{Persistence: true, Folder: dir, Extra: append(append([]string{
		"max_queued_messages 0", "max_inflight_messages 64",
	}, extra...),
		"connection up", "address 127.0.0.1:"+c.port, "topic visits out 1", "cleansession false", "remote_clientid bridge",
		"local_clientid local-bridge", "bridge_protocol_version mqttv311", "restart_timeout 1", "notifications false", "try_private false")})
}

// single is one record as a message of its own.
func single(b *testing.B, record []byte, seq uint64) []byte {
	payload, err := envelopes([]outbox.Record{{Position: outbox.Position{Epoch: epoch, Seq: seq}, Recorded: time.Unix(1_795_000_000, 0).UTC(), Value: record}}, true)
	if err != nil {
		b.Fatal(err)
	}
	return payload
}

// publish gives the messages to a broker, 64 in flight, while more; it gives the
// sequences that the broker confirmed.
func publish(b *testing.B, url string, record []byte, more func(seq uint64) bool) (confirmed []uint64) {
	client := paho.NewClient(paho.NewClientOptions().AddBroker(url).SetClientID("filler").SetAutoReconnect(false).SetWriteTimeout(time.Second))
	if t := client.Connect(); !t.WaitTimeout(drainPatience) || t.Error() != nil {
		b.Fatal(t.Error())
	}
	defer client.Disconnect(100)
	type sent struct {
		seq   uint64
		token paho.Token
	}
	tokens := make(chan sent, 63)
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range tokens {
			if s.token.WaitTimeout(drainPatience) && s.token.Error() == nil {
				confirmed = append(confirmed, s.seq)
			}
		}
	})
	for seq := uint64(1); client.IsConnectionOpen() && more(seq); seq++ {
		tokens <- sent{seq, client.Publish("visits", 1, false, single(b, record, seq))}
	}
	close(tokens)
	wg.Wait()
	return confirmed
}

// copyFile puts a store back to what it was.
func copyFile(b *testing.B, from, to string) {
	b.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRatioBridge compares the agent's way up with a mosquitto bridge that
// keeps messages on disk: the rate at a subscriber while both drain the same
// records, what a bridge keeps in memory meanwhile, and what is lost when the
// process is killed.
func BenchmarkRatioBridge(b *testing.B) {
	var ours, theirs, oursMiB, theirsMiB []float64
	dir := b.TempDir()
	full, store := filepath.Join(dir, "full.db"), filepath.Join(dir, "visits.db")
	record := visit(b)
	fillStore(b, full, record, bridgeRecords)
	c := newCentre(b)
	saved, used := filepath.Join(dir, "saved.db"), filepath.Join(dir, "mosquitto.db")
	peer := bridge(b, c, dir, "autosave_interval 1800")
	publish(b, peer.URL, record, func(seq uint64) bool { return seq <= bridgeRecords })
	peer.Stop() // which saves
	copyFile(b, used, saved)

	b.Run(fmt.Sprintf("drain of %d records against a mosquitto bridge", bridgeRecords), func(b *testing.B) {
		for b.Loop() {
			if len(ours) == bridgeRounds {
				continue
			}
			c.close()
			copyFile(b, full, store)
			child, out := job{Path: store, URL: c.url}.start(b)
			c.open()
			c.wait(bridgeRecords, drainPatience)
			kib := 0
			if out.Scan() {
				fmt.Sscan(out.Text(), &kib)
			}
			if err := child.Wait(); err != nil || len(c.seen) != bridgeRecords || kib == 0 {
				b.Fatalf("%d records came, %d KiB, %v", len(c.seen), kib, err)
			}
			ours, oursMiB = append(ours, c.rate()), append(oursMiB, float64(kib)/1024)

			c.close()
			copyFile(b, saved, used)
			peer.Restart()
			most := 0
			c.open()
			for n, before := 0, -1; n < bridgeRecords; {
				if n == before {
					b.Fatalf("%d records came over the bridge", n)
				}
				before = n
				c.wait(min(bridgeRecords, n+2000), drainPatience)
				most = max(most, anonymous(peer.Pid()))
				c.mu.Lock()
				n = len(c.seen)
				c.mu.Unlock()
			}
			theirs, theirsMiB = append(theirs, c.rate()), append(theirsMiB, float64(most)/1024)
			peer.Kill()
		}
		report(b, ours, theirs, "records/s", "bridge")
		b.ReportMetric(2, "aim-min")
	})
	b.Run(fmt.Sprintf("memory while draining, below %d MiB", mostMemory), func(b *testing.B) {
		for b.Loop() {
		}
		report(b, oursMiB, theirsMiB, "MiB", "bridge")
		if most := slices.Max(oursMiB); most >= mostMemory {
			b.Errorf("%.1f MiB of anonymous memory while draining", most)
		}
	})
	b.Run("records lost by kill -9, bridge with usual autosave", func(b *testing.B) { benchLoss(b, c, record, 1800) })
	b.Run("records lost by kill -9, bridge saving every second", func(b *testing.B) { benchLoss(b, c, record, 1) })
	b.Run("messages sent again after kill -9 in mid-drain", func(b *testing.B) {
		var again []float64
		for b.Loop() {
			if len(again) == bridgeRounds {
				continue
			}
			c.close()
			copyFile(b, full, store)
			c.open()
			child, _ := job{Path: store, URL: c.url}.start(b)
			c.wait(bridgeRecords/10+rand.N(bridgeRecords/2), drainPatience)
			child.Process.Kill()
			child.Wait()
			child, _ = job{Path: store, URL: c.url}.start(b)
			c.wait(bridgeRecords, drainPatience)
			if err := child.Wait(); err != nil || len(c.seen) != bridgeRecords {
				b.Fatalf("%d records came, %v", len(c.seen), err)
			}
			again = append(again, float64(c.again))
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(slices.Max(again), "ours-messages")
		b.ReportMetric(maxMessages, "window-messages")
		b.ReportMetric(slices.Max(again)/maxMessages, "ratio")
		b.ReportMetric(1, "aim-max")
	})
}

// report gives medians and their ratio.
func report(b *testing.B, ours, theirs []float64, unit, peer string) {
	slices.Sort(ours)
	slices.Sort(theirs)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours[len(ours)/2], "ours-"+unit)
	b.ReportMetric(theirs[len(theirs)/2], peer+"-"+unit)
	b.ReportMetric(ours[len(ours)/2]/theirs[len(theirs)/2], "ratio")
}

// benchLoss kills what accepts records while the centre is away, starts it again
// and counts what was accepted and does not arrive.
func benchLoss(b *testing.B, c *centre, record []byte, autosave int) {
	var ours, theirs []float64
	accepted := 0
	lost := func(confirmed []uint64) float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		n := 0
		for _, seq := range confirmed {
			if !c.seen[seq] {
				n++
			}
		}
		return float64(n)
	}
	for b.Loop() {
		if len(ours) == bridgeRounds {
			continue
		}
		c.close()
		path := filepath.Join(b.TempDir(), "visits.db")
		child, out := job{Path: path, URL: c.url, Rate: acceptRate, Record: record}.start(b)
		time.AfterFunc(acceptTime, func() { child.Process.Kill() })
		var confirmed []uint64
		for out.Scan() {
			seq, err := strconv.ParseUint(out.Text(), 10, 64)
			if err == nil { // the last line may be torn
				confirmed = append(confirmed, seq)
			}
		}
		child.Wait()
		c.open()
		child, _ = job{Path: path, URL: c.url}.start(b)
		child.Wait()
		c.wait(1<<30, 300*time.Millisecond)
		ours = append(ours, lost(confirmed))
		accepted = len(confirmed)

		c.close()
		peer := bridge(b, c, b.TempDir(), fmt.Sprint("autosave_interval ", autosave))
		began := time.Now()
		confirmed = publish(b, peer.URL, record, func(seq uint64) bool {
			time.Sleep(time.Until(began.Add(time.Duration(seq) * time.Second / acceptRate)))
			if time.Since(began) > acceptTime {
				peer.Kill()
			}
			return true
		})
		c.open()
		peer.Restart()
		c.wait(1<<30, 3*time.Second) // it connects within two
		peer.Kill()
		theirs = append(theirs, lost(confirmed))
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	if most := ours[len(ours)-1]; most > 0 || accepted < acceptRate {
		b.Errorf("%.0f of %d accepted records were lost", most, accepted)
	}
	b.Logf("%d accepted each time; lost over the bridge: %.0f", accepted, theirs)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours[len(ours)-1], "ours-lost")
	b.ReportMetric(theirs[len(theirs)/2], "bridge-lost")
	b.ReportMetric(ours[len(ours)-1]/max(1, theirs[len(theirs)/2]), "ratio")
	b.ReportMetric(0, "aim-max")
}
