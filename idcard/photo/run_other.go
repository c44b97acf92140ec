//go:build !linux || !(amd64 || arm64 || loong64)

package photo

import (
	"errors"
	"os"
	"os/exec"
)

// SubCommand is the name under which the program calls itself to become the
// decoder, where there is a sandbox.
const SubCommand = "photo-decoder"

const (
	workDir   = ""
	strongest = "seccomp+landlock"
)

func sandbox() string { return "none" }

// environment is what the system itself needs to start a program.
func environment() []string {
	var env []string
	for _, name := range []string{"PATH", "LANG", "SystemRoot"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// command is the program without anything in between.
func (d *Decoder) command(*os.File) *exec.Cmd {
	return exec.Command(d.opt.Command[0], d.opt.Command[1:]...)
}

func killAll(p *os.Process) { p.Kill() }

// wait waits for the program to end, by itself or by ctx.
func wait(cmd *exec.Cmd, calm func()) error {
	err := cmd.Wait()
	calm()
	return err
}

// Confine is for Linux only.
func Confine(int, []string) error {
	return errors.New("confine the decoder: no sandbox on this system")
}
