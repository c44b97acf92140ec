package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/sync/lan"
)

// workstation stands at one window: it pairs itself as an installer would, and
// then claims every card that is laid down there.
type workstation struct {
	window, page string
	control      string // data directory of the agent, for the pairing code
	p            *printer
}

func (w *workstation) run(ctx context.Context) error {
	token := ""
	for wait(ctx, 300*time.Millisecond) {
		err := w.once(ctx, &token)
		if err != nil && ctx.Err() == nil && token != "" {
			w.p.say("window "+w.window, "stream is lost: %v", err)
		}
	}
	return ctx.Err()
}

// once pairs the workstation if it is not, and follows its window. The agent may
// not be up yet: then it is tried again.
func (w *workstation) once(ctx context.Context, token *string) (err error) {
	if *token == "" {
		if *token, err = w.pair(ctx); err != nil {
			return err
		}
	}
	return w.follow(ctx, *token)
}

// pair turns a code into a token.
func (w *workstation) pair(ctx context.Context) (string, error) {
	token, err := pair(ctx, w.control, w.page, url.Values{"window": {w.window}}, "demo-"+w.window)
	if err == nil {
		w.p.say("window "+w.window, "workstation is paired")
	}
	return token, err
}

// pair asks the control socket for a code, as `hallagent pair` does, and turns it
// into a token.
func pair(ctx context.Context, control, page string, as url.Values, name string) (token string, err error) {
	var offer agent.Offer
	if err := post(ctx, agent.ControlClient(control), "http://agent/pairings?"+as.Encode(), "", nil, &offer); err != nil {
		return "", err
	}
	var answer struct{ Token string }
	body := map[string]string{"code": offer.Code, "workstation": name}
	if err := post(ctx, http.DefaultClient, page+"/v1/pair", "", body, &answer); err != nil {
		return "", err
	}
	return answer.Token, nil
}

// manager is a workstation at no window, from which the number of people is
// corrected after a head count.
type manager struct {
	page, control string
	token         string
	p             *printer
}

// count tells the agent how many visitors are inside, as soon as it takes it.
func (m *manager) count(ctx context.Context, people int, reason string) {
	for wait(ctx, 300*time.Millisecond) {
		var err error
		if m.token == "" {
			m.token, err = pair(ctx, m.control, m.page, url.Values{"role": {lan.Manager}}, "demo-manager")
		}
		if err == nil {
			err = post(ctx, http.DefaultClient, m.page+"/v1/occupancy/corrections", m.token, map[string]any{"people": people, "reason": reason}, new(json.RawMessage))
		}
		if err == nil {
			m.p.say("manager", "head count: %d people, %s", people, reason)
			return
		}
	}
}

// post sends JSON, with a token if there is one.
func post(ctx context.Context, c *http.Client, to, token string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("post %s: %s", to, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(out)
}

// follow prints the events of the window's stream until it ends.
func (w *workstation) follow(ctx context.Context, token string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.page+"/v1/windows/"+w.window+"/stream?claim=1", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("follow window %s: %s", w.window, res.Status)
	}
	event := ""
	for scan := bufio.NewScanner(res.Body); scan.Scan(); {
		if name, ok := strings.CutPrefix(scan.Text(), "event: "); ok {
			event = name
		}
		if data, ok := strings.CutPrefix(scan.Text(), "data: "); ok {
			w.tell(event, []byte(data))
		}
	}
	return ctx.Err()
}

// tell prints an event; of a card only that it came, even here.
func (w *workstation) tell(event string, data []byte) {
	switch event {
	case "card":
		var c lan.CardEvent
		if json.Unmarshal(data, &c) == nil {
			w.p.say("window "+w.window, "card read at %s by %s, %d characters of name", c.At.Local().Format("15:04:05.000"), c.Reader, len([]rune(c.Card.Name)))
		}
	case "removed":
		w.p.say("window "+w.window, "card lifted")
	}
}
