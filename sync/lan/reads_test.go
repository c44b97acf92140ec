package lan

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/idcard"
)

// lay makes the event of a card with a photo, and gives the photo's bytes.
func lay(window, name string) (idcard.Event, []byte) {
	photo := bytes.Repeat([]byte{7}, 1024)
	return idcard.Event{Type: idcard.CardRead, Reader: "rd-" + window, Window: window, At: time.Now(),
		Card: &idcard.Card{Name: idcard.Optional(name)}, Photo: photo}, photo
}

// asking makes requests with a token.
func asking(s *Server, token string) func(method, path, body string) *httptest.ResponseRecorder {
	return func(method, path, body string) *httptest.ResponseRecorder {
		return call(s, method, path, body, "Authorization", "Bearer "+token, "Content-Type", "application/json")
	}
}

const wish = `{"purpose":"test","notice":"n-1"}`

// cardIn is the card of an answer.
func cardIn(t *testing.T, w *httptest.ResponseRecorder) HeldCard {
	t.Helper()
	var c HeldCard
	if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || w.Code != 200 || c.Card == nil || c.Addresses == nil || c.Warnings == nil {
		t.Fatalf("gives %d %s, %v", w.Code, w.Body, err)
	}
	return c
}

// TestHeld follows a card from the reader to its end, in all the ways it ends.
func TestHeld(t *testing.T) {
	s := newServer(t)
	token := pair(t, s, "05")
	mine, other, elsewhere := asking(s, token), asking(s, pair(t, s, "05")), asking(s, pair(t, s, "06"))
	id, _, _ := s.opt.Pairings.bearer(token)
	card := func(ask func(string, string, string) *httptest.ResponseRecorder) int {
		return ask("GET", "/v1/windows/05/card", "").Code
	}
	claim, ok := s.windows.join("05", id.ID, true)
	if !ok {
		t.Fatal("the window is not free")
	}
	if w := mine("GET", "/v1/windows/05/card", ""); w.Code != 404 || codeOf(t, w) != "no_card" {
		t.Errorf("without a card: %d %s", w.Code, w.Body)
	}
	var photo []byte
	put := func(name string) {
		var e idcard.Event
		e, photo = lay("05", name)
		s.ShowCard(e)
		<-claim.queue
	}
	gone := func(how string) {
		t.Helper()
		if code := card(mine); code != 404 {
			t.Errorf("%s: the card gives %d", how, code)
		}
		if !bytes.Equal(photo, make([]byte, 1024)) {
			t.Errorf("%s: the photo is not wiped", how)
		}
	}
	put("测试甲")
	s.ShowCard(idcard.Event{Type: idcard.CardAddresses, Window: "05", Addresses: []string{"虚构省新址"}})
	if e := string(<-claim.queue); !strings.HasPrefix(e, "event: addresses\n") || !strings.Contains(e, `"new_addresses":["虚构省新址"]`) {
		t.Errorf("the stream gets %q", e)
	}
	if c := cardIn(t, mine("GET", "/v1/windows/05/card", "")); c.Card.Name != "测试甲" || !c.Photo || !slices.Equal(c.Addresses, []string{"虚构省新址"}) {
		t.Errorf("the card is %+v", c)
	}
	if a, b, c := card(other), card(elsewhere), call(s, "GET", "/v1/windows/05/card", "").Code; a != 404 || b != 403 || c != 401 {
		t.Errorf("others get %d, %d, %d", a, b, c)
	}
	s.ShowCard(idcard.Event{Type: idcard.CardRemoved, Window: "05"})
	<-claim.queue
	gone("lifted")

	put("测试乙")
	first := photo
	put("测试丙")
	if !bytes.Equal(first, make([]byte, 1024)) || cardIn(t, mine("GET", "/v1/windows/05/card", "")).Card.Name != "测试丙" {
		t.Error("the next card did not take the place of the first")
	}
	s.windows.leave("05", claim)
	gone("stream ended")

	claim, _ = s.windows.join("05", id.ID, true)
	put("测试丁")
	s.windows.tidy("05", id.ID, true)
	if card(mine) != 200 {
		t.Error("tidying takes a card away")
	}
	if err := os.WriteFile(s.opt.Pairings.path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, token := range s.windows.holders() {
		s.windows.tidy(name, token, s.opt.Pairings.stands(token, name))
	}
	select {
	case <-claim.gone:
	default:
		t.Error("revoked: the stream goes on")
	}
	if !bytes.Equal(photo, make([]byte, 1024)) {
		t.Error("revoked: the photo is not wiped")
	}

	e, photo := lay("06", "测试戊")
	s.ShowCard(e)
	if !bytes.Equal(photo, make([]byte, 1024)) {
		t.Error("the photo of a card that nobody claimed is not wiped")
	}
}

// TestHeldTooLong keeps no card for longer than its time to live.
func TestHeldTooLong(t *testing.T) {
	s := newServer(t)
	token := pair(t, s, "05")
	p, _, _ := s.opt.Pairings.bearer(token)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.tidy(ctx) })
		claim, _ := s.windows.join("05", p.ID, true)
		e, photo := lay("05", "测试甲")
		s.ShowCard(e)
		<-claim.queue
		time.Sleep(holdFor - time.Second)
		if _, ok := s.windows.holding("05", p.ID, false); !ok || len(claim.queue) > 0 {
			t.Error("the card is gone early")
		}
		time.Sleep(time.Second + tidyEach)
		synctest.Wait()
		if !bytes.Equal(photo, make([]byte, 1024)) {
			t.Error("the card is still there")
		}
		if e := string(<-claim.queue); !strings.HasPrefix(e, "event: removed\n") {
			t.Errorf("the screen is told %q", e)
		}
		e, photo = lay("05", "测试乙")
		s.ShowCard(e)
		cancel()
		wg.Wait()
		if !bytes.Equal(photo, make([]byte, 1024)) {
			t.Error("the card outlives the server")
		}
	})
}

