package sim

import "io"

// Board stands between a line and a reader as some microcontroller boards do: on
// the line each piece of the reader's bytes lies in a frame of the board's own,
//
//	55 AA · length of what follows · up to 254 bytes · complement of their exclusive or, length included
//
// and what the host wraps in such frames comes out unwrapped. The result is what
// a Reader is served on.
func Board(line io.ReadWriteCloser) io.ReadWriteCloser { return &board{line: line} }

type board struct {
	line io.ReadWriteCloser
	in   []byte // from the host, still wrapped
	out  []byte // unwrapped, not yet read
}

const longestPiece = 254

// Write wraps.
func (b *board) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n := min(len(p)-done, longestPiece)
		f := append([]byte{0x55, 0xAA, byte(n + 1)}, p[done:done+n]...)
		if _, err := b.line.Write(append(f, ^xor(f[2:]))); err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}

// Read unwraps; bytes of no frame are dropped.
func (b *board) Read(p []byte) (int, error) {
	for len(b.out) == 0 {
		buf := make([]byte, 512)
		n, err := b.line.Read(buf)
		if err != nil {
			return 0, err
		}
		b.in = append(b.in, buf[:n]...)
		b.unwrap()
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	return n, nil
}

func (b *board) unwrap() {
	for len(b.in) >= 3 {
		n := int(b.in[2])
		switch {
		case b.in[0] != 0x55 || b.in[1] != 0xAA || n < 2:
			b.in = b.in[1:]
		case len(b.in) < 3+n:
			return
		case ^xor(b.in[2:2+n]) != b.in[2+n]:
			b.in = b.in[3+n:]
		default:
			b.out = append(b.out, b.in[3:2+n]...)
			b.in = b.in[3+n:]
		}
	}
}

func (b *board) Close() error { return b.line.Close() }
