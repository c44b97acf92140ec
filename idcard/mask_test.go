package idcard

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// masked gives input to a Mask in pieces of the given sizes, as frame does.
func maskedBy(input []byte, sizes ...int) []byte {
	var m Mask
	var out []byte
	for len(input) > 0 {
		n := min(max(sizes[0], 1), len(input))
		if len(sizes) > 1 {
			sizes = sizes[1:]
		}
		out = append(out, m.Received(input[:n])...)
		input = input[n:]
	}
	return append(out, m.Cut()...)
}

// spoil makes the checksum wrong.
func spoil(f []byte) []byte {
	f = bytes.Clone(f)
	f[len(f)-1] ^= 0x5A
	return f
}

func stars(units int) []byte { return bytes.Repeat([]byte{'*', 0}, units) }

func TestMask(t *testing.T) {
	v := vectorCardOf(t, "cn-01-plain")
	name := []byte(v.Text[:30])
	id := answer(0x90, 5, 0, 1, 0, 0x73, 0x8D, 0x32, 1, 12, 0, 0, 0, 0x15, 0xBF, 0x34, 0)
	kept := append(append([]byte{1, 0, 4, 0}, stars(letterOffset/2)...), v.Text[letterOffset:letterOffset+2]...)
	kept = append(append(kept, stars(3)...), make([]byte, photoSize)...)
	swap := func(f []byte, at int, b ...byte) []byte { // with the checksum made anew
		f = bytes.Clone(f)
		copy(f[at:], b)
		f[len(f)-1] = checksum(f[len(preamble) : len(f)-1])
		return f
	}
	zeros := func(n int) []byte { return make([]byte, n) }
	join := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	for name, tt := range map[string]struct{ in, want []byte }{
		"no card":          {answer(0x80), answer(0x80)},
		"status of a card": {Command(0x69, 0x82, 0x41), Command(0x69, 0x82, 0x41)},
		"found":            {answer(0x9F, 0, 0, 0, 0), answer(0x9F, 0, 0, 0, 0)},
		"serial number":    {answer(0x90, 1, 2, 3, 4, 5, 6, 7, 8), answer(0x90, zeros(8)...)},
		"SAM id":           {id, id},
		"SAM id, wrong":    {spoil(id), join(id[:7], zeros(19), []byte{^byte(0x14)})},
		"status, wrong":    {spoil(answer(0x80)), join(answer(0)[:10], []byte{^byte(4)})},
		"card":             {v.Response, answer(0x90, kept...)},
		"card, twice":      {join(v.Response, v.Response), join(answer(0x90, kept...), answer(0x90, kept...))},
		"inner lengths that are none": {swap(v.Response, 10, v.Text[:4]...),
			swap(answer(0x90, kept...), 10, zeros(4)...)},
		"status that is none": {swap(v.Response, 7, v.Text[0], v.Text[1], 0x90),
			swap(answer(0x90, kept...), 7, zeros(3)...)},
		"text like a length":       {swap(v.Response, 14, 4, 0), answer(0x90, kept...)},
		"kind letter":              {swap(v.Response, 14+letterOffset, 'J', 0), swap(answer(0x90, kept...), 14+letterOffset, 'J', 0)},
		"kind letter that is none": {swap(v.Response, 14+letterOffset, 0x4B, 0x6D), swap(answer(0x90, kept...), 14+letterOffset, '*', 0)},
		"two new addresses":        {answer(0x90, v.Text[:140]...), answer(0x90, stars(70)...)},
		"management number":        {answer(0x90, v.Text[:28]...), answer(0x90, zeros(28)...)},
		"unknown answer":           {answer(0x90, v.Text[:51]...), answer(0x90, zeros(51)...)},
		"short unknown answer":     {answer(0x90, name[:9]...), answer(0x90, zeros(9)...)},
		"outside a frame":          {name, zeros(30)},
		"around a frame":           {join(name, answer(0x91), name), join(zeros(30), answer(0x91), zeros(30))},
		"begun":                    {join([]byte{1, 2}, preamble[:4]), zeros(6)},
		"begun, short":             {id[:12], zeros(12)},
		"impossible length":        {join(preamble, []byte{0x4B, 0x6D}, name), zeros(37)},
		"echo of a request":        {join(find.frame(), answer(0x80)), join(zeros(10), answer(0x80))},
		"preamble of four AA":      {join([]byte{0xAA}, answer(0x80)), join(zeros(1), answer(0x80))},
		"text where a status would be": {join(preamble, []byte{0, 4}, name),
			join(preamble, []byte{0, 4, 0, 0, 0, ^byte(4)}, zeros(26))},
	} {
		if got := maskedBy(tt.in, len(tt.in)); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: got\n% X, want\n% X", name, got, tt.want)
		}
	}
}

