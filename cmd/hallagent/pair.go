package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
)

type pairCommand struct {
	Window string `help:"The window the workstation stands at." placeholder:"05"`
	Role   string `help:"manager: a workstation that corrects the number of people, at no window." placeholder:"manager"`
}

// Validate wants one of the two.
func (p pairCommand) Validate() error {
	switch {
	case p.Role != "" && p.Role != "manager":
		return fmt.Errorf("--role: %q is not known; it is manager", p.Role)
	case (p.Window == "") == (p.Role == ""):
		return errors.New("give --window W for a teller's workstation, or --role manager")
	}
	return nil
}

func (pairCommand) Help() string {
	return "The code is typed in at the workstation within ten minutes. The agent must be running.\n\nExample:\n  hallagent pair --window 05\n  hallagent pair --role manager"
}

func (p pairCommand) Run(ctx context.Context, c *commands, s streams) error {
	cfg, err := load(c.Config, s)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/pairings?"+url.Values{"window": {p.Window}, "role": {p.Role}}.Encode(), nil)
	if err != nil {
		return fmt.Errorf("ask the agent: %w", err)
	}
	answer, err := agent.ControlClient(cfg.Data).Do(req)
	if err != nil {
		return fmt.Errorf("ask the agent: %w\nhint: the agent must be running, and this command run as its user", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("ask the agent: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("pair %s: %s", cmp.Or(p.Role, "window "+p.Window), strings.TrimSpace(string(body)))
	}
	var offer agent.Offer
	if err := json.Unmarshal(body, &offer); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	what, which := "window", offer.Window
	if which == "" {
		what, which = "role", offer.Role
	}
	_, err = fmt.Fprintf(s.out, "code     %s\n%-8s %s\nvalid to %s\n",
		offer.Code, what, which, offer.Expires.Local().Format("15:04:05"))
	return err
}
