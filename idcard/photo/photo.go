// Package photo turns the photo block of an ID card into a picture with a
// decoder that the site installs. The block's coding (WLT) is not public and no
// decoder is shipped: without one there is no Decoder, and whoever shows a card
// says that its photo is not decoded.
//
// A decoder is a program of somebody else's that is fed with biometric data, so
// it gets nothing but its work: a process of its own without descriptors,
// environment, privileges or terminal, the 1024 bytes on stdin, a BMP on stdout,
// a time limit, and an end for it and all its children whatever they do. On
// Linux (amd64, arm64, loong64) the program starts itself again, locks itself in
// and only then becomes the decoder (see Confine): a seccomp filter takes away
// the network, writing to files, other processes and new privileges, Landlock
// the reading of files that no decoder needs. User namespaces would hide even
// more, but services are often forbidden to make them, and a sandbox that is
// there on some machines only is none.
//
// Limits: a kernel without Landlock (before 5.13) lets the decoder read what the
// agent's user may read; it still has no way to write or send it but the picture.
// No file can be opened for writing, /dev/null included: a script that silences a
// program has no need to, as stderr goes nowhere.
// Children that a decoder leaves are ended with it, but outlive an agent that is
// killed; the service manager ends those.
// On other systems and processors the decoder runs with the limits of time and
// output only; Status says so. What the decoder prints on stderr is dropped,
// since it could hold something of the person.
package photo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"
)

// BlockSize is the size of a card's photo block in bytes.
const BlockSize = 1024

const (
	defaultLimit = 5 * time.Second
	atOnce       = 2 // decoders running; a stuck one must not take the whole gateway
)

// Options say which program decodes.
type Options struct {
	Command []string      // program, as an absolute path, and its arguments; no shell is in between
	Limit   time.Duration // for one photo; 0: five seconds
	Log     *slog.Logger
}

// Decoder runs the site's program for each photo. It is safe for many goroutines.
type Decoder struct {
	opt   Options
	slots chan struct{}
	weak  sync.Once // tells once that the sandbox has a gap

	mu       sync.Mutex
	outcomes map[string]uint64
}

// New makes a decoder; nil when there is no command. It starts nothing.
func New(opt Options) *Decoder {
	if len(opt.Command) == 0 {
		return nil
	}
	if opt.Limit <= 0 {
		opt.Limit = defaultLimit
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	d := &Decoder{opt: opt, slots: make(chan struct{}, atOnce), outcomes: map[string]uint64{"good": 0}}
	for _, m := range meanings {
		d.outcomes[m.Code] = 0
	}
	return d
}

// Status is what a decoder did and how well it is locked in.
type Status struct {
	Sandbox  string            // seccomp+landlock, seccomp, none
	Outcomes map[string]uint64 // photos by "good" or the code of what went wrong
}

// Status gives a snapshot.
func (d *Decoder) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Status{Sandbox: sandbox(), Outcomes: maps.Clone(d.outcomes)}
}

// PNG decodes a photo block of 1024 bytes into a PNG. What goes wrong is an
// *Error, or that of ctx when it ends first. The caller clears the picture when
// it is no longer needed.
func (d *Decoder) PNG(ctx context.Context, block []byte) ([]byte, error) {
	png, err := d.decode(ctx, block)
	outcome := "good"
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return nil, err // nobody waits for it any more
		}
		outcome = e.Code
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outcomes[outcome]++
	return png, err
}

func (d *Decoder) decode(ctx context.Context, block []byte) ([]byte, error) {
	if len(block) != BlockSize {
		return nil, trouble(badBlock, fmt.Errorf("photo block has %d bytes, want %d", len(block), BlockSize))
	}
	d.weak.Do(func() {
		if s := sandbox(); s != strongest {
			d.opt.Log.Warn("the photo decoder is not fully locked in", "sandbox", s,
				"hint", "Linux 5.13 or newer with Landlock, on amd64, arm64 or loong64, has all of it")
		}
	})
	limited, cancel := context.WithTimeout(ctx, d.opt.Limit)
	defer cancel()
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-limited.Done():
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("wait for the photo decoder: %w", err)
		}
		return nil, trouble(busy, fmt.Errorf("%d decoders still run after %v", atOnce, d.opt.Limit))
	}
	bmp, err := d.run(limited, block)
	defer clear(bmp)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("run the photo decoder: %w", ctx.Err())
	case limited.Err() != nil && err != nil:
		return nil, trouble(tooLong, fmt.Errorf("no picture after %v", d.opt.Limit))
	case err != nil:
		return nil, err
	}
	return toPNG(bmp)
}

// Error is why there is no picture. It quotes nothing of the decoder's output.
type Error struct {
	Code string // stable
	ZH   string // a sentence for the teller
	EN   string // the same
	Err  error  // for a technician
}

func (e *Error) Error() string { return e.Code + ": " + e.Err.Error() }

// Unwrap gives the technician's error.
func (e *Error) Unwrap() error { return e.Err }

// What can go wrong, by index in meanings.
const (
	badBlock = iota
	busy
	tooLong
	failed
	badPicture
)

var meanings = [...]Error{
	badBlock:   {Code: "photo_bad_block", ZH: "证件照片数据不完整，请重新读卡", EN: "The card's photo data is incomplete; read the card again"},
	busy:       {Code: "photo_decoder_busy", ZH: "照片解码程序正忙，请稍后再试", EN: "The photo decoder is busy; try again in a moment"},
	tooLong:    {Code: "photo_decoder_timeout", ZH: "照片解码超时，请再试一次", EN: "The photo decoder took too long; try again"},
	failed:     {Code: "photo_decoder_failed", ZH: "照片解码失败，请联系技术人员", EN: "The photo decoder did not work; call support"},
	badPicture: {Code: "photo_bad_picture", ZH: "解码结果不是有效照片，请联系技术人员", EN: "What the decoder gave is no picture; call support"},
}

func trouble(which int, err error) *Error {
	e := meanings[which]
	e.Err = err
	return &e
}
