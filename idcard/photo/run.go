package photo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
)

const (
	longestOutput = 256 << 10 // bytes; a BMP of 102 by 126 pixels has 38 862
	longestReason = 4 << 10   // bytes of what the sandbox has to say
)

// run feeds a block to the program and gives its output, with everything it
// started ended. The errors of ctx are left to the caller to explain.
func (d *Decoder) run(ctx context.Context, block []byte) ([]byte, error) {
	// The death signal that the sandbox asks for is tied to this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var all pipes
	defer all.close()
	stdin, feed, err1 := all.open()
	output, stdout, err2 := all.open()
	reasons, reason, err3 := all.open()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, trouble(failed, fmt.Errorf("open pipes: %w", err))
	}
	// A pipe holds 4096 bytes at least: no decoder can make this wait.
	if _, err := feed.Write(block); err != nil {
		return nil, trouble(failed, fmt.Errorf("feed the decoder: %w", err))
	}
	feed.Close()

	cmd := d.command(reason)
	cmd.Dir, cmd.Env = workDir, environment()
	cmd.Stdin, cmd.Stdout = stdin, stdout // files: exec then needs no goroutine; stderr goes nowhere
	if err := cmd.Start(); err != nil {
		return nil, trouble(failed, fmt.Errorf("start the decoder: %w", err))
	}
	stdin.Close()
	stdout.Close()
	reason.Close()

	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		killAll(cmd.Process)
		output.Close()
	})
	out, err := io.ReadAll(io.LimitReader(output, longestOutput+1))
	if len(out) > longestOutput {
		killAll(cmd.Process)
	}
	waited := wait(cmd, func() {
		if !stop() {
			<-ended
		}
	})

	why, _ := io.ReadAll(io.LimitReader(reasons, longestReason))
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case len(why) > 0:
		err = trouble(failed, errors.New(string(why)))
	case len(out) > longestOutput:
		err = trouble(badPicture, fmt.Errorf("read the decoder's output: more than %d bytes", longestOutput))
	case err != nil:
		err = trouble(failed, fmt.Errorf("read the decoder's output: %w", err))
	case waited != nil:
		err = trouble(failed, fmt.Errorf("run the decoder: %w", waited))
	}
	if err != nil {
		clear(out)
		return nil, err
	}
	return out, nil
}

// pipes are closed together, whatever was closed before.
type pipes []*os.File

func (p *pipes) open() (r, w *os.File, err error) {
	r, w, err = os.Pipe()
	if err == nil {
		*p = append(*p, r, w)
	}
	return r, w, err
}

func (p pipes) close() {
	for _, f := range p {
		f.Close()
	}
}
