package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
)

type runCommand struct {
	LogFormat string `help:"Format of the log: text or json." enum:"text,json" default:"text"`
	LogLevel  string `help:"Least level that is logged: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
}

func (runCommand) Help() string {
	return "Example:\n  hallagent run --config /etc/hallagent/hallagent.yaml"
}

func (r runCommand) Run(ctx context.Context, c *commands, s streams) error {
	cfg, err := load(c.Config, s)
	if err != nil {
		return err
	}
	a, err := agent.New(cfg, version, r.logger(s))
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

func (r runCommand) logger(s streams) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(r.LogLevel)); err != nil {
		level = slog.LevelInfo // the enum of the flag lets nothing else through
	}
	opts := &slog.HandlerOptions{Level: level}
	if r.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(s.err, opts))
	}
	return slog.New(slog.NewTextHandler(s.err, opts))
}

// load reads the configuration, prints its problems and refuses one with errors.
func load(path string, s streams) (config.Config, error) {
	cfg, problems, err := config.Load(path)
	if err != nil {
		return cfg, err
	}
	fmt.Fprint(s.err, problems.Print(path))
	if n := len(problems.Errors()); n > 0 {
		fmt.Fprintf(s.err, "hallagent: %d errors in the configuration\n", n)
		return cfg, errFinding
	}
	return cfg, nil
}
