package lan

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallagent/hallagent/idcard"
	"github.com/hallagent/hallagent/sync/wire"
)

// newServer is a server for two windows whose gates are those of 127.0.0.1.
func newServer(t *testing.T) *Server {
	t.Helper()
	people := 12
	return New(Options{
		Listen:  []string{"127.0.0.1:0"},
		Hosts:   []string{"gw.hall.lan"},
		Origins: []string{"https://forms.intranet.example"},
		Hall:    func() Hall { return Hall{ID: "sample", Name: "样例大厅"} },
		Occupancy: func() wire.Occupancy {
			return wire.Occupancy{Day: "2026-11-23", People: &people, Trust: "approximate"}
		},
		Day: func(date string) (wire.Day, bool) {
			return wire.Day{Day: date, Steps: []wire.Step{{Minute: 300, In: 3, People: &people, Low: &people, High: &people, Trust: "good"}}}, date != "2026-01-01"
		},
		NotReady: func() []string { return nil },
		Window: func(w string) (Reader, bool) {
			return Reader{ID: "rd-" + w, Window: w, State: wire.DeviceOnline}, w == "05" || w == "06"
		},
		Metrics:  http.NotFoundHandler(),
		Pairings: NewPairings(filepath.Join(t.TempDir(), "pairings.json"), func(path string, text []byte) error { return os.WriteFile(path, text, 0o600) }),
		Log:      slog.New(slog.DiscardHandler),
	})
}

// call makes one request; headers are pairs of name and value.
func call(s *Server, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		} else {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// codeOf is the stable code of a problem.
func codeOf(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code {
		t.Fatalf("%q is no problem: %v", w.Body, err)
	}
	return p.Code
}

func TestGate(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"address", nil, 200},
		{"localhost", []string{"Host", "localhost:8080"}, 200},
		{"configured host", []string{"Host", "gw.hall.lan"}, 200},
		{"foreign host (DNS rebinding)", []string{"Host", "evil.example:8080"}, 421},
		{"host with our name in it", []string{"Host", "127.0.0.1.evil.example"}, 421},
		{"no host", []string{"Host", ""}, 421},
		{"own origin", []string{"Origin", "http://127.0.0.1:8080"}, 200},
		{"configured origin", []string{"Origin", "https://forms.intranet.example"}, 200},
		{"null origin", []string{"Origin", "null"}, 403},
		{"foreign origin", []string{"Origin", "https://evil.example"}, 403},
		{"look-alike origin", []string{"Origin", "https://forms.intranet.example.evil.example"}, 403},
		{"origin with another scheme", []string{"Origin", "http://forms.intranet.example"}, 403},
		{"origin with another port", []string{"Origin", "http://127.0.0.1:9999"}, 403},
		{"no-cors from another site", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"navigation to the API from another site", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 403},
	} {
		if w := call(s, "GET", "/v1/hall", "", c.headers...); w.Code != c.status {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.status)
		}
	}
	if w := call(s, "GET", "/", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"); w.Code != 200 {
		t.Errorf("a link to the page gives %d", w.Code)
	}
	w := call(s, "OPTIONS", "/v1/pair", "", "Origin", "https://forms.intranet.example", "Access-Control-Request-Private-Network", "true")
	if w.Code != 204 || w.Header().Get("Access-Control-Allow-Origin") != "https://forms.intranet.example" || w.Header().Get("Access-Control-Allow-Private-Network") != "true" {
		t.Errorf("preflight gives %d %v", w.Code, w.Header())
	}
	if w := call(s, "GET", "/v1/nothing", ""); w.Code != 404 || codeOf(t, w) != "not_found" {
		t.Errorf("an unknown path gives %d", w.Code)
	}
}

func TestReadAPI(t *testing.T) {
	s := newServer(t)
	for path, want := range map[string]string{
		"/healthz":      "ok",
		"/readyz":       "ready",
		"/v1/hall":      `"id":"sample"`,
		"/v1/occupancy": `"people":12`,
		"/":             "<!doctype html>",
	} {
		if w := call(s, "GET", path, ""); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s gives %d %q", path, w.Code, w.Body)
		}
	}
	s.opt.NotReady = func() []string { return []string{"store visits is not open"} }
	if w := call(s, "GET", "/readyz", ""); w.Code != 503 || !strings.Contains(w.Body.String(), "store visits") {
		t.Errorf("/readyz gives %d %q", w.Code, w.Body)
	}
}