// TestPhoto asks for the photo with and without a decoder.
func TestPhoto(t *testing.T) {
	s := newServer(t)
	token := pair(t, s, "05")
	mine := asking(s, token)
	p, _, _ := s.opt.Pairings.bearer(token)
	s.windows.join("05", p.ID, true)
	get := func(query string) *httptest.ResponseRecorder {
		return mine("GET", "/v1/windows/05/photo"+query, "")
	}
	if w := get(""); w.Code != 404 || codeOf(t, w) != "no_card" {
		t.Errorf("without a card: %d", w.Code)
	}
	e, _ := lay("05", "测试甲")
	e.Photo = nil
	s.ShowCard(e)
	if w := get(""); w.Code != 404 || codeOf(t, w) != "no_photo" {
		t.Errorf("without a photo: %d", w.Code)
	}
	e, photo := lay("05", "测试乙")
	want := bytes.Clone(photo)
	s.ShowCard(e)
	raw := func(w *httptest.ResponseRecorder) bool {
		return w.Code == 200 && w.Header().Get("Content-Type") == "application/octet-stream" &&
			w.Header().Get("Cache-Control") == "no-store" && bytes.Equal(w.Body.Bytes(), want)
	}
	if w := get(""); !raw(w) {
		t.Errorf("without a decoder: %d %v, %d bytes", w.Code, w.Header(), w.Body.Len())
	}
	asked := 0
	var trouble *idcard.Trouble
	s.opt.Photo = func(_ context.Context, block []byte) ([]byte, *idcard.Trouble) {
		asked++
		if trouble != nil {
			return nil, trouble
		}
		if !bytes.Equal(block, want) {
			t.Error("the decoder gets something else")
		}
		return []byte("picture"), nil
	}
	trouble = &idcard.Trouble{Code: "photo_decoder_timeout", EN: "too long"}
	if w := get(""); w.Code != 502 || codeOf(t, w) != "photo_decoder_timeout" {
		t.Errorf("with a stuck decoder: %d %s", w.Code, w.Body)
	}
	trouble = nil
	for range 2 {
		if w := get(""); w.Code != 200 || w.Header().Get("Content-Type") != "image/png" || w.Body.String() != "picture" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("with a decoder: %d %v %q", w.Code, w.Header(), w.Body)
		}
	}
	if asked != 2 {
		t.Errorf("the decoder is asked %d times: the picture is not kept", asked)
	}
	if w := get("?raw=1"); !raw(w) {
		t.Errorf("raw: %d %v", w.Code, w.Header())
	}
	h := s.windows.all["05"].held
	png := h.png
	s.ShowCard(idcard.Event{Type: idcard.CardRemoved, Window: "05"})
	if !bytes.Equal(png, make([]byte, len("picture"))) || get("").Code != 404 {
		t.Error("the picture outlives the card")
	}
}

