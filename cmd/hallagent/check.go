package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
)

type checkCommand struct {
	Connect bool `help:"Also open every line and connect to the broker. Stop the agent first: it holds the ports."`
	JSON    bool `help:"Print JSON." name:"json"`
}

func (checkCommand) Help() string {
	return "Examples:\n  hallagent check --config hallagent.yaml\n  hallagent check --connect"
}

// finding is what check prints about one thing it tried to reach.
type finding struct {
	What string `json:"what"`
	Good bool   `json:"good"`
	Err  string `json:"err,omitempty"`
	Hint string `json:"hint,omitempty"`
}

func (k checkCommand) Run(ctx context.Context, c *commands, s streams) error {
	cfg, problems, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	report := struct {
		File     string          `json:"file"`
		Problems config.Problems `json:"problems"`
		Connects []finding       `json:"connects,omitempty"`
	}{File: c.Config, Problems: problems}
	if report.Problems == nil {
		report.Problems = config.Problems{}
	}
	bad := len(problems.Errors()) > 0
	if k.Connect && !bad {
		for _, t := range agent.Try(ctx, cfg) {
			report.Connects = append(report.Connects, finding{t.What, t.Err == nil, text(t.Err), t.Hint})
			bad = bad || t.Err != nil
		}
	}
	if k.JSON {
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		err = printCheck(s, c.Config, problems, report.Connects)
	}
	if err == nil && bad {
		err = errFinding
	}
	return err
}

func printCheck(s streams, file string, problems config.Problems, connects []finding) error {
	if _, err := fmt.Fprint(s.out, problems.Print(file)); err != nil {
		return err
	}
	for _, f := range connects {
		if f.Good {
			fmt.Fprintf(s.out, "%s: good\n", f.What)
			continue
		}
		fmt.Fprintf(s.out, "%s: %s\n", f.What, f.Err)
		if f.Hint != "" {
			fmt.Fprintf(s.out, "    hint: %s\n", f.Hint)
		}
	}
	errors := len(problems.Errors())
	_, err := fmt.Fprintf(s.out, "%s: %d errors, %d warnings\n", file, errors, len(problems)-errors)
	return err
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
