//go:build linux && (amd64 || arm64 || loong64)

package photo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// reasonFile is the descriptor on which the locked-in process says why it could
// not become the decoder. It is closed when it did.
const reasonFile = 3

// Confine locks this process in and turns it into the decoder: argv, its program
// as an absolute path. seconds bound its processor time. It returns only when
// that could not be done, and has then said why to the process that started it.
func Confine(seconds int, argv []string) error {
	runtime.LockOSThread() // what follows is about the thread that executes the decoder
	err := confine(seconds, argv)
	if err == nil {
		err = unix.Exec(argv[0], argv, os.Environ())
		err = fmt.Errorf("execute %s: %w", argv[0], err)
	}
	unix.Write(reasonFile, []byte(err.Error())) // where nobody listens, nothing can be said
	return err
}

func confine(seconds int, argv []string) error {
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
		return errors.New("confine the decoder: its program needs an absolute path")
	}
	if err := hideFiles(); err != nil {
		return fmt.Errorf("hide descriptors: %w", err)
	}
	if err := landlock.V11.BestEffort().Restrict(readable(argv[0])...); err != nil {
		return fmt.Errorf("restrict files with Landlock: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	none := [2]unix.CapUserData{} // of root, too; the bit above lets none come back
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		return fmt.Errorf("give up privileges: %w", err)
	}
	for _, l := range limits(seconds) {
		if err := l.set(); err != nil {
			return fmt.Errorf("limit resource %d: %w", l.resource, err)
		}
	}
	if err := installFilter(filter(uint32(os.Getpid()))); err != nil {
		return fmt.Errorf("install the seccomp filter: %w", err)
	}
	return nil
}

// hideFiles lets no descriptor but the standard three through to the decoder,
// wherever this process has it from.
func hideFiles() error {
	err := unix.CloseRange(reasonFile, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	if !errors.Is(err, unix.ENOSYS) {
		return err
	}
	entries, err := os.ReadDir("/proc/self/fd") // before Linux 5.11
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil && fd >= reasonFile {
			unix.CloseOnExec(fd)
		}
	}
	return err
}

// readable is what a decoder may read and execute: its own folder, the system's
// programs and libraries, and what a C library opens when it starts.
func readable(program string) []landlock.Rule {
	programs, folders := []string{program}, []string{"/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.conf.d", "/proc/self"}
	if real, err := filepath.EvalSymlinks(program); err == nil {
		programs = append(programs, real)
	}
	for _, p := range programs {
		if folder := filepath.Dir(p); folder != "/" {
			folders = append(folders, folder)
		}
	}
	return []landlock.Rule{
		landlock.RODirs(folders...).IgnoreIfMissing(),
		landlock.ROFiles(append(programs, "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.preload",
			"/dev/null", "/dev/zero", "/dev/urandom")...).IgnoreIfMissing(),
	}
}

type resourceLimit struct {
	resource int
	most     uint64
}

// set lowers a limit, for good; one that is lower already stays.
func (l resourceLimit) set() error {
	var now unix.Rlimit
	if err := unix.Getrlimit(l.resource, &now); err != nil {
		return err
	}
	most := min(l.most, now.Max)
	return unix.Setrlimit(l.resource, &unix.Rlimit{Cur: most, Max: most})
}

// limits by resource. Processes are counted over the whole user, threads and all
// other programs included: less would keep a decoder from starting on a desktop,
// and the service manager has a limit that counts ours alone. A runtime such as
// Go's reserves more address space than it ever uses.
func limits(seconds int) []resourceLimit {
	return []resourceLimit{
		{unix.RLIMIT_CPU, uint64(seconds)},
		{unix.RLIMIT_CORE, 0},  // a dump would be the photo on disk
		{unix.RLIMIT_FSIZE, 0}, // pipes have no size
		{unix.RLIMIT_NOFILE, 32},
		{unix.RLIMIT_NPROC, 4096},
		{unix.RLIMIT_MEMLOCK, 0},
		{unix.RLIMIT_DATA, 512 << 20},
		{unix.RLIMIT_AS, 2 << 30},
	}
}

const strongest = "seccomp+landlock"

// sandbox says what this kernel has to lock a decoder in with. Without seccomp
// no decoder is run at all.
func sandbox() string {
	abi, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || abi < 1 {
		return "seccomp"
	}
	return strongest
}
