package outbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"os"
)

// errPages says that the pages of a file do not hang together.
var errPages = errors.New("file is damaged")

// Layout of a bbolt file, version 2 (go.etcd.io/bbolt/internal/common, page.go,
// meta.go, bucket.go): pages of one size, each with a header of 16 bytes: id (8),
// flags (2), count (2), overflow (4, further pages that belong to it). Numbers
// are in the machine's byte order.
const (
	pageHeader    = 16
	elementSize   = 16
	branchPage    = 0x01
	leafPage      = 0x02
	metaPage      = 0x04
	freelistPage  = 0x10
	bucketElement = 0x01 // flag of a leaf element whose value is a bucket
	metaMagic     = 0xED0CDAED
	metaVersion   = 2
	metaSummed    = 56 // bytes of a meta before its checksum
	noFreelist    = ^uint64(0)
)

var native = binary.NativeEndian

// pages reads a bbolt file page by page, without bbolt and without trust.
type pages struct {
	r     io.ReaderAt
	size  int    // of a page
	count uint64 // whole pages in the file
}

// meta is one of the two heads of a file.
type meta struct {
	root     uint64
	freelist uint64
	end      uint64 // the first page that was never used
	tx       uint64
}

// page with all its overflow. An inline page, which lies in a leaf's value, has
// no id.
type page struct {
	id    uint64
	flags uint16
	count int
	data  []byte // with its header
	more  uint64 // pages of overflow
}

// openPages opens the file at path for reading. A file in which no page size can
// be found is read with the system's.
func openPages(path string) (*pages, *os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	p := &pages{r: f, size: pageSize(f)}
	p.count = uint64(info.Size()) / uint64(p.size)
	return p, f, nil
}

// pageSize finds the size of a file's pages in either meta.
func pageSize(r io.ReaderAt) int {
	for _, at := range []int64{0, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16} {
		b := make([]byte, pageHeader+metaSummed+8)
		if _, err := r.ReadAt(b, at); err != nil {
			continue
		}
		size := native.Uint32(b[pageHeader+8:])
		if _, ok := parseMeta(b); ok && size >= 512 && size <= 1<<16 && size&(size-1) == 0 {
			return int(size)
		}
	}
	return os.Getpagesize()
}

func parseMeta(b []byte) (meta, bool) {
	if len(b) < pageHeader+metaSummed+8 {
		return meta{}, false
	}
	m := b[pageHeader:]
	sum := fnv.New64a()
	sum.Write(m[:metaSummed])
	ok := native.Uint16(b[8:]) == metaPage && native.Uint32(m) == metaMagic && native.Uint32(m[4:]) == metaVersion &&
		native.Uint64(m[metaSummed:]) == sum.Sum64()
	return meta{
		root: native.Uint64(m[16:]), freelist: native.Uint64(m[32:]), end: native.Uint64(m[40:]), tx: native.Uint64(m[48:]),
	}, ok
}

// meta gives the newest head. Both are whole in a file that came to no harm: a
// commit writes the older one, in one go.
func (p *pages) meta() (newest meta, whole int) {
	for id := range int64(2) {
		b := make([]byte, pageHeader+metaSummed+8)
		if _, err := p.r.ReadAt(b, id*int64(p.size)); err != nil {
			continue
		}
		if m, ok := parseMeta(b); ok {
			if whole++; whole == 1 || m.tx > newest.tx {
				newest = m
			}
		}
	}
	return newest, whole
}

