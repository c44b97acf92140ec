package serial

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// denied says whether this user may not open the file. Asking does not open it.
func denied(path string) bool {
	err := unix.Access(path, unix.R_OK|unix.W_OK)
	return errors.Is(err, fs.ErrPermission)
}

// findHolders tells of each port who has it open: a process's open file is the
// port if it is the same device, by whatever name it was opened.
func findHolders(root string, found []Port) {
	byDevice := map[uint64]*Port{}
	inode := map[*Port]string{} // as /proc/locks writes it
	for i := range found {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(root, found[i].Path), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
			byDevice[st.Rdev] = &found[i]
			inode[&found[i]] = fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
		}
	}
	proc := filepath.Join(root, "proc")
	locks, _ := os.ReadFile(filepath.Join(proc, "locks")) // absent: nobody is known to have one
	entries, err := os.ReadDir(proc)
	_, noFirst := os.Lstat(filepath.Join(proc, "1"))
	unseen := err != nil || noFirst != nil // without the first process only one's own are listed
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		process := filepath.Join(proc, e.Name())
		held, err := openDevices(filepath.Join(process, "fd"))
		unseen = unseen || errors.Is(err, fs.ErrPermission)
		for _, device := range held {
			if p := byDevice[device]; p != nil {
				p.Holders = append(p.Holders, Holder{pid, read(process, "comm"), locked(string(locks), pid, inode[p])})
			}
		}
	}
	for i := range found {
		found[i].Unseen = unseen
		slices.SortFunc(found[i].Holders, func(a, b Holder) int { return a.PID - b.PID })
	}
}

// openDevices are the character devices among a process's open files, each once.
func openDevices(dir string) (devices []uint64, err error) {
	files, err := os.ReadDir(dir)
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if to, err := os.Readlink(path); err != nil || !filepath.IsAbs(to) {
			continue // a socket or a pipe
		}
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && !slices.Contains(devices, st.Rdev) {
			devices = append(devices, st.Rdev)
		}
	}
	return devices, err
}

// locked looks for a process's lock on a file in the text of /proc/locks, whose
// lines are: number, sort, mode, access, process, file, range.
func locked(locks string, pid int, file string) bool {
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		if len(f) >= 6 && f[4] == strconv.Itoa(pid) && f[5] == file {
			return true
		}
	}
	return false
}
