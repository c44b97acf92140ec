//go:build linux && (amd64 || arm64 || loong64)

package photo

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// newest is the newest system call that was judged here, one number for all
// processors since 424. What came later does not exist for a decoder, nor do the
// x32 calls of amd64, whose numbers begin far above.
const newest = unix.SYS_MSEAL

// absent are calls whose meaning lies in memory, where a filter cannot look.
// C libraries fall back to the older call, which is looked at.
var absent = []uint32{unix.SYS_OPENAT2, unix.SYS_CLONE3}

// denied are calls that no decoder needs, on every processor; deniedHere has
// those of this one.
var denied = []uint32{
	// The network, and every other way to talk to somebody.
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4,
	unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SHMCTL, unix.SYS_SEMGET, unix.SYS_SEMOP, unix.SYS_SEMTIMEDOP, unix.SYS_SEMCTL,
	unix.SYS_MSGGET, unix.SYS_MSGSND, unix.SYS_MSGRCV, unix.SYS_MSGCTL, unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK,
	// Changes to files.
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_TRUNCATE, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT2, unix.SYS_MKDIRAT, unix.SYS_LINKAT,
	unix.SYS_SYMLINKAT, unix.SYS_MKNODAT, unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT,
	unix.SYS_UTIMENSAT, unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR,
	unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR, unix.SYS_FANOTIFY_INIT,
	// Other processes, and leaving the group that is killed at the end.
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_KCMP,
	unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO,
	unix.SYS_SETSID, unix.SYS_SETPGID, unix.SYS_SETPRIORITY, unix.SYS_IOPRIO_SET,
	unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETATTR, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
	// The system, and parts of the kernel with a long record of holes.
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN,
	unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_SYSLOG, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_PERSONALITY,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_VHANGUP, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_NFSSERVCTL,
}

// judged is a call that is allowed by what one of its arguments says.
type judged struct {
	call, arg uint32
	mask      uint32   // denied when it has one of these bits
	only      []uint32 // denied when it is none of these, if there are any
	never     []uint32 // denied when it is one of these
}

const (
	writing = unix.O_ACCMODE | unix.O_CREAT | unix.O_TRUNC // O_TMPFILE needs one of them
	spaces  = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
)

func judgedCalls(self uint32) []judged {
	return append(judgedHere,
		judged{call: unix.SYS_OPENAT, arg: 2, mask: writing},
		judged{call: unix.SYS_CLONE, arg: 0, mask: spaces},
		// The process may end itself, as abort does. Its children may not: their
		// numbers are not known beforehand.
		judged{call: unix.SYS_KILL, arg: 0, only: []uint32{self}},
		judged{call: unix.SYS_TKILL, arg: 0, only: []uint32{self}},
		judged{call: unix.SYS_TGKILL, arg: 0, only: []uint32{self}},
		judged{call: unix.SYS_PRLIMIT64, arg: 0, only: []uint32{0, self}},
		judged{call: unix.SYS_SCHED_SETAFFINITY, arg: 0, only: []uint32{0, self}},
		// A file can be told to send a signal to anybody when something happens to it.
		judged{call: unix.SYS_FCNTL, arg: 1, never: []uint32{unix.F_SETOWN, unix.F_SETSIG, unix.F_SETOWN_EX, unix.F_SETLEASE, unix.F_NOTIFY}},
		judged{call: unix.SYS_PRCTL, arg: 0, never: []uint32{unix.PR_SET_PDEATHSIG}},
		judged{call: unix.SYS_IOCTL, arg: 1, never: []uint32{unix.TIOCSTI, unix.TIOCLINUX, unix.TIOCSCTTY}},
	)
}

// Offsets in struct seccomp_data; the processors here are little-endian.
const (
	atCall = 0
	atArch = 4
	atArgs = 16
)

// filter is the program that judges every system call of the decoder and of its
// children; self is the decoder's process id. What it refuses fails with EPERM,
// what it does not know with ENOSYS; a call in the manner of another processor
// (i386 on amd64) ends the process.
func filter(self uint32) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	give := func(result uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: result}
	}
	jump := func(test uint16, k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | test, K: k, Jt: uint8(yes), Jf: uint8(no)}
	}
	refuse := give(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	unknown := give(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
	allow := give(unix.SECCOMP_RET_ALLOW)

	p := []unix.SockFilter{
		load(atArch),
		jump(unix.BPF_JEQ, auditArch, 1, 0),
		give(unix.SECCOMP_RET_KILL_PROCESS),
		load(atCall),
		jump(unix.BPF_JGT, newest, 0, 1),
		unknown,
	}
	for _, call := range absent {
		p = append(p, jump(unix.BPF_JEQ, call, 0, 1), unknown)
	}
	for _, calls := range [][]uint32{denied, deniedHere} {
		for _, call := range calls {
			p = append(p, jump(unix.BPF_JEQ, call, 0, 1), refuse)
		}
	}
	for _, j := range judgedCalls(self) {
		body := []unix.SockFilter{load(atArgs + 8*j.arg)}
		if j.mask != 0 {
			body = append(body, jump(unix.BPF_JSET, j.mask, 0, 1), refuse)
		}
		for _, v := range j.never {
			body = append(body, jump(unix.BPF_JEQ, v, 0, 1), refuse)
		}
		for _, v := range j.only {
			body = append(body, jump(unix.BPF_JEQ, v, 0, 1), allow)
		}
		if len(j.only) > 0 {
			body = append(body, refuse)
		} else {
			body = append(body, allow)
		}
		p = append(p, jump(unix.BPF_JEQ, j.call, 0, len(body)))
		p = append(p, body...)
	}
	return append(p, allow)
}

// installFilter puts the filter in force for this thread and what it executes.
func installFilter(p []unix.SockFilter) error {
	program := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(p)
	if errno != 0 {
		return errno
	}
	return nil
}