// TestReadsRefused sends what cannot be granted.
func TestReadsRefused(t *testing.T) {
	s := newServer(t)
	mine := asking(s, pair(t, s, "05"))
	for _, c := range []struct {
		body   string
		status int
		code   string
	}{
		{`{"notice":"n"}`, 400, "purpose"},
		{`{"purpose":"p","notice":" "}`, 400, "notice"},
		{fmt.Sprintf(`{"purpose":%q,"notice":"n"}`, strings.Repeat("字", 201)), 400, "purpose"},
		{`{"purpose":"p","notice":"n","within":"soon"}`, 400, "within"},
		{`{"purpose":"p","notice":"n","within":"3m"}`, 400, "within"},
		{`{"purpose":"p","notice":"n","within":"-1s"}`, 400, "within"},
		{`{"purpose":"p","notice":"n","within":30}`, 400, "body"},
		{`{"purpose":"p","notice":"n","lookup":true}`, 501, "lookup_not_supported"},
		{`{`, 400, "body"},
	} {
		if w := mine("POST", "/v1/windows/05/reads", c.body); w.Code != c.status || codeOf(t, w) != c.code {
			t.Errorf("%.40s gives %d %s", c.body, w.Code, w.Body)
		}
	}
	if w := mine("POST", "/v1/windows/06/reads", wish); w.Code != 403 {
		t.Errorf("another window gives %d", w.Code)
	}
	if w := call(s, "POST", "/v1/windows/05/reads", wish, "Content-Type", "application/json"); w.Code != 401 {
		t.Errorf("without a token: %d", w.Code)
	}
}

// reads is a server with requests for cards in virtual time.
type reads struct {
	*Server
	rereads []string
	there   *idcard.Event // what lies there
}

func newReads(t *testing.T) *reads {
	r := &reads{Server: newServer(t)}
	r.opt.Reread = func(window string) bool {
		r.rereads = append(r.rereads, window)
		if r.there == nil {
			return false
		}
		r.ShowCard(*r.there) // needs the windows' lock: nobody may hold it
		return true
	}
	return r
}

// post makes a request that waits; its answer comes when it has one.
func (r *reads) post(token, body string) <-chan *httptest.ResponseRecorder {
	answer := make(chan *httptest.ResponseRecorder, 1)
	go func() { answer <- asking(r.Server, token)("POST", "/v1/windows/05/reads", body) }()
	synctest.Wait()
	return answer
}

// TestReads waits for cards with and without a stream.
func TestReads(t *testing.T) {
	r := newReads(t)
	mine, other := pair(t, r.Server, "05"), pair(t, r.Server, "05")
	p, _, _ := r.opt.Pairings.bearer(mine)
	synctest.Test(t, func(t *testing.T) {
		// The next card.
		a := r.post(mine, wish)
		for name, token := range map[string]string{"another": other, "the same": mine} {
			if w := <-r.post(token, wish); w.Code != 409 || codeOf(t, w) != "claimed" {
				t.Errorf("a second request of %s workstation gives %d", name, w.Code)
			}
		}
		if _, ok := r.windows.join("05", "somebody", true); ok {
			t.Error("a stream takes the window from a request")
		}
		e, _ := lay("05", "测试甲")
		r.ShowCard(e)
		if c := cardIn(t, <-a); c.Card.Name != "测试甲" {
			t.Errorf("the answer is %+v", c)
		}
		if w := asking(r.Server, mine)("GET", "/v1/windows/05/card", ""); w.Code != 200 {
			t.Errorf("the card gives %d", w.Code)
		}
		if len(r.rereads) != 0 {
			t.Errorf("rereads %v", r.rereads)
		}

		// A card that somebody got is read again only on request.
		r.there = &e
		if w := <-r.post(mine, `{"purpose":"p","notice":"n","within":"5s"}`); w.Code != 504 || codeOf(t, w) != "no_card" {
			t.Errorf("a card that was given gives %d %s", w.Code, w.Body)
		}
		e, _ = lay("05", "测试甲")
		if c := cardIn(t, <-r.post(mine, `{"purpose":"p","notice":"n","again":true}`)); c.Card.Name != "测试甲" || len(r.rereads) != 1 {
			t.Errorf("again gives %+v, rereads %v", c, r.rereads)
		}

		// A card that nobody got.
		r.ShowCard(idcard.Event{Type: idcard.CardRemoved, Window: "05"})
		e, _ = lay("05", "测试乙")
		r.ShowCard(e)
		e, _ = lay("05", "测试乙")
		if c := cardIn(t, <-r.post(other, wish)); c.Card.Name != "测试乙" || len(r.rereads) != 2 {
			t.Errorf("a card that lies there gives %+v, rereads %v", c, r.rereads)
		}
		r.ShowCard(idcard.Event{Type: idcard.CardRemoved, Window: "05"})
		r.there = nil

		// What one workstation got and wants again is nobody else's, even when it
		// does not wait for it.
		e, _ = lay("05", "测试己")
		a = r.post(mine, wish)
		r.ShowCard(e)
		<-a
		reading, there, ok := r.windows.claim("05", p.ID, true)
		if !there || !ok {
			t.Fatal("a workstation may not have its card again")
		}
		r.windows.unclaim("05", reading)
		a = r.post(other, `{"purpose":"p","notice":"n","within":"5s","again":true}`)
		e, photo := lay("05", "测试己") // what it had asked for
		r.ShowCard(e)
		if w := <-a; w.Code != 504 || !bytes.Equal(photo, make([]byte, 1024)) || asking(r.Server, mine)("GET", "/v1/windows/05/card", "").Code != 200 {
			t.Errorf("another workstation gets %d %s", w.Code, w.Body)
		}
		r.ShowCard(e) // again, while nobody waits
		if w := <-r.post(other, `{"purpose":"p","notice":"n","within":"5s"}`); w.Code != 504 || len(r.rereads) != 2 {
			t.Errorf("another workstation gets %d %s, rereads %v", w.Code, w.Body, r.rereads)
		}
		r.ShowCard(idcard.Event{Type: idcard.CardRemoved, Window: "05"})

		// Nothing in time, with a trouble meanwhile.
		began := time.Now()
		a = r.post(mine, `{"purpose":"p","notice":"n","within":"1m30s"}`)
		r.ShowCard(idcard.Event{Type: idcard.CardTroubled, Window: "05", Trouble: &idcard.Trouble{Code: "read_failed", EN: "Reading failed"}})
		w := <-a
		if w.Code != 504 || !strings.Contains(w.Body.String(), "1m30s") || !strings.Contains(w.Body.String(), "Reading failed (read_failed)") {
			t.Errorf("nothing gives %d %s", w.Code, w.Body)
		}
		if took := time.Since(began); took != 90*time.Second {
			t.Errorf("after %v", took)
		}

		// The claim of the same workstation's stream is no obstacle, and it gets
		// the card too.
		claim, ok := r.windows.join("05", p.ID, true)
		if !ok {
			t.Fatal("the window is not free after a request")
		}
		if w := <-r.post(other, wish); w.Code != 409 {
			t.Errorf("the window of a stream gives %d", w.Code)
		}
		a = r.post(mine, wish)
		e, _ = lay("05", "测试丙")
		r.ShowCard(e)
		if c := cardIn(t, <-a); c.Card.Name != "测试丙" || !strings.HasPrefix(string(<-claim.queue), "event: card\n") {
			t.Errorf("beside a stream the answer is %+v", c)
		}
		r.windows.leave("05", claim)

		// A pairing that is revoked meanwhile.
		a = r.post(mine, wish)
		if err := os.WriteFile(r.opt.Pairings.path, []byte("[]"), 0o600); err != nil {
			t.Fatal(err)
		}
		e, photo = lay("05", "测试丁")
		r.ShowCard(e)
		if w := <-a; w.Code != 401 || !bytes.Equal(photo, make([]byte, 1024)) {
			t.Errorf("a revoked workstation gets %d %s", w.Code, w.Body)
		}
	})
	if claimed, unclaimed := r.Cards(); claimed != 5 || unclaimed != 4 {
		t.Errorf("%d claimed, %d unclaimed", claimed, unclaimed)
	}
}