// stream opens a stream over a real connection and gives its events one by one.
func stream(t *testing.T, base, path, token string) (next func() (name, data string), status int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	scan := bufio.NewScanner(res.Body)
	return func() (name, data string) {
		for scan.Scan() {
			if n, ok := strings.CutPrefix(scan.Text(), "event: "); ok {
				name = n
			}
			if d, ok := strings.CutPrefix(scan.Text(), "data: "); ok {
				return name, d
			}
		}
		return "", ""
	}, res.StatusCode
}

// serve runs the handler on a free port under the name 127.0.0.1.
func serve(t *testing.T, s *Server) string {
	t.Helper()
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	return h.URL
}

func TestOccupancyStream(t *testing.T) {
	s := newServer(t)
	next, status := stream(t, serve(t, s), "/v1/occupancy/stream", "")
	if status != 200 {
		t.Fatal(status)
	}
	if name, data := next(); name != "occupancy" || !strings.Contains(data, `"people":12`) {
		t.Errorf("first event is %s %s", name, data)
	}
	people := 13
	s.ShowOccupancy(wire.Occupancy{People: &people})
	if name, data := next(); name != "occupancy" || !strings.Contains(data, `"people":13`) {
		t.Errorf("second event is %s %s", name, data)
	}
}

// TestWindow lays cards at two windows: each goes to the claimant of its window
// and to nobody else.
func TestWindow(t *testing.T) {
	s := newServer(t)
	base := serve(t, s)
	five, six := pair(t, s, "05"), pair(t, s, "06")
	for _, c := range []struct {
		path, token string
		status      int
	}{
		{"/v1/windows/05/stream", "", 401},
		{"/v1/windows/05/stream", "wrong", 401},
		{"/v1/windows/05/stream", six, 403},
		{"/v1/windows/07/stream", pair(t, s, "07"), 404},
	} {
		if _, status := stream(t, base, c.path, c.token); status != c.status {
			t.Errorf("%s with %q gives %d, want %d", c.path, c.token, status, c.status)
		}
	}
	card := func(window string) {
		s.ShowCard(idcard.Event{Type: idcard.CardRead, Reader: "rd-" + window, Window: window, At: time.Now(),
			Card: &idcard.Card{Name: "测试" + idcard.Optional(window)}, Photo: make([]byte, 1024)})
	}
	card("05") // nobody has claimed it: dropped, not kept
	claim5, status := stream(t, base, "/v1/windows/05/stream?claim=1", five)
	if status != 200 {
		t.Fatal(status)
	}
	listen5, _ := stream(t, base, "/v1/windows/05/stream", five)
	foreign5, _ := stream(t, base, "/v1/windows/05/stream", pair(t, s, "05")) // same window, another workstation
	claim6, _ := stream(t, base, "/v1/windows/06/stream?claim=1", six)
	if _, status := stream(t, base, "/v1/windows/05/stream?claim=1", five); status != 409 {
		t.Errorf("a second claim gives %d", status)
	}
	for name, next := range map[string]func() (string, string){"claim5": claim5, "listen5": listen5, "foreign5": foreign5, "claim6": claim6} {
		if event, data := next(); event != "reader" || !strings.Contains(data, `"state":"online"`) {
			t.Errorf("%s begins with %s %s", name, event, data)
		}
	}
	card("05")
	card("06")
	s.ShowCard(idcard.Event{Type: idcard.CardRemoved, Window: "05"})
	for name, next := range map[string]func() (string, string){"claim5": claim5, "listen5": listen5} {
		event, data := next()
		var c CardEvent
		if err := json.Unmarshal([]byte(data), &c); err != nil || event != "card" || c.Card.Name != "测试05" || !c.Photo || c.Warnings == nil {
			t.Errorf("%s gets %s %s", name, event, data)
		}
	}
	if event, data := foreign5(); event != "removed" {
		t.Errorf("a stream without the claim gets %s %s", event, data)
	}
	if event, data := claim6(); event != "card" || !strings.Contains(data, "测试06") {
		t.Errorf("window 06 gets %s %s", event, data)
	}
	if claimed, unclaimed := s.Cards(); claimed != 2 || unclaimed != 1 {
		t.Errorf("%d claimed, %d unclaimed", claimed, unclaimed)
	}
}

