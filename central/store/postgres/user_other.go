//go:build !unix

package postgres

import "os/exec"

// own and as have nothing to do: there is no other user to be.
func (s *Server) own(string) error { return nil }

func (s *Server) as(program *exec.Cmd) error {
	program.Dir = s.dir
	return nil
}
