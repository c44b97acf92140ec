package outbox

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// disk is a small file system of one folder that remembers what is durable: what
// was written before the last fsync of a file, and the names at the last fsync of
// the folder. It can be cut off its power, be full, fail and be read-only.
//
// Whoever uses it must be another process: a page fault of this one on a file
// that this one serves would wait for itself.
type disk struct {
	fs.Inode

	mu       sync.Mutex
	names    map[string]*diskFile
	lasting  map[string]*diskFile // names after a power cut
	capacity int                  // bytes of all files, 0 = no limit
	fault    syscall.Errno        // of each write, 0 = none
	faults   int                  // writes that failed
}

// diskFile is a file, what of it lasts, and what was written since.
type diskFile struct {
	fs.Inode
	d       *disk
	data    []byte
	lasting []byte
	written []written
}

// written is a change that a power cut may undo in part.
type written struct {
	at   int
	data []byte // nil: the file was cut, or grew, to at
}

// mountDisk serves a new disk for as long as the test lives.
func mountDisk(t testing.TB) (*disk, string) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no file systems of our own here: %v", err)
	}
	f.Close()
	d := &disk{names: map[string]*diskFile{}, lasting: map[string]*diskFile{}}
	dir := t.TempDir()
	none := time.Duration(0)
	server, err := fs.Mount(dir, d, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMount: true, FsName: "disk", Name: "disk"},
		EntryTimeout: &none, AttrTimeout: &none,
	})
	if err != nil {
		t.Skipf("no right to mount here: %v", err)
	}
	t.Cleanup(func() {
		for range 50 { // a process that was killed may still hold it for a moment
			if err = server.Unmount(); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("unmount: %v", err)
	})
	return d, dir
}

// set changes what is wrong with the disk.
func (d *disk) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// cut gives the files that a power cut at this moment may leave: of what was
// written since the last fsync any sectors, of the names either.
func (d *disk) cut(random *rand.Rand) map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := d.names
	if random.IntN(2) == 0 {
		names = d.lasting
	}
	image := map[string][]byte{}
	for name, f := range names {
		image[name] = f.cut(random)
	}
	return image
}

const sector = 512

func (f *diskFile) cut(random *rand.Rand) []byte {
	b := bytes.Clone(f.lasting)
	likely := random.IntN(5) // of four: how many sectors reached the disk
	for _, w := range f.written {
		if w.data == nil {
			if random.IntN(4) < likely {
				b = resized(b, w.at)
			}
			continue
		}
		for at := 0; at < len(w.data); at += sector {
			if random.IntN(4) >= likely {
				continue
			}
			part := w.data[at:min(at+sector, len(w.data))]
			if end := w.at + at + len(part); end > len(b) {
				b = resized(b, end)
			}
			copy(b[w.at+at:], part)
		}
	}
	return b
}

func resized(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size]
	}
	return append(b, make([]byte, size-len(b))...)
}

// refuse tells why the disk does not take so many more bytes. The caller holds
// mu.
func (d *disk) refuse(more int) syscall.Errno {
	if d.fault != 0 {
		d.faults++
		return d.fault
	}
	total := more
	for _, f := range d.names {
		total += len(f.data)
	}
	if d.capacity > 0 && total > d.capacity {
		d.faults++
		return syscall.ENOSPC
	}
	return 0
}

func (d *disk) Create(ctx context.Context, name string, flags, mode uint32, _ *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if why := d.refuse(0); why != 0 {
		return nil, nil, 0, why
	}
	f := &diskFile{d: d}
	d.names[name] = f
	return d.NewInode(ctx, f, fs.StableAttr{Mode: syscall.S_IFREG}), nil, 0, 0
}

func (d *disk) Unlink(_ context.Context, name string) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault != 0 {
		return d.fault
	}
	delete(d.names, name)
	return 0
}

func (d *disk) Rename(_ context.Context, name string, _ fs.InodeEmbedder, to string, _ uint32) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault != 0 {
		return d.fault
	}
	d.names[to] = d.names[name]
	delete(d.names, name)
	return 0
}

func (d *disk) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault != 0 {
		return d.fault
	}
	d.lasting = maps.Clone(d.names)
	return 0
}

func (f *diskFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (f *diskFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(len(f.data))
	return 0
}

func (f *diskFile) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if size, ok := in.GetSize(); ok && int(size) != len(f.data) {
		if why := f.d.refuse(max(0, int(size)-len(f.data))); why != 0 {
			return why
		}
		f.data = resized(f.data, int(size))
		f.written = append(f.written, written{at: int(size)})
	}
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(len(f.data))
	return 0
}

func (f *diskFile) Read(_ context.Context, _ fs.FileHandle, dest []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if at >= int64(len(f.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(bytes.Clone(f.data[at:min(int(at)+len(dest), len(f.data))])), 0
}

func (f *diskFile) Write(_ context.Context, _ fs.FileHandle, data []byte, at int64) (uint32, syscall.Errno) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	end := int(at) + len(data)
	if why := f.d.refuse(max(0, end-len(f.data))); why != 0 {
		return 0, why
	}
	if end > len(f.data) {
		f.data = resized(f.data, end)
	}
	copy(f.data[at:], data)
	f.written = append(f.written, written{int(at), bytes.Clone(data)})
	return uint32(len(data)), 0
}

func (f *diskFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.fault != 0 {
		return f.d.fault
	}
	for _, w := range f.written {
		if w.data == nil {
			f.lasting = resized(f.lasting, w.at)
			continue
		}
		if end := w.at + len(w.data); end > len(f.lasting) {
			f.lasting = resized(f.lasting, end)
		}
		copy(f.lasting[w.at:], w.data)
	}
	f.written = nil
	return 0
}
