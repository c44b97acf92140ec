package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hallagent/hallagent/idcard"
)

type readCommand struct {
	Line   string        `help:"Where the reader is." required:"" placeholder:"URL"`
	Kind   string        `help:"Kind of the reader." default:"sam"`
	Show   bool          `help:"Print what was read in full: personal data on a screen."`
	Within time.Duration `help:"Give up after this time." default:"30s"`
}

func (readCommand) Help() string {
	return "Stop the agent first: it holds the port. Masked unless --show is given: of the name only the first " +
		"character is printed, of the number the first three digits, of the rest nothing.\n\n" +
		"Example:\n  hallagent read --line 'serial:///dev/serial/by-id/usb-XYZ?baud=115200'"
}

func (r readCommand) Run(ctx context.Context, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, r.Within)
	defer cancel()
	var card *idcard.Event
	link, err := lineReader{url: r.Line, kind: r.Kind, deliver: func(e idcard.Event) {
		switch e.Type {
		case idcard.CardRead:
			if card == nil {
				card = &e
			}
			cancel()
		case idcard.CardTroubled:
			fmt.Fprintf(s.err, "%s\n%s\n", e.Trouble.ZH, e.Trouble.EN)
		}
	}}.link(s)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.err, "请放置身份证 / lay the card on the reader")
	if err := link.Run(ctx); card == nil {
		if errors.Is(err, context.DeadlineExceeded) {
			if st := link.Status(); st.Err != "" {
				return fmt.Errorf("read a card within %v: %s\nhint: %s", r.Within, st.Err, st.Hint)
			}
			return fmt.Errorf("read a card within %v: none was laid on", r.Within)
		}
		return err
	}
	return r.print(s, *card)
}

func (r readCommand) print(s streams, e idcard.Event) error {
	c := e.Card
	show := func(text string, keep int) string {
		if r.Show {
			return text
		}
		return mask(text, keep)
	}
	validTo := "长期"
	if !c.LongTerm {
		validTo = string(c.ValidTo)
	}
	for _, line := range [][2]string{
		{"姓名 name", show(string(c.Name), 1)},
		{"性别 sex", show(string(c.Sex), 0)},
		{"民族 nation", show(string(c.Nation), 0)},
		{"出生 birth", show(string(c.Birth), 0)},
		{"住址 address", show(string(c.Address), 0)},
		{"号码 number", show(string(c.IDNumber), 3)},
		{"签发机关 issuer", show(string(c.Issuer), 0)},
		{"有效期 valid", show(string(c.ValidFrom), 0) + " – " + show(validTo, 0)},
	} {
		if _, err := fmt.Fprintf(s.out, "%s: %s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	for _, w := range e.Warnings {
		fmt.Fprintf(s.out, "warning: %s: %s\n", w.Field, w.Code)
	}
	return nil
}

// mask leaves the first characters and shows how many follow.
func mask(text string, keep int) string {
	runes := []rune(text)
	if len(runes) <= keep {
		keep = 0
	}
	return string(runes[:keep]) + strings.Repeat("*", len(runes)-keep)
}