// TestFullClaimant: a card that a stream has no room for reached nobody.
func TestFullClaimant(t *testing.T) {
	s := newServer(t)
	if err := s.opt.Pairings.save([]Pairing{{ID: "token", Windows: []string{"05"}}}); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.windows.join("05", "token", true); !ok {
		t.Fatal("the window is not free")
	}
	for range queueLen + 1 {
		s.ShowCard(idcard.Event{Type: idcard.CardRead, Window: "05", Card: &idcard.Card{}})
	}
	if claimed, unclaimed := s.Cards(); claimed != queueLen || unclaimed != 1 {
		t.Errorf("%d claimed, %d unclaimed", claimed, unclaimed)
	}
}

// TestDroppedClaimant: a card that another stream of the workstation took, but
// not the claimant, is nobody's.
func TestDroppedClaimant(t *testing.T) {
	s := newServer(t)
	if err := s.opt.Pairings.save([]Pairing{{ID: "token", Windows: []string{"05"}}}); err != nil {
		t.Fatal(err)
	}
	claimant, _ := s.windows.join("05", "token", true)
	look, _ := s.windows.join("05", "token", false)
	for range queueLen {
		claimant.send(nil)
	}
	card := idcard.Event{Type: idcard.CardRead, Window: "05", Card: &idcard.Card{}}
	s.ShowCard(card)
	<-claimant.queue // room again, but it was told to go
	s.ShowCard(card)
	if claimed, unclaimed := s.Cards(); claimed != 0 || unclaimed != 2 || len(look.queue) != 2 {
		t.Errorf("%d claimed, %d unclaimed, %d looked on", claimed, unclaimed, len(look.queue))
	}
}

// TestSlowClient shows that a client that does not read is dropped and holds up
// nobody.
func TestSlowClient(t *testing.T) {
	h := newHub()
	none := func() []byte { return nil }
	slow, quick := h.join(none), h.join(none)
	<-slow.queue
	<-quick.queue
	for i := range queueLen + 1 {
		h.send(fmt.Appendf(nil, "%d", i))
		<-quick.queue
	}
	select {
	case <-slow.gone:
	default:
		t.Error("the slow client is still there")
	}
	select {
	case <-quick.gone:
		t.Error("the quick client is gone")
	default:
	}
}

// TestRun takes the port of another process as soon as that lets go of it, and
// stops with streams open.
func TestRun(t *testing.T) {
	holder, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	s.opt.Listen = []string{holder.Addr().String()}
	s.listeners = []Listener{{Address: holder.Addr().String(), State: "waiting"}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	until(t, "the port is refused", func() bool { return s.Listeners()[0].Err != "" })
	holder.Close()
	until(t, "the port is taken", func() bool { return s.Listeners()[0].State == "online" })
	base := "http://" + holder.Addr().String()
	next, _ := stream(t, base, "/v1/occupancy/stream", "")
	next()
	cancel()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("an open stream keeps the server from stopping")
	}
	if _, err := http.Get(base + "/healthz"); err == nil {
		t.Error("it still answers")
	}
}

// until polls for a state that another goroutine brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestPageIsWhole makes sure the page needs nothing from outside.
func TestPageIsWhole(t *testing.T) {
	s := newServer(t)
	for _, path := range []string{"/", "/page/hall.css", "/page/hall.js", "/page/texts.js", "/page/icon.svg",
		"/window/05", "/page/window.css", "/page/window.js", "/page/language.js", "/page/card.js", "/page/stream.js"} {
		w := call(s, "GET", path, "")
		body, err := io.ReadAll(w.Body)
		if err != nil || w.Code != 200 || len(body) == 0 {
			t.Fatalf("%s gives %d, %v", path, w.Code, err)
		}
		for _, outside := range []string{"https://", "//cdn", "@import"} {
			if strings.Contains(string(body), outside) {
				t.Errorf("%s holds %s", path, outside)
			}
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self'") {
			t.Errorf("%s has policy %q", path, csp)
		}
	}
}

// TestRevoked takes a pairing out of the file while its stream is open: the next
// card does not go there.
func TestRevoked(t *testing.T) {
	s := newServer(t)
	base := serve(t, s)
	next, _ := stream(t, base, "/v1/windows/05/stream?claim=1", pair(t, s, "05"))
	next() // reader
	if err := os.WriteFile(s.opt.Pairings.path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ShowCard(idcard.Event{Type: idcard.CardRead, Reader: "rd-05", Window: "05", Card: &idcard.Card{Name: "测试05"}})
	if name, data := next(); name != "" {
		t.Errorf("a revoked stream gets %s %s", name, data)
	}
	if claimed, unclaimed := s.Cards(); claimed != 0 || unclaimed != 1 {
		t.Errorf("%d claimed, %d unclaimed", claimed, unclaimed)
	}
}