// Fingerprints go as the photo does.
func TestMaskFingerprints(t *testing.T) {
	v := vectorCardOf(t, "cn-01-plain")
	for fingers := range 3 {
		data := append([]byte{1, 0, 4, 0, byte(2 * fingers), 0}, v.Text...)
		data = append(append(data, v.Photo...), bytes.Repeat([]byte{0x43, 0x17}, 256*fingers)...)
		want := append([]byte{1, 0, 4, 0, byte(2 * fingers), 0}, stars(letterOffset/2)...)
		want = append(append(want, v.Text[letterOffset:letterOffset+2]...), stars(3)...)
		want = append(want, make([]byte, photoSize+512*fingers)...)
		in := answer(0x90, data...)
		if got := maskedBy(in, 64); !bytes.Equal(got, answer(0x90, want...)) {
			t.Errorf("%d fingers: % X", fingers, got)
		}
	}
}

// An answer that stops in the midst does not make what comes after the next
// request part of it, and the rest of it shows nothing, whatever it looks like.
func TestMaskCut(t *testing.T) {
	v := vectorCardOf(t, "cn-01-plain")
	photo := append([]byte("\xAA\xAA\xAA\x96\x69\x00\x08"), v.Text[:60]...)
	for at := range len(v.Response) {
		var m Mask
		out := m.Received(v.Response[:at])
		out = append(out, m.Cut()...)
		if len(out) != at {
			t.Fatalf("cut at %d: %d bytes", at, len(out))
		}
		rest := append(append([]byte{}, v.Response[max(at, 1):]...), photo...)
		out = m.Received(append(rest, answer(0x80)...))
		want := append(make([]byte, len(rest)), answer(0x80)...)
		copy(want[len(rest)-len(photo):], "\xAA\xAA\xAA\x96\x69\x00\x08\x00\x00\x00\x00\x00\x00\x00\xF7")
		if out = append(out, m.Cut()...); !bytes.Equal(out, want) {
			t.Fatalf("cut at %d: then % X", at, out)
		}
	}
}

// noisy is what a bad line makes of a conversation: bytes lost, changed, doubled
// and cut off, requests in the midst of answers.
type noisy struct {
	random *rand.Rand
	cards  [][]byte
}

// piece is an answer after the line, and whether a request follows.
func (n noisy) piece() (p []byte, cut bool) {
	p = bytes.Clone(n.cards[n.random.IntN(len(n.cards))])
	for range n.random.IntN(4) {
		at := n.random.IntN(len(p))
		if n.random.IntN(2) == 0 {
			at = n.random.IntN(min(len(p), 24)) // where it hurts most
		}
		switch n.random.IntN(4) {
		case 0:
			p[at] ^= 1 << n.random.IntN(8)
		case 1:
			p = append(p[:at], p[min(len(p), at+1+n.random.IntN(16)):]...)
		case 2:
			p = append(p[:at:at], p[max(0, at-n.random.IntN(8)):]...)
		case 3:
			p = p[:at]
		}
		if len(p) == 0 {
			return p, true
		}
	}
	return p, n.random.IntN(2) == 0
}

// TestMaskNoise looks for what a person could be known by: three characters of
// the text in a row, or eight bytes of the photo.
func TestMaskNoise(t *testing.T) {
	n := noisy{random: rand.New(rand.NewPCG(3, 4))}
	secret := map[string]bool{}
	for _, v := range loadVectors(t).Cards {
		n.cards = append(n.cards, v.Response, answer(0x80))
		for i := 0; i+6 <= letterOffset; i += 2 {
			if c := v.Text[i : i+6]; bytes.Count(c, []byte{' ', 0}) == 0 {
				secret[string(c)] = true
			}
		}
		for i := 0; i+8 <= len(v.Photo); i++ {
			if p := v.Photo[i : i+8]; !bytes.Contains(p, preamble) && !bytes.Contains(answer(0x80), p) { // one holds a whole answer
				secret[string(p)] = true
			}
		}
	}
	delete(secret, string(make([]byte, 8)))
	var m Mask
	var in, out []byte
	for range 8_000 {
		p, cut := n.piece()
		in = append(in, p...)
		out = append(out, m.Received(p)...)
		if cut {
			out = append(out, m.Cut()...)
		}
	}
	out = append(out, m.Cut()...)
	if len(out) != len(in) {
		t.Fatalf("%d bytes of %d", len(out), len(in))
	}
	find := func(p []byte) (found int) {
		for i := range p {
			if i+6 <= len(p) && secret[string(p[i:i+6])] || i+8 <= len(p) && secret[string(p[i:i+8])] {
				found++
			}
		}
		return found
	}
	if n := find(in); n < 400_000 {
		t.Fatalf("the test finds only %d secrets in what is not masked", n)
	}
	if n := find(out); n > 0 {
		t.Errorf("%d secrets came through", n)
	}
	kept := 0
	for i, b := range out {
		if b != 0 && b != '*' && b == in[i] {
			kept++
		}
	}
	t.Logf("%d bytes in, %d of them kept", len(in), kept)
}

