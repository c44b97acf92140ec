// Package disk is a small file system for tests, served by the test itself. It
// remembers what is durable: what was written before the last fsync of a file,
// and the names at the last fsync of a folder. So it can be cut off its power; it
// can also be full, fail, and be read-only.
//
// It needs FUSE and the right to mount; where these are missing, tests are
// skipped. Folders hold files, sockets and folders.
//
// Limits: whoever maps its files into memory must be another process: a page
// fault of this one would wait for itself.
package disk

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

// Disk is a mounted disk. All methods may be called from any goroutine.
type Disk struct {
	mu     sync.Mutex
	root   *folder
	size   int           // bytes of all files, 0 = no limit
	others int           // bytes of size that somebody else has taken
	fault  syscall.Errno // of each change, 0 = none
}

// folder is a folder and the names in it, now and after a power cut.
type folder struct {
	fs.Inode
	d       *Disk
	names   map[string]fs.InodeEmbedder
	lasting map[string]fs.InodeEmbedder
}

// file is a file, what of it lasts, and what was written since.
type file struct {
	fs.Inode
	d       *Disk
	data    []byte
	lasting []byte
	written []written
}

// written is a change that a power cut may undo in part.
type written struct {
	at   int
	data []byte // nil: the file was cut, or grew, to at
}

// socket is the name of a unix socket.
type socket struct{ fs.Inode }

// Mount serves a new disk of so many bytes, 0 = without a limit, in dir for as long
// as the test lives.
func Mount(t testing.TB, size int) (d *Disk, dir string) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no file systems of our own here: %v", err)
	}
	f.Close()
	d = &Disk{size: size}
	d.root = newFolder(d)
	dir = t.TempDir()
	none := time.Duration(0)
	server, err := fs.Mount(dir, d.root, &fs.Options{
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

// Fill takes all but left bytes of what is free, as another program might. The
// disk must have a size.
func (d *Disk) Fill(left int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others = max(0, d.size-d.root.total()-left)
}

// Free gives back what Fill took.
func (d *Disk) Free() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others = 0
}

// Fail lets each change fail with that error; 0 ends it. What is there can be
// read all the same.
func (d *Disk) Fail(with syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = with
}

// Files gives the files of the disk as they are, those of its folders left out.
func (d *Disk) Files() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	image := map[string][]byte{}
	for name, n := range d.root.names {
		if f, ok := n.(*file); ok {
			image[name] = bytes.Clone(f.data)
		}
	}
	return image
}

// Cut gives the files that a power cut at this moment may leave, those of folders
// left out: of what was written since the last fsync any sectors, of the names
// either.
func (d *Disk) Cut(random *rand.Rand) map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := d.root.names
	if random.IntN(2) == 0 {
		names = d.root.lasting
	}
	image := map[string][]byte{}
	for name, n := range names {
		if f, ok := n.(*file); ok {
			image[name] = f.cut(random)
		}
	}
	return image
}

const sector = 512

func (f *file) cut(random *rand.Rand) []byte {
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
func (d *Disk) refuse(more int) syscall.Errno {
	if d.fault != 0 {
		return d.fault
	}
	if d.size > 0 && more > 0 && d.root.total()+d.others+more > d.size {
		return syscall.ENOSPC
	}
	return 0
}

func newFolder(d *Disk) *folder {
	return &folder{d: d, names: map[string]fs.InodeEmbedder{}, lasting: map[string]fs.InodeEmbedder{}}
}

// total gives the bytes of all files.
func (o *folder) total() (n int) {
	for _, c := range o.names {
		switch c := c.(type) {
		case *file:
			n += len(c.data)
		case *folder:
			n += c.total()
		}
	}
	return n
}

// add gives a name to something new.
func (o *folder) add(ctx context.Context, name string, n fs.InodeEmbedder, mode uint32) (*fs.Inode, syscall.Errno) {
	o.d.mu.Lock()
	defer o.d.mu.Unlock()
	if why := o.d.refuse(0); why != 0 {
		return nil, why
	}
	o.names[name] = n
	return o.NewPersistentInode(ctx, n, fs.StableAttr{Mode: mode}), 0
}

func (o *folder) Create(ctx context.Context, name string, _, _ uint32, _ *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n, why := o.add(ctx, name, &file{d: o.d}, syscall.S_IFREG)
	return n, nil, fuse.FOPEN_KEEP_CACHE, why
}

func (o *folder) Mkdir(ctx context.Context, name string, _ uint32, _ *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return o.add(ctx, name, newFolder(o.d), syscall.S_IFDIR)
}

func (o *folder) Mknod(ctx context.Context, name string, mode, _ uint32, _ *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return nil, syscall.EPERM
	}
	return o.add(ctx, name, &socket{}, syscall.S_IFSOCK)
}

func (o *folder) Unlink(_ context.Context, name string) syscall.Errno {
	o.d.mu.Lock()
	defer o.d.mu.Unlock()
	if o.d.fault != 0 {
		return o.d.fault
	}
	delete(o.names, name)
	return 0
}

func (o *folder) Rmdir(ctx context.Context, name string) syscall.Errno {
	return o.Unlink(ctx, name)
}

func (o *folder) Rename(_ context.Context, name string, parent fs.InodeEmbedder, to string, _ uint32) syscall.Errno {
	o.d.mu.Lock()
	defer o.d.mu.Unlock()
	if o.d.fault != 0 {
		return o.d.fault
	}
	target, ok := parent.(*folder)
	if !ok {
		return syscall.ENOTDIR
	}
	target.names[to] = o.names[name]
	delete(o.names, name)
	return 0
}

func (o *folder) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	o.d.mu.Lock()
	defer o.d.mu.Unlock()
	if o.d.fault != 0 {
		return o.d.fault
	}
	o.lasting = maps.Clone(o.names)
	return 0
}

func (s *socket) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = syscall.S_IFSOCK | 0o600
	return 0
}

func (s *socket) Setattr(ctx context.Context, h fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return s.Getattr(ctx, h, out)
}

func (f *file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(len(f.data))
	return 0
}

func (f *file) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if size, ok := in.GetSize(); ok && int(size) != len(f.data) {
		if why := f.d.refuse(int(size) - len(f.data)); why != 0 {
			return why
		}
		f.data = resized(f.data, int(size))
		f.written = append(f.written, written{at: int(size)})
	}
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(len(f.data))
	return 0
}

func (f *file) Read(_ context.Context, _ fs.FileHandle, dest []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if at >= int64(len(f.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(bytes.Clone(f.data[at:min(int(at)+len(dest), len(f.data))])), 0
}

func (f *file) Write(_ context.Context, _ fs.FileHandle, data []byte, at int64) (uint32, syscall.Errno) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	end := int(at) + len(data)
	if why := f.d.refuse(end - len(f.data)); why != 0 {
		return 0, why
	}
	if end > len(f.data) {
		f.data = resized(f.data, end)
	}
	copy(f.data[at:], data)
	f.written = append(f.written, written{int(at), bytes.Clone(data)})
	return uint32(len(data)), 0
}

func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
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
