package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
	"github.com/hallagent/hallagent/sync/wire"
)

// vector is a made-up card of the shared test vectors.
type vector struct {
	ID, Kind string
	Text     string         `json:"text_hex"`
	Photo    string         `json:"photo_hex"`
	Expected map[string]any `json:"expected"`
}

// vectors are the cards of all kinds in the shared test vectors.
func vectors(t testing.TB) (all []vector) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "idcard", "testdata", "idcard-vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cards []vector }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, v := range file.Cards {
		kinds[v.Kind] = true
	}
	if len(kinds) != 4 || file.Cards[0].Kind != "resident" {
		t.Fatalf("cards of the kinds %v", kinds)
	}
	return file.Cards
}

func (v vector) card(t testing.TB) (c sim.Card) {
	t.Helper()
	text, err := hex.DecodeString(v.Text)
	if err != nil || len(text) != len(c.Text) {
		t.Fatalf("%s: %d bytes of text, %v", v.ID, len(text), err)
	}
	photo, err := hex.DecodeString(v.Photo)
	if err != nil || len(photo) != len(c.Photo) {
		t.Fatalf("%s: %d bytes of photo, %v", v.ID, len(photo), err)
	}
	copy(c.Text[:], text)
	copy(c.Photo[:], photo)
	return c
}