// page reads a page and what belongs to it.
func (p *pages) page(id uint64) (page, error) {
	if id >= p.count {
		return page{}, fmt.Errorf("%w: page %d is beyond its end", errPages, id)
	}
	b := make([]byte, p.size)
	if _, err := p.r.ReadAt(b, int64(id)*int64(p.size)); err != nil {
		return page{}, fmt.Errorf("%w: page %d: %w", errPages, id, err)
	}
	g := page{id: id, flags: native.Uint16(b[8:]), count: int(native.Uint16(b[10:])), more: uint64(native.Uint32(b[12:])), data: b}
	if native.Uint64(b) != id || g.more >= p.count-id {
		return page{}, fmt.Errorf("%w: page %d has no header", errPages, id)
	}
	if g.more > 0 {
		g.data = make([]byte, (g.more+1)*uint64(p.size))
		copy(g.data, b)
		if _, err := p.r.ReadAt(g.data[p.size:], int64(id+1)*int64(p.size)); err != nil {
			return page{}, fmt.Errorf("%w: page %d: %w", errPages, id, err)
		}
	}
	return g, nil
}

// leaf is a key and its value, or a bucket.
type leaf struct {
	key, value []byte
	bucket     bool
	at         int // where the value begins in the page
}

// leaves gives the elements of a leaf page; ok is false for one that points out
// of the page.
func (g page) leaves() iter.Seq2[leaf, bool] {
	return func(yield func(leaf, bool) bool) {
		for i := range g.count {
			at := pageHeader + i*elementSize
			if at+elementSize > len(g.data) {
				yield(leaf{}, false)
				return
			}
			e := g.data[at:]
			begin := uint64(at) + uint64(native.Uint32(e[4:]))
			middle := begin + uint64(native.Uint32(e[8:]))
			end := middle + uint64(native.Uint32(e[12:]))
			if end > uint64(len(g.data)) {
				if !yield(leaf{}, false) {
					return
				}
				continue
			}
			l := leaf{g.data[begin:middle], g.data[middle:end], native.Uint32(e)&bucketElement != 0, int(middle)}
			if !yield(l, true) {
				return
			}
		}
	}
}

// branch is the first key of a page and that page.
type branch struct {
	key []byte
	id  uint64
}

// branches gives the elements of a branch page.
func (g page) branches() ([]branch, error) {
	var all []branch
	for i := range g.count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(g.data) {
			return nil, fmt.Errorf("%w: page %d has too many elements", errPages, g.id)
		}
		e := g.data[at:]
		begin := uint64(at) + uint64(native.Uint32(e))
		end := begin + uint64(native.Uint32(e[4:]))
		if end > uint64(len(g.data)) {
			return nil, fmt.Errorf("%w: page %d points out of itself", errPages, g.id)
		}
		all = append(all, branch{g.data[begin:end], native.Uint64(e[8:])})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: page %d is an empty branch", errPages, g.id)
	}
	return all, nil
}

// root of the bucket in a leaf's value: a page, or one that lies in the value.
func (l leaf) root() (id uint64, inline page, err error) {
	if len(l.value) < 16 {
		return 0, page{}, fmt.Errorf("%w: a bucket has no root", errPages)
	}
	if id = native.Uint64(l.value); id != 0 {
		return id, page{}, nil
	}
	b := l.value[16:]
	if len(b) < pageHeader {
		return 0, page{}, fmt.Errorf("%w: a bucket has no page", errPages)
	}
	return 0, page{flags: native.Uint16(b[8:]), count: int(native.Uint16(b[10:])), data: b}, nil
}

// free gives the pages that the free list holds.
func (p *pages) free(id uint64) ([]uint64, error) {
	if id == noFreelist {
		return nil, nil
	}
	g, err := p.page(id)
	if err != nil {
		return nil, err
	}
	if g.flags != freelistPage {
		return nil, fmt.Errorf("%w: page %d is no free list", errPages, id)
	}
	count, at := uint64(g.count), pageHeader
	if g.count == 0xffff {
		count, at = native.Uint64(g.data[at:]), at+8
	}
	if count > uint64(len(g.data)-at)/8 {
		return nil, fmt.Errorf("%w: the free list is longer than its page", errPages)
	}
	ids := make([]uint64, count)
	for i := range ids {
		ids[i] = native.Uint64(g.data[at+8*i:])
	}
	return ids, nil
}
