// Command decoder stands in for a site's photo decoder, good or bad. Its first
// argument says what it does; for what it must not be able to do, the first
// pixel of its picture tells the error number.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

const width, height, stride = 102, 126, 308

// picture is a BMP of 24 bits whose top left pixel is red by that much.
func picture(red byte) []byte {
	var b bytes.Buffer
	b.WriteString("BM")
	binary.Write(&b, binary.LittleEndian, []uint32{54 + stride*height, 0, 54, 40, width, height})
	binary.Write(&b, binary.LittleEndian, []uint16{1, 24})
	binary.Write(&b, binary.LittleEndian, []uint32{0, stride * height, 0, 0, 0, 0})
	pixels := make([]byte, stride*height)
	pixels[stride*(height-1)+2] = red // bottom row first; blue, green, red
	b.Write(pixels)
	return b.Bytes()
}

func main() {
	block, err := io.ReadAll(os.Stdin)
	if err != nil || len(block) != 1024 {
		os.Exit(3)
	}
	argument := ""
	if len(os.Args) > 2 {
		argument = os.Args[2]
	}
	switch os.Args[1] {
	case "good":
		os.Stdout.Write(picture(block[6]))
	case "hang":
		time.Sleep(time.Hour)
	case "orphan": // ends itself, and leaves a child that holds the output
		child("hang")
	case "fork": // is good, and leaves a child behind that holds nothing
		os.Stdout.Write(picture(0))
		os.Stdout.Close()
		child("hang")
	case "rubbish":
		os.Stdout.Write(bytes.Repeat([]byte("no picture"), 1000))
	case "huge":
		b := picture(0)
		binary.LittleEndian.PutUint32(b[18:], 60000)
		os.Stdout.Write(b)
	case "cut":
		os.Stdout.Write(picture(0)[:20000])
	case "much":
		for {
			if _, err := os.Stdout.Write(make([]byte, 64<<10)); err != nil {
				os.Exit(4)
			}
		}
	case "nothing":
	case "fail":
		os.Stdout.Write(picture(0))
		fmt.Fprintln(os.Stderr, "secret of the person")
		os.Exit(1)
	case "abort":
		syscall.Kill(os.Getpid(), syscall.SIGABRT)
		time.Sleep(time.Hour)
	case "surroundings":
		surroundings()
	default:
		os.Stdout.Write(picture(byte(attempt(os.Args[1], argument))))
	}
}

func child(args ...string) {
	self, err := os.Executable()
	if err != nil {
		os.Exit(5)
	}
	r, w, err := os.Pipe()
	if err != nil {
		os.Exit(6)
	}
	c := exec.Command(self, args...)
	c.Stdin, c.Stdout, c.Stderr = r, os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		os.Exit(7)
	}
	w.Write(make([]byte, 1024))
}

// surroundings is good when there is nothing to be seen from inside.
func surroundings() {
	dir, err := os.Getwd()
	entries, errs := os.ReadDir("/proc/self/fd")
	env := fmt.Sprint(os.Environ())
	if err != nil || dir != "/" || errs != nil || env != "[PATH=/usr/bin:/bin LANG=C.UTF-8]" {
		os.Exit(10)
	}
	open := 0
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && to != "anon_inode:[eventpoll]" && to != "anon_inode:[eventfd]" {
			open++
		}
	}
	if open != 3 {
		os.Exit(11)
	}
	os.Stdout.Write(picture(0))
}

// attempt tries something and gives the error number, 0 when it worked.
func attempt(what, argument string) syscall.Errno {
	number := func() uintptr {
		n, err := strconv.ParseUint(argument, 10, 64)
		if err != nil {
			os.Exit(8)
		}
		return uintptr(n)
	}
	path := func() uintptr {
		p, err := syscall.BytePtrFromString(argument)
		if err != nil {
			os.Exit(8)
		}
		return uintptr(unsafe.Pointer(p))
	}
	var err error
	switch what {
	case "call": // any system call, with zeros
		_, _, errno := syscall.RawSyscall6(number(), 0, 0, 0, 0, 0, 0)
		return errno
	case "socket":
		_, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	case "unix":
		_, err = syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	case "create":
		_, err = os.Create(argument)
	case "append":
		_, err = os.OpenFile(argument, os.O_WRONLY|os.O_APPEND, 0)
	case "read":
		_, err = os.ReadFile(argument)
	case "remove":
		err = os.Remove(argument)
	case "mkdir":
		err = os.Mkdir(argument, 0o700)
	case "rename":
		err = os.Rename(argument, argument+"-new")
	case "chmod":
		err = os.Chmod(argument, 0)
	case "kill":
		err = syscall.Kill(int(number()), syscall.SIGKILL)
	case "killall":
		err = syscall.Kill(-1, syscall.SIGKILL)
	case "notify": // has a signal sent by a pipe
		for _, f := range []struct{ command, value uintptr }{{8, number()}, {10, 9}, {4, 0x2000}} { // F_SETOWN, F_SETSIG SIGKILL, F_SETFL O_ASYNC
			if _, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, os.Stdin.Fd(), f.command, f.value); errno != 0 {
				return errno
			}
		}
	case "pin": // another process to the first processor
		mask := uint64(1)
		_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, number(), 8, uintptr(unsafe.Pointer(&mask)))
		return errno
	case "setsid":
		_, err = syscall.Setsid()
	case "openat2":
		_, _, errno := syscall.RawSyscall6(437, 0, path(), 0, 0, 0, 0)
		return errno
	case "memory":
		_, err = syscall.Mmap(-1, 0, 3<<30, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	default:
		os.Exit(9)
	}
	var errno syscall.Errno
	switch e := err.(type) {
	case nil:
		return 0
	case syscall.Errno:
		return e
	case *os.PathError:
		errno, _ = e.Err.(syscall.Errno)
	case *os.LinkError:
		errno, _ = e.Err.(syscall.Errno)
	}
	return errno
}