// TestReadGivenUp frees the window when the caller goes.
func TestReadGivenUp(t *testing.T) {
	s := newServer(t)
	token := pair(t, s, "05")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		req := httptest.NewRequestWithContext(ctx, "POST", "/v1/windows/05/reads", strings.NewReader(wish))
		req.Host = "127.0.0.1"
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		done := make(chan struct{})
		go func() {
			s.Handler().ServeHTTP(httptest.NewRecorder(), req)
			close(done)
		}()
		synctest.Wait()
		cancel()
		<-done
		if _, ok := s.windows.join("05", "somebody", true); !ok {
			t.Error("the window is still claimed")
		}
	})
}

// TestReadHungUp frees the window when the caller's connection ends, however its
// request was sent.
func TestReadHungUp(t *testing.T) {
	s := newServer(t)
	token := pair(t, s, "05")
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	address := strings.TrimPrefix(srv.URL, "http://")
	const head = "POST /v1/windows/05/reads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAuthorization: Bearer "
	for name, body := range map[string]string{
		"whole":   fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(wish), wish),
		"padded":  fmt.Sprintf("Content-Length: %d\r\n\r\n%s \n", len(wish)+2, wish),
		"chunked": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(wish), wish),
	} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, head+token+"\r\n"+body); err != nil {
			t.Fatal(err)
		}
		claimed := func() bool {
			s.windows.mu.Lock()
			defer s.windows.mu.Unlock()
			return s.windows.at("05").reading != nil
		}
		await(t, name+": the window is claimed", claimed)
		c.Close()
		await(t, name+": the window is free", func() bool { return !claimed() })
	}
	if w := asking(s, token)("POST", "/v1/windows/05/reads", wish+"{}"); w.Code != 400 {
		t.Errorf("a body with rubbish behind it gives %d", w.Code)
	}
}

func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what + ": not within 5 s")
		}
	}
}
