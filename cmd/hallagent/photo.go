package main

import "github.com/hallagent/hallagent/idcard/photo"

// photoCommand is how the agent calls itself to run the site's photo decoder
// locked in; see photo.SubCommand. It is not for people.
type photoCommand struct {
	Seconds int      `arg:""`
	Argv    []string `arg:""`
}

func (p photoCommand) Run() error { return photo.Confine(p.Seconds, p.Argv) }
