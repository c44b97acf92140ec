//go:build unix

package postgres

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is the user that a test run by root lets the server be; ok is false
// for any other user, who may run it himself.
func account() (uid, gid int, ok bool, err error) {
	if os.Getuid() != 0 {
		return 0, 0, false, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, false, fmt.Errorf("run postgresql as another user than root: %w", err)
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, false, err
	}
	if gid, err = strconv.Atoi(u.Gid); err != nil {
		return 0, 0, false, err
	}
	return uid, gid, true, nil
}

// own gives a folder to the server's user.
func (s *Server) own(dir string) error {
	uid, gid, ok, err := account()
	if err != nil || !ok {
		return err
	}
	return os.Chown(dir, uid, gid)
}

// as lets a program run as the server's user, in the server's folder and apart
// from signals of the test's terminal.
func (s *Server) as(program *exec.Cmd) error {
	program.Dir = s.dir
	program.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	uid, gid, ok, err := account()
	if err != nil || !ok {
		return err
	}
	program.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}