// TestCards lays every card of the vectors on a reader behind a real
// terminal; each arrives field by field at the paired workstation's stream.
func TestCards(t *testing.T) {
	b := mosquitto.Start(t, mosquitto.Options{})
	w := newWorld(t, b.URL)
	reader, _ := w.addReader("05", sim.ReaderOptions{Baud: 115200})
	w.configure("")
	w.start()
	w.ready()
	events := w.follow("05", w.pair("05"))
	next := func(want string) sse {
		t.Helper()
		for {
			select {
			case e := <-events:
				if e.name == want {
					return e
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("no %s event", want)
			}
		}
	}
	for _, v := range vectors(t) {
		reader.Lay(v.card(t))
		var got struct {
			Reader, Window string
			At             time.Time
			Card           map[string]any
			Warnings       []any
			Photo          bool
		}
		if err := json.Unmarshal(next("card").data, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Card, v.Expected) {
			t.Errorf("%s: card is %v, want %v", v.ID, got.Card, v.Expected)
		}
		if got.Reader != "rd-05" || got.Window != "05" || !got.Photo || got.Warnings == nil || time.Since(got.At) > time.Minute {
			t.Errorf("%s: event is %+v", v.ID, got)
		}
		reader.Lift()
		next("removed")
	}
	card := vectors(t)[0].card(t)
	card.Addresses = [][70]byte{slot("虚构省样例市新路9号"), slot(""), slot("虚构省样例市更新路8号")}
	reader.Lay(card)
	var added struct {
		NewAddresses []string `json:"new_addresses"`
	}
	if err := json.Unmarshal(next("addresses").data, &added); err != nil || !slices.Equal(added.NewAddresses, []string{"虚构省样例市新路9号", "虚构省样例市更新路8号"}) {
		t.Errorf("new addresses: %v, %v", added, err)
	}
}

// TestReadsWhatLiesThere asks for a card that was laid down before anybody asked,
// and for one that was given already, on a reader that reads a card once.
func TestReadsWhatLiesThere(t *testing.T) {
	w := newWorld(t, "mqtt://127.0.0.1:1")
	reader, _ := w.addReader("05", sim.ReaderOptions{Baud: 115200})
	w.configure("")
	w.start()
	w.ready()
	mine, other := w.pair("05"), w.pair("05")
	ask := func(token, more string) (int, string) {
		t.Helper()
		req, err := http.NewRequest("POST", w.url+"/v1/windows/05/reads", strings.NewReader(`{"purpose": "退休申领", "notice": "2026-1", "within": "1s"`+more+`}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	v := vectors(t)[0]
	reader.Lay(v.card(t))
	eventually(t, 5*time.Second, "the card was read and dropped", func() error {
		return hasLine(w.metrics(), `hallagent_cards_total{result="unclaimed"} 1`)
	})
	number := v.Expected["id_number"].(string)
	if code, body := ask(mine, ""); code != 200 || !contains(body, number) {
		t.Errorf("a card that nobody got gives %d %s", code, body)
	}
	if code, _ := ask(mine, ""); code != 504 {
		t.Errorf("a card that was given gives %d", code)
	}
	if code, body := ask(mine, `, "again": true`); code != 200 || !contains(body, number) {
		t.Errorf("again gives %d %s", code, body)
	}
	if code, body := ask(other, `, "again": true`); code != 504 || contains(body, number) {
		t.Errorf("another workstation gets %d %s", code, body)
	}
	reader.Lift()
	if code, body := ask(mine, `, "again": true`); code != 504 {
		t.Errorf("an empty reader gives %d %s", code, body)
	}
}

// slot is a new address as on a chip.
func slot(text string) (b [70]byte) {
	for i := range b {
		b[i] = " \x00"[i%2]
	}
	for i, u := range utf16.Encode([]rune(text)) {
		b[2*i], b[2*i+1] = byte(u), byte(u>>8)
	}
	return b
}

// TestRead reads a card at the command line, masked and shown.
func TestRead(t *testing.T) {
	w := newWorld(t, "mqtt://127.0.0.1:1")
	reader, pty := w.addReader("05", sim.ReaderOptions{})
	reader.Lay(vectors(t)[0].card(t))
	line := "serial://" + pty.Name + "?baud=115200"
	out, code := w.hallagent("read", "--line", line)
	if code != 0 || !contains(out, "测**", "119***************") || contains(out, "测试甲") {
		t.Errorf("read gives %d\n%s", code, out)
	}
	for _, v := range vectors(t) {
		reader.Lift()
		card := v.card(t)
		card.Addresses = [][70]byte{slot("虚构省样例市新路9号")}
		reader.Lay(card)
		out, errs, code := command(t, "read", "--show", "--line", line)
		if code != 0 || !contains(out, "新住址 new address: 虚构省样例市新路9号") || !contains(errs, "05.01-20090227-0000000012-0003456789") {
			t.Errorf("%s: read --show gives %d\n%s%s", v.ID, code, out, errs)
		}
		for member, want := range v.Expected {
			if text, ok := want.(string); ok && !contains(out, text) && !slices.Contains([]string{"type_flag", "sex_code", "nation_code", "previous_number_link"}, member) {
				t.Errorf("%s: read --show does not tell the %s\n%s", v.ID, member, out)
			}
		}
	}
	reader.Lift()
	if out, code = w.hallagent("read", "--within", "700ms", "--line", line); code != 1 {
		t.Errorf("read without a card gives %d\n%s", code, out)
	}
	if _, errs, code := command(t, "read", "--within", "700ms", "--line", "serial:///dev/hallagent-none"); code != 1 || !contains(errs, "no such file", "hint: ") {
		t.Errorf("read without a reader gives %d\n%s", code, errs)
	}
}

// TestFoundRate finds the rate of a slow reader, shows it is usable, and knows
// the rate after a restart.
func TestFoundRate(t *testing.T) {
	w := newWorld(t, "mqtt://127.0.0.1:1")
	pty := w.pty("tty05")
	reader := sim.NewReader(sim.ReaderOptions{Baud: 9600})
	owned(t, func(ctx context.Context) { reader.Serve(ctx, pty) })
	w.configReader("05", "serial://"+pty.Name+"?baud=auto")
	w.configure("")
	var took [2]time.Duration
	for n := range took {
		start := time.Now()
		w.start()
		w.ready()
		eventually(t, 10*time.Second, "the reader is online", func() error {
			h, err := w.hallView()
			if err == nil && h.Readers[0].State != wire.DeviceOnline {
				err = errors.New(h.Readers[0].Err)
			}
			return err
		})
		took[n] = time.Since(start)
		eventually(t, 5*time.Second, "the rate is remembered", func() error {
			text, err := os.ReadFile(filepath.Join(w.data(), "rates.json"))
			if err == nil && string(text) != `{"w-05":9600}` {
				err = fmt.Errorf("%s", text)
			}
			return err
		})
		w.stop()
	}
	if took[0] < 2*time.Second || took[1] >= took[0] {
		t.Errorf("online after %v, and after a restart %v", took[0], took[1])
	}
	reader.Lay(vectors(t)[0].card(t))
	out, code := w.hallagent("read", "--line", "serial://"+pty.Name+"?baud=auto")
	if code != 0 || !contains(out, "测**") {
		t.Errorf("read at a rate to be found gives %d\n%s", code, out)
	}
}
