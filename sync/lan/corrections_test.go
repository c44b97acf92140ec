package lan

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/hallagent/hallagent/sync/wire"
)

// pairAs pairs a workstation and gives its token.
func pairAs(t *testing.T, s *Server, window, role string) string {
	t.Helper()
	code, _ := s.opt.Pairings.Offer(window, role)
	w := call(s, "POST", "/v1/pair", `{"code":"`+code+`","workstation":"desk"}`, "Content-Type", "application/json")
	var got struct {
		Token   string
		Role    string
		Windows []string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Role != role || got.Windows == nil {
		t.Fatalf("pairing gives %d %s", w.Code, w.Body)
	}
	return "Bearer " + got.Token
}

func TestCorrections(t *testing.T) {
	s := newServer(t)
	var got []string
	var full error
	old := 12
	s.opt.Correct = func(_ context.Context, by string, people int, reason string) (wire.Correction, error) {
		if full == nil {
			got = append(got, by+" "+reason)
		}
		return wire.Correction{By: by, Old: &old, New: people, Reason: reason}, full
	}
	s.opt.Corrections = func() ([]json.RawMessage, error) { return nil, nil }
	manager, teller := pairAs(t, s, "", Manager), pairAs(t, s, "05", Teller)
	post := func(token, body string) (int, string) {
		w := call(s, "POST", "/v1/occupancy/corrections", body, "Content-Type", "application/json", "Authorization", token)
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		name, token, body string
		status            int
		code              string
	}{
		{"nobody", "", `{"people":3,"reason":"x"}`, 401, "token"},
		{"a teller", teller, `{"people":3,"reason":"x"}`, 403, "role"},
		{"no number", manager, `{"reason":"x"}`, 400, "people"},
		{"less than nobody", manager, `{"people":-1,"reason":"x"}`, 400, "people"},
		{"no reason", manager, `{"people":3,"reason":" "}`, 400, "reason"},
		{"a novel", manager, `{"people":3,"reason":"` + strings.Repeat("人", 201) + `"}`, 400, "reason"},
		{"not JSON", manager, `people=3`, 400, "body"},
		{"a head count", manager, `{"people":30,"reason":"清点"}`, 200, `{"by":"desk","old":12,"new":30,"reason":"清点"}`},
		{"an empty hall", manager, `{"people":0,"reason":"closed"}`, 200, `"new":0`},
	} {
		if status, body := post(c.token, c.body); status != c.status || !strings.Contains(body, c.code) {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
	}
	if len(got) != 2 || got[0] != "desk 清点" {
		t.Errorf("corrections %q", got)
	}
	full = errors.New("disk full")
	if status, body := post(manager, `{"people":30,"reason":"x"}`); status != 503 || !strings.Contains(body, `"store"`) {
		t.Errorf("without a store: %d %s", status, body)
	}
	if w := call(s, "GET", "/v1/occupancy/corrections", "", "Authorization", teller); w.Code != 403 {
		t.Errorf("a teller reads them: %d", w.Code)
	}
	if w := call(s, "GET", "/v1/occupancy/corrections", "", "Authorization", manager); w.Code != 200 || w.Body.String() != "[]\n" {
		t.Errorf("a manager reads %d %s", w.Code, w.Body)
	}
	if w := call(s, "GET", "/v1/windows/05/card", "", "Authorization", manager); w.Code == 200 || w.Code == 404 {
		t.Errorf("a manager at a window: %d", w.Code)
	}
}

func TestDay(t *testing.T) {
	s := newServer(t)
	for path, status := range map[string]int{
		"/v1/occupancy/day":                 200,
		"/v1/occupancy/day?date=2026-11-23": 200,
		"/v1/occupancy/day?date=2026-01-01": 404,
		"/v1/occupancy/day?date=yesterday":  400,
	} {
		if w := call(s, "GET", path, ""); w.Code != status {
			t.Errorf("%s: %d, want %d", path, w.Code, status)
		}
	}
}
