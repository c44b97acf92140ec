package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
)

type pairCommand struct {
	Window string `help:"The window the workstation stands at." required:"" placeholder:"05"`
}

func (pairCommand) Help() string {
	return "The code is typed in at the workstation within ten minutes. The agent must be running.\n\nExample:\n  hallagent pair --window 05"
}

func (p pairCommand) Run(ctx context.Context, c *commands, s streams) error {
	cfg, err := load(c.Config, s)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/pairings?window="+url.QueryEscape(p.Window), nil)
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
		return fmt.Errorf("pair window %s: %s", p.Window, strings.TrimSpace(string(body)))
	}
	var offer agent.Offer
	if err := json.Unmarshal(body, &offer); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	_, err = fmt.Fprintf(s.out, "code     %s\nwindow   %s\nvalid to %s\n",
		offer.Code, offer.Window, offer.Expires.Local().Format("15:04:05"))
	return err
}
