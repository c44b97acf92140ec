package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/wire"
)

// mostSeries of a hall with twenty devices.
const mostSeries = 400

// lint asks promtool, which says nothing when all is well.
func lint(t *testing.T, metrics []byte) {
	t.Helper()
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = bytes.NewReader(metrics)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func series(metrics []byte) (n int) {
	for line := range strings.Lines(string(metrics)) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

func (w *world) metrics() []byte {
	w.t.Helper()
	text, err := get(w.url + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// TestMetrics looks at the metrics of a hall of twenty devices: all of them
// there, half of them away, and then fewer of them configured.
func TestMetrics(t *testing.T) {
	need(t, "promtool")
	b := mosquitto.Start(t, mosquitto.Options{})
	w := newWorld(t, b.URL)
	var readers []*sim.Reader
	var ptys []*sim.PTY
	for i := range 10 {
		r, pty := w.addReader(fmt.Sprintf("%02d", i+1), sim.ReaderOptions{})
		readers, ptys = append(readers, r), append(ptys, pty)
		w.addCounter(fmt.Sprintf("D%d", i+1), true)
	}
	w.configure("")
	w.start()
	up := func(want int) func() error {
		return func() error {
			text, err := get(w.url + "/metrics")
			n, read := 0, 0
			for line := range strings.Lines(string(text)) {
				switch {
				case strings.HasPrefix(line, "hallagent_device_up{") && strings.HasSuffix(line, " 1\n"):
					n++
				case strings.HasPrefix(line, "hallagent_device_last_reading_timestamp_seconds{"):
					read++
				}
			}
			if err == nil && (n != want || read != 10) {
				err = fmt.Errorf("%d devices are up, not %d, and %d counters are read", n, want, read)
			}
			return err
		}
	}
	eventually(t, 10*time.Second, "all devices are up", up(20))
	readers[9].Lay(sim.Cards()[0])
	eventually(t, 5*time.Second, "a card is read", func() error {
		return hasLine(w.metrics(), `hallagent_cards_total{result="unclaimed"} 1`)
	})
	online := w.metrics()
	lint(t, online)
	for _, pty := range ptys[:5] {
		if err := pty.Unplug(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 5*time.Second, "five readers are away", up(15))
	b.Kill()
	eventually(t, 5*time.Second, "the broker is away", func() error { return hasLine(w.metrics(), "hallagent_broker_up 0") })
	away := w.metrics()
	lint(t, away)
	t.Logf("20 devices make %d series, %d with five of them and the broker away", series(online), series(away))
	if most := max(series(online), series(away)); most >= mostSeries {
		t.Errorf("%d series, not fewer than %d", most, mostSeries)
	}

	w.stop()
	w.lines, w.readers, w.counter, w.doors = w.lines[2:], w.readers[1:], w.counter[1:], w.doors[1:]
	w.configure("")
	w.start()
	w.ready()
	text := w.metrics()
	lint(t, text)
	for _, gone := range []string{`"rd-01"`, `"k-D1"`, `"w-01"`, `"l-D1"`, `"D1"`} {
		if !bytes.Contains(online, []byte(gone)) || bytes.Contains(text, []byte(gone)) {
			t.Errorf("series of %s are not gone with the device", gone)
		}
	}
}

func hasLine(metrics []byte, line string) error {
	if !bytes.Contains(metrics, []byte("\n"+line+"\n")) {
		return fmt.Errorf("/metrics has no line %s", line)
	}
	return nil
}

// betrayals are the ways in which a text about a person could leak.
func betrayals(text string) (all [][]byte) {
	var utf16le []byte
	for _, u := range utf16.Encode([]rune(text)) {
		utf16le = append(utf16le, byte(u), byte(u>>8))
	}
	for _, raw := range [][]byte{[]byte(text), utf16le} {
		low := hex.EncodeToString(raw)
		spaced := strings.TrimSpace(fmt.Sprintf("% x", raw))
		all = append(all, raw, []byte(low), []byte(strings.ToUpper(low)), []byte(spaced), []byte(strings.ToUpper(spaced)))
	}
	escaped := fmt.Sprintf("%+q", text)
	return append(all, []byte(escaped[1:len(escaped)-1]))
}

// TestNothingPersonal reads every card of the vectors, claimed and unclaimed, and
// looks for what stands on them wherever it must not be.
func TestNothingPersonal(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	w := newWorld(t, b.URL)
	w.flags = []string{"--log-level", "debug"}
	claimed, _ := w.addReader("05", sim.ReaderOptions{})
	unclaimed, _ := w.addReader("06", sim.ReaderOptions{})
	w.addCounter("D1", true)
	w.configure("")
	s := subscribe(t, b.URL, nil)
	w.start()
	w.ready()
	events := w.follow("05", w.pair("05"))
	cards := vectors(t)
	const added = "虚构省样例市新路9号"
	var shown []byte // at the workstation, where it belongs
	for _, v := range cards {
		card := v.card(t)
		card.Addresses = [][70]byte{slot(added)}
		claimed.Lay(card)
		unclaimed.Lay(card)
		for limit := time.After(10 * time.Second); ; {
			var e sse
			select {
			case e = <-events:
			case <-limit:
				t.Fatal("no event")
			}
			if e.name == "card" || e.name == "addresses" {
				shown = append(shown, e.data...)
			}
			if e.name == "addresses" {
				claimed.Lift()
			}
			if e.name == "removed" {
				break
			}
		}
		unclaimed.Lift()
	}
	eventually(t, 10*time.Second, "all cards were read", func() error {
		return hasLine(w.metrics(), fmt.Sprintf(`hallagent_cards_total{result="claimed"} %d`, len(cards)))
	})
	eventually(t, 10*time.Second, "the hall is told to the broker", func() error {
		var o wire.Occupancy
		_, err := s.last(hall.Occupancy(), &o)
		return err
	})
	hallText, err := get(w.url + "/v1/hall")
	if err != nil {
		t.Fatal(err)
	}
	places := map[string][]byte{"/metrics": w.metrics(), "/v1/hall": hallText}
	w.stop()
	w.mu.Lock()
	places["the log"] = bytes.Clone(w.log.Bytes())
	w.mu.Unlock()
	s.mu.Lock()
	places["the broker"], err = json.Marshal(s.got)
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(w.data(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			places["the file "+d.Name()], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{"the file visits.db", "the file pairings.json", "the log", "the broker"} {
		if len(places[must]) == 0 {
			t.Errorf("%s is empty", must)
		}
	}
	checked := 0
	for _, v := range cards {
		v.Expected["new_address"] = added
		for _, field := range []string{"name", "english_name", "id_number", "address", "previous_id_number", "new_address"} {
			text, _ := v.Expected[field].(string)
			if text == "" {
				continue
			}
			if !bytes.Contains(shown, []byte(text)) {
				t.Errorf("%s: the workstation did not get the %s", v.ID, field)
			}
			for _, leak := range betrayals(text) {
				for place, content := range places {
					checked++
					if bytes.Contains(content, leak) {
						t.Errorf("%s: %s has the %s as %q", v.ID, place, field, leak)
					}
				}
			}
		}
	}
	t.Logf("%d searches in %d places", checked, len(places))
}