// sameFrames says whether two streams hold frames of the same places, sizes and
// validity.
func sameFrames(t *testing.T, in, out []byte) {
	t.Helper()
	frames, was := frame(in, len(in)+1)
	again, is := frame(out, len(out)+1)
	if len(frames) != len(again) || was.counts.ChecksumErrors != is.counts.ChecksumErrors ||
		was.counts.Discarded+uint64(was.pending) != is.counts.Discarded+uint64(is.pending) {
		t.Fatalf("%d frames and %+v of % X\nmasked %d and %+v of % X", len(frames), was.counts, in, len(again), is.counts, out)
	}
	for i := range frames {
		if len(frames[i]) != len(again[i]) {
			t.Fatalf("frame %d is % X, masked % X", i, frames[i], again[i])
		}
	}
}

func TestMaskKeepsFrames(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	var streams [][]byte
	for _, v := range loadVectors(t).Malformed {
		streams = append(streams, v.Input)
	}
	for _, v := range loadVectors(t).Cards {
		streams = append(streams, v.Response)
	}
	for range 200 {
		var mixed []byte
		for range 1 + random.IntN(5) {
			p := streams[random.IntN(len(streams))]
			mixed = append(mixed, p[:len(p)-random.IntN(len(p)+1)*random.IntN(2)]...)
		}
		streams = append(streams, mixed)
	}
	for _, in := range streams {
		whole := maskedBy(in, len(in)+1)
		if len(whole) != len(in) {
			t.Fatalf("%d bytes of %d", len(whole), len(in))
		}
		sameFrames(t, in, whole)
		for range 5 {
			sizes := make([]int, 1+len(in)/4)
			for i := range sizes {
				sizes[i] = 1 + random.IntN(30)
			}
			if got := maskedBy(in, sizes...); !bytes.Equal(got, whole) {
				t.Fatalf("cut in %v: % X, whole % X", sizes, got, whole)
			}
		}
	}
}

// A masked recording is followed closely: no byte waits for more than the end
// of the shortest answers.
func TestMaskHoldsLittle(t *testing.T) {
	var m Mask
	given, most := 0, 0
	v := vectorCardOf(t, "cn-01-plain")
	for i, b := range append(answer(0x90, make([]byte, samIDSize)...), v.Response...) {
		given += len(m.Received([]byte{b}))
		most = max(most, i+1-given)
	}
	if most > headerSize+samIDFrame-1 {
		t.Errorf("%d bytes held back", most)
	}
}

func FuzzMask(f *testing.F) {
	for _, v := range loadVectors(f).Malformed {
		f.Add([]byte(v.Input), uint8(7))
	}
	for _, v := range loadVectors(f).Cards {
		f.Add([]byte(v.Response), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		whole := maskedBy(in, len(in)+1)
		if got := maskedBy(in, int(cut)); len(whole) != len(in) || !bytes.Equal(got, whole) {
			t.Fatalf("cut by %d: % X, whole % X", cut, got, whole)
		}
		sameFrames(t, in, whole)
		// What is no frame is 00, and nothing but known bytes is kept.
		for at := 0; at < len(whole); {
			if !bytes.HasPrefix(whole[at:], preamble) {
				if whole[at] != 0 {
					t.Fatalf("byte %d outside a frame is %02X", at, whole[at])
				}
				at++
				continue
			}
			length := len(whole) - at
			if length >= headerSize {
				length = min(length, headerSize+int(binary.BigEndian.Uint16(whole[at+len(preamble):])))
			}
			if length > headerSize+samIDFrame {
				for i, b := range whole[at+headerSize+3 : at+length-1] {
					if b > 4 && b != '*' && b != ' ' && b != 0x90 && (b < 'A' || b > 'Z') {
						t.Fatalf("byte %d of an answer's data is %02X", i, b)
					}
				}
			}
			at += length
		}
	})
}
