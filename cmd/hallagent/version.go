package main

import (
	"fmt"
	"runtime"
)

type versionCommand struct{}

func (versionCommand) Help() string { return "Example:\n  hallagent version" }

func (versionCommand) Run(s streams) error {
	_, err := fmt.Fprintf(s.out, "hallagent %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
