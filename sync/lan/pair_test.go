package lan

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pair pairs a workstation and gives its token.
func pair(t *testing.T, s *Server, window string) string {
	t.Helper()
	text, _ := s.opt.Pairings.Offer(window, "teller")
	w := call(s, "POST", "/v1/pair", fmt.Sprintf(`{"code":%q,"workstation":"ws"}`, text), "Content-Type", "application/json")
	var got struct {
		Token, Role string
		Windows     []string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || got.Token == "" || got.Role != "teller" || !slices.Equal(got.Windows, []string{window}) {
		t.Fatalf("pairing gives %d %s: %v", w.Code, w.Body, err)
	}
	return got.Token
}

func TestPairing(t *testing.T) {
	s := newServer(t)
	post := func(body string, headers ...string) *httptest.ResponseRecorder {
		return call(s, "POST", "/v1/pair", body, append([]string{"Content-Type", "application/json"}, headers...)...)
	}
	text, expires := s.opt.Pairings.Offer("05", "teller")
	if len(text) != 10 || strings.Trim(text, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" || time.Until(expires) > codeLife {
		t.Errorf("code %q until %v", text, expires)
	}
	typed := strings.ToLower(text[:5] + "-" + text[5:]) // as a person may type it
	if w := post(fmt.Sprintf(`{"code":%q,"workstation":"ws"}`, typed)); w.Code != 200 {
		t.Errorf("the code gives %d %s", w.Code, w.Body)
	}
	if w := post(fmt.Sprintf(`{"code":%q,"workstation":"ws"}`, text)); w.Code != 403 || codeOf(t, w) != "code" {
		t.Errorf("a used code gives %d", w.Code)
	}
	if w := post(`{"code":"x","workstation":""}`); w.Code != 400 {
		t.Errorf("no workstation gives %d", w.Code)
	}
	if w := post(`{`); w.Code != 400 {
		t.Errorf("broken JSON gives %d", w.Code)
	}
	if w := post(`{}`, "Content-Type", "text/plain"); w.Code != 415 {
		t.Errorf("a form post gives %d", w.Code)
	}
	if w := post(`{"code":"ZZZZZZZZZZ","workstation":"ws"}`, "Content-Type", "application/json; charset=utf-8"); w.Code != 403 {
		t.Errorf("JSON with its charset gives %d", w.Code) // as .NET and axios send it
	}
	if w := call(s, "GET", "/v1/pair", ""); w.Code != 404 && w.Code != 405 {
		t.Errorf("GET gives %d", w.Code)
	}
	file, err := os.ReadFile(s.opt.Pairings.path)
	if err != nil || strings.Contains(string(file), text) {
		t.Errorf("the file holds the code: %v", err)
	}
	token := pair(t, s, "05")
	if file, _ = os.ReadFile(s.opt.Pairings.path); strings.Contains(string(file), token) {
		t.Error("the file holds the token")
	}
	other := NewPairings(s.opt.Pairings.path, nil) // as after a restart
	if p, ok, err := other.bearer(token); err != nil || !ok || !p.covers("05") || p.covers("06") {
		t.Errorf("after a restart the token gives %+v, %v, %v", p, ok, err)
	}
}

// TestPairingTries guesses: five wrong secrets void one code and not another,
// and an address that goes on is shut out.
func TestPairingTries(t *testing.T) {
	s := newServer(t)
	ps := s.opt.Pairings
	target, _ := ps.Offer("05", "teller")
	other, _ := ps.Offer("06", "teller")
	for range codeTries {
		if _, _, err := ps.redeem(target[:2]+"00000000", "ws", "a"); err != errWrongCode {
			t.Fatal(err)
		}
	}
	if _, _, err := ps.redeem(target, "ws", "b"); err != errWrongCode {
		t.Errorf("after five wrong tries the code gives %v", err)
	}
	for range wrongCodes {
		ps.redeem("ZZZZZZZZZZ", "ws", "c")
	}
	if _, _, err := ps.redeem(other, "ws", "c"); err != errTooMany {
		t.Errorf("an address that guesses gets %v", err)
	}
	if _, _, err := ps.redeem(other, "ws", "d"); err != nil {
		t.Errorf("the other code gives %v", err)
	}
}

func TestPairingExpires(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ps := NewPairings(filepath.Join(dir, "p.json"), func(path string, text []byte) error { return os.WriteFile(path, text, 0o600) })
		text, _ := ps.Offer("05", "teller")
		time.Sleep(codeLife + time.Second)
		if _, _, err := ps.redeem(text, "ws", "a"); err != errWrongCode {
			t.Errorf("an old code gives %v", err)
		}
	})
}

// TestPairingNotKept: a code stays good while its pairing cannot be written.
func TestPairingNotKept(t *testing.T) {
	full := errors.New("no space left on device")
	s := newServer(t)
	ps := s.opt.Pairings
	write := ps.replace
	ps.replace = func(string, []byte) error { return full }
	text, _ := ps.Offer("05", "teller")
	for range codeTries + 1 {
		if _, _, err := ps.redeem(text, "ws", "a"); !errors.Is(err, full) {
			t.Fatalf("a full disk gives %v", err)
		}
	}
	ps.replace = write
	if _, p, err := ps.redeem(text, "ws", "a"); err != nil || !p.covers("05") {
		t.Errorf("with room again the code gives %+v, %v", p, err)
	}
	if _, _, err := ps.redeem(text, "ws", "a"); err != errWrongCode {
		t.Errorf("the second time the code gives %v", err)
	}
}

// TestPairingsUnreadable breaks the file: every token is refused as what it is,
// and the log says so once, with a call without a token in between.
func TestPairingsUnreadable(t *testing.T) {
	var log strings.Builder
	s := newServer(t)
	s.opt.Log = slog.New(slog.NewTextHandler(&log, nil))
	token := pair(t, s, "05")
	good, err := os.ReadFile(s.opt.Pairings.path)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(status int, code string, headers ...string) {
		t.Helper()
		// Window 06: the token of 05 gets past the pairings, and no further.
		if w := call(s, "GET", "/v1/windows/06/stream", "", headers...); w.Code != status || codeOf(t, w) != code {
			t.Errorf("got %d %s, want %d %s", w.Code, w.Body, status, code)
		}
	}
	replace := func(text []byte, at time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(s.opt.Pairings.path, text, 0o600), os.Chtimes(s.opt.Pairings.path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	bearer := []string{"Authorization", "Bearer " + token}
	ask(403, "scope", bearer...)
	replace([]byte("[{"), time.Unix(1_800_000_000, 0))
	ask(503, "store", bearer...)
	ask(401, "token")
	ask(503, "store", bearer...)
	replace(good, time.Unix(1_800_000_010, 0))
	ask(403, "scope", bearer...)
	ask(403, "scope", bearer...)
	broken, again := strings.Count(log.String(), "level=ERROR"), strings.Count(log.String(), "can be read again")
	if broken != 1 || again != 1 || !strings.Contains(log.String(), "hint=") {
		t.Errorf("the log is\n%s", log.String())
	}
}
