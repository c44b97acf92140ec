package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/transcript"
	"github.com/hallagent/hallagent/idcard"
)

type recordCommand struct {
	Line     string        `help:"Where the device is." required:"" placeholder:"URL"`
	Kind     string        `help:"Kind of the reader; it is asked for cards as the agent does." xor:"how" required:"" placeholder:"KIND"`
	Listen   bool          `help:"Send nothing; write down what comes, from whatever device." xor:"how" required:""`
	For      time.Duration `help:"Record this long, or until Ctrl-C." default:"60s"`
	Unmasked bool          `help:"Write down everything: personal data, in clear, in a file."`
	Out      string        `arg:"" help:"The file to make; - is standard output." placeholder:"OUT"`
}

func (recordCommand) Help() string {
	return "Stop the agent first: it holds the port. The recording is masked unless --unmasked is given: text of a card " +
		"becomes asterisks, its photo and whatever is no answer of a reader become zeros. So a masked recording of " +
		"anything but a reader holds times and counts only. `hallagent play` plays a recording back.\n\n" +
		"Example:\n  hallagent record --line 'serial:///dev/serial/by-id/usb-XYZ?baud=auto' --kind sam reader.transcript"
}

// unmaskedWarnings say what an unmasked recording is.
var unmaskedWarnings = []string{
	"警告：此记录未脱敏，包含证件的全部个人信息。仅可用测试证件录制，用后删除，切勿外传。",
	"WARNING: this recording is not masked and holds all personal data of every card that was read. Record made-up test cards only, delete it after use and send it to nobody.",
}

// Validate refuses a recording of no length, and one that could not be masked so
// that it still plays: a mask knows the module's frames, not those of a board
// around them.
func (r recordCommand) Validate() error {
	if r.For <= 0 {
		return fmt.Errorf("--for %v: must be longer than nothing", r.For)
	}
	kind, err := idcard.Kinds().Find(r.Kind)
	if err == nil && kind.Wrap != nil && !r.Unmasked && !r.Listen {
		return fmt.Errorf("--kind %s cannot be masked; record a made-up card with --unmasked", r.Kind)
	}
	return nil
}

func (r recordCommand) Run(ctx context.Context, s streams) error {
	address, err := device.ParseAddress(r.Line)
	if err != nil {
		return err
	}
	var tape *transcript.Writer // made when all else is known to be right
	taped := func(dial device.Dial) device.Dial {
		return func(ctx context.Context) (device.Conn, error) {
			c, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			tape.Comment("line is open")
			return tape.Record(c), nil
		}
	}
	link := linkTo(address, taped, listen, s)
	if !r.Listen {
		reader := lineReader{url: r.Line, kind: r.Kind, dial: taped, deliver: func(e idcard.Event) {
			said := happened(e)
			tape.Comment(said[1])
			fmt.Fprintf(s.err, "%s\n%s\n", said[0], said[1])
		}}
		if link, _, err = reader.link(s); err != nil {
			return err
		}
	}
	out, done, err := r.create(s)
	if err != nil {
		return err
	}
	var mask transcript.Filter
	if !r.Unmasked {
		mask = new(idcard.Mask)
	}
	tape = transcript.NewWriter(out, mask)
	r.begin(s, tape, address)
	ctx, cancel := context.WithTimeout(ctx, r.For)
	defer cancel()
	_ = link.Run(ctx) // ends with ctx and in no other way
	st := link.Status()
	if err := errors.Join(tape.Close(), done(st.Opens > 0)); err != nil {
		return err
	}
	if st.Opens == 0 {
		return fmt.Errorf("record %s: %s\nhint: %s", address, st.Err, st.Hint)
	}
	fmt.Fprintf(s.err, "已记录 / recorded: %d bytes to the device, %d from it\n", st.BytesOut, st.BytesIn)
	if st.BytesIn == 0 && st.Hint != "" {
		fmt.Fprintln(s.err, "hint:", st.Hint)
	}
	return nil
}

// create makes the file, for its owner only and never in place of another; done
// closes it and takes a recording of nothing away.
func (r recordCommand) create(s streams) (out io.Writer, done func(keep bool) error, err error) {
	if r.Out == "-" {
		return s.out, func(bool) error { return nil }, nil
	}
	file, err := os.OpenFile(r.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%w\nhint: a recording is never written over; choose another name", err)
	}
	if err != nil {
		return nil, nil, err
	}
	return file, func(keep bool) error {
		err := file.Close()
		if !keep {
			err = errors.Join(err, os.Remove(r.Out))
		}
		return err
	}, nil
}

// begin says on both sides what is being made.
func (r recordCommand) begin(s streams, tape *transcript.Writer, address device.Address) {
	how := "kind " + r.Kind
	if r.Listen {
		how = "listening only"
	}
	state := "masked"
	if r.Unmasked {
		state = "NOT MASKED"
		for _, w := range unmaskedWarnings {
			tape.Comment(w)
			fmt.Fprintln(s.err, w)
		}
	}
	tape.Comment(fmt.Sprintf("hallagent %s, %s, %s, %s, from %s", version, address, how, state, time.Now().Format(time.RFC3339)))
	fmt.Fprintf(s.err, "正在记录 / recording: %s, %s, for %v\n", how, state, r.For)
}

// happened tells an event without the person, in Chinese and English.
func happened(e idcard.Event) [2]string {
	switch e.Type {
	case idcard.CardRead:
		return [2]string{"已读到证件", "card read"}
	case idcard.CardRemoved:
		return [2]string{"证件已取走", "card removed"}
	case idcard.CardAddresses:
		return [2]string{"证件中有新住址", "the card holds new addresses"}
	}
	return [2]string{e.Trouble.ZH, e.Trouble.EN + " (" + e.Trouble.Code + ")"}
}

// listen is a device.Use that hears and says nothing.
func listen(_ context.Context, c device.Conn, heard func()) error {
	for buf := make([]byte, 4096); ; {
		n, err := c.Read(buf)
		if n > 0 {
			heard()
		}
		if err != nil {
			return err
		}
	}
}
