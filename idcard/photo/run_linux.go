//go:build linux && (amd64 || arm64 || loong64)

package photo

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// SubCommand is the name under which the program calls itself to become the
// decoder: PROGRAM SubCommand SECONDS -- ARGV…; it is handed to Confine.
const SubCommand = "photo-decoder"

// workDir and the environment tell a decoder nothing about this machine.
const workDir = "/"

func environment() []string { return []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"} }

// command is this program once more, in a session of its own: without terminal,
// and with all children in one group, since the sandbox lets none leave it.
func (d *Decoder) command(reason *os.File) *exec.Cmd {
	seconds := int(math.Ceil(d.opt.Limit.Seconds())) + 1
	cmd := exec.Command("/proc/self/exe", append([]string{SubCommand, fmt.Sprint(seconds), "--"}, d.opt.Command...)...)
	cmd.ExtraFiles = []*os.File{reason}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// killAll ends the process and its children. It must not have been waited for.
func killAll(p *os.Process) { unix.Kill(-p.Pid, unix.SIGKILL) }

// wait waits for the program to end, by itself or by ctx, and then ends what it
// leaves behind. calm returns when ctx kills no more.
func wait(cmd *exec.Cmd, calm func()) error {
	for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	calm()
	killAll(cmd.Process) // not reaped yet: its group cannot be somebody else's
	return cmd.Wait()
}
