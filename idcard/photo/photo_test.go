package photo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// asAgent makes the test a process that does nothing but decode a photo.
const asAgent = "as-agent"

// TestMain lets the test become the decoder, as the program does.
func TestMain(m *testing.M) {
	if len(os.Args) > 4 && os.Args[1] == SubCommand {
		seconds, err := strconv.Atoi(os.Args[2])
		if err == nil {
			err = Confine(seconds, os.Args[4:])
		}
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == asAgent {
		_, err := New(Options{Command: os.Args[2:], Limit: time.Minute}).PNG(context.Background(), block(0))
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// built is the folder of the decoder for tests, once one needed it.
var built string

// program is the decoder for tests, in a folder in which nothing else lies. It
// is built without the race detector, which needs more memory than it may have.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "decoder")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "decoder")
	cmd := exec.Command("go", "build", "-o", path, "./testdata/decoder")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(err.Error() + "\n" + string(out))
	}
	return path, nil
})

// decoder makes one that runs the program for tests with these arguments.
func decoder(t testing.TB, limit time.Duration, args ...string) *Decoder {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Command: append([]string{path}, args...), Limit: limit})
}

// block is a photo block; the test's decoder paints with its byte 6.
func block(red byte) []byte {
	b := make([]byte, BlockSize)
	copy(b, "WL\x66\x00\x7E\x00")
	b[6] = red
	return b
}

// red is how red the first pixel of a picture is.
func red(t testing.TB, picture []byte) int {
	t.Helper()
	p, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatalf("the picture is no PNG: %v", err)
	}
	if b := p.Bounds(); b.Dx() != 102 || b.Dy() != 126 {
		t.Errorf("the picture is %d by %d", b.Dx(), b.Dy())
	}
	r, _, _, _ := p.At(0, 0).RGBA()
	return int(r >> 8)
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

func TestNone(t *testing.T) {
	if New(Options{}) != nil || New(Options{Command: []string{}}) != nil {
		t.Error("there is a decoder without a command")
	}
}

func TestGood(t *testing.T) {
	d := decoder(t, 0, "good")
	for _, want := range []byte{0, 7, 255} {
		picture, err := d.PNG(t.Context(), block(want))
		if err != nil {
			t.Fatal(err)
		}
		if got := red(t, picture); got != int(want) {
			t.Errorf("the picture is red by %d, want %d", got, want)
		}
	}
	if n := d.Status().Outcomes["good"]; n != 3 {
		t.Errorf("%d pictures are counted", n)
	}
}

// TestTroubles runs decoders that do everything but decode. Each ends in time,
// with its code and without a word of what the decoder printed.
func TestTroubles(t *testing.T) {
	for _, c := range []struct{ mode, code string }{
		{"hang", "photo_decoder_timeout"},
		{"orphan", "photo_decoder_timeout"},
		{"rubbish", "photo_bad_picture"},
		{"huge", "photo_bad_picture"},
		{"cut", "photo_bad_picture"},
		{"much", "photo_bad_picture"},
		{"nothing", "photo_bad_picture"},
		{"fail", "photo_decoder_failed"},
		{"abort", "photo_decoder_failed"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			limit := 10 * time.Second // of a machine that is busy
			if c.code == "photo_decoder_timeout" {
				limit = 700 * time.Millisecond
			}
			d := decoder(t, limit, c.mode)
			began := time.Now()
			picture, err := d.PNG(t.Context(), block(0))
			e, ok := errors.AsType[*Error](err)
			if picture != nil || !ok || e.Code != c.code || e.ZH == "" || e.EN == "" {
				t.Fatalf("gives %d bytes, %v", len(picture), err)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "no picture no") {
				t.Errorf("the error quotes the decoder: %v", err)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("took %v", took)
			}
			if n := d.Status().Outcomes[c.code]; n != 1 {
				t.Errorf("%d are counted", n)
			}
			nobodyLeft(t)
		})
	}
	d := New(Options{Command: []string{"/nonexistent/decoder"}})
	if _, err := d.PNG(t.Context(), block(0)); codeOf(err) != "photo_decoder_failed" || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a decoder that is not there gives %v", err)
	}
	if _, err := d.PNG(t.Context(), make([]byte, 1023)); codeOf(err) != "photo_bad_block" {
		t.Errorf("a short block gives %v", err)
	}
}

// TestCancelled ends a decoder with the request that wanted it.
func TestCancelled(t *testing.T) {
	d := decoder(t, time.Minute, "hang")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := d.PNG(ctx, block(0)); !errors.Is(err, context.DeadlineExceeded) || codeOf(err) != "" {
		t.Errorf("gives %v", err)
	}
	nobodyLeft(t)
}

// TestBusy asks for more pictures than decoders may run at once.
func TestBusy(t *testing.T) {
	d := decoder(t, 500*time.Millisecond, "hang")
	codes := make(chan string, 2*atOnce)
	var wg sync.WaitGroup
	for range cap(codes) {
		wg.Go(func() {
			_, err := d.PNG(t.Context(), block(0))
			codes <- codeOf(err)
		})
	}
	wg.Wait()
	close(codes)
	count := map[string]int{}
	for c := range codes {
		count[c]++
	}
	if count["photo_decoder_timeout"] < atOnce || count["photo_decoder_timeout"]+count["photo_decoder_busy"] != 2*atOnce {
		t.Errorf("they end as %v", count)
	}
	nobodyLeft(t)
}

// bmpOf is a BMP head with these sides and bits, and pixels of zeros behind it.
func bmpOf(width, height int32, bits uint16, pixels int) []byte {
	var b bytes.Buffer
	b.WriteString("BM")
	binary.Write(&b, binary.LittleEndian, []uint32{uint32(54 + pixels), 0, 54, 40})
	binary.Write(&b, binary.LittleEndian, []int32{width, height})
	binary.Write(&b, binary.LittleEndian, []uint16{1, bits})
	binary.Write(&b, binary.LittleEndian, make([]uint32, 6))
	b.Write(make([]byte, pixels))
	return b.Bytes()
}

func TestPicture(t *testing.T) {
	for _, c := range []struct {
		name string
		bmp  []byte
		good bool
	}{
		{"24 bits", bmpOf(102, 126, 24, 308*126), true},
		{"top row first", bmpOf(102, -126, 24, 308*126), true},
		{"32 bits", bmpOf(102, 126, 32, 4*102*126), true},
		{"largest", bmpOf(1024, 1, 24, 3072), true},
		{"too wide", bmpOf(1025, 1, 24, 3076), false},
		{"huge", bmpOf(1<<30, 1<<30, 24, 100), false},
		{"no width", bmpOf(0, 126, 24, 0), false},
		{"backwards", bmpOf(-102, 126, 24, 308*126), false},
		{"a row short", bmpOf(102, 126, 24, 308*125), false},
		{"16 bits", bmpOf(102, 126, 16, 204*126), false},
		{"head only", bmpOf(102, 126, 24, 0)[:54], false},
		{"half a head", bmpOf(102, 126, 24, 0)[:30], false},
		{"nothing", nil, false},
	} {
		out, err := toPNG(c.bmp)
		if c.good && (err != nil || len(out) == 0) || !c.good && codeOf(err) != "photo_bad_picture" {
			t.Errorf("%s gives %d bytes, %v", c.name, len(out), err)
		}
	}
}

// FuzzPicture makes sure that no output of a decoder harms the agent.
func FuzzPicture(f *testing.F) {
	f.Add(bmpOf(102, 126, 24, 308*126))
	f.Add(bmpOf(4, 4, 32, 64))
	f.Add(bmpOf(4, 4, 8, 2000))
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := toPNG(text)
		if err != nil {
			if codeOf(err) == "" {
				t.Errorf("a strange error: %v", err)
			}
			return
		}
		p, err := png.DecodeConfig(bytes.NewReader(out))
		if err != nil || p.Width > longestSide || p.Height > longestSide {
			t.Errorf("a picture of %d by %d, %v", p.Width, p.Height, err)
		}
	})
}
