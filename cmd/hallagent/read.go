package main

import (
	"context"
	"encoding/json"
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
		"character is printed, of the number the first three digits, of what else tells who it is nothing.\n\n" +
		"Example:\n  hallagent read --line 'serial:///dev/serial/by-id/usb-XYZ?baud=auto'"
}

// addressWait is how long a card's new addresses may follow it.
const addressWait = time.Second

func (r readCommand) Run(ctx context.Context, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, r.Within)
	defer cancel()
	var card *idcard.Event
	line := lineReader{url: r.Line, kind: r.Kind, deliver: func(e idcard.Event) {
		switch {
		case e.Type == idcard.CardTroubled:
			fmt.Fprintf(s.err, "%s\n%s\n(%s)\n", e.Trouble.ZH, e.Trouble.EN, e.Trouble.Detail)
		case e.Type == idcard.CardRead && card == nil:
			card = &e
			time.AfterFunc(addressWait, cancel)
		case e.Type == idcard.CardAddresses && card != nil:
			card.Addresses = e.Addresses
			cancel()
		case e.Type == idcard.CardRemoved:
			cancel()
		}
	}}
	link, reader, err := line.link(s)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.err, "请放置身份证 / lay the card on the reader")
	err = link.Run(ctx)
	if st := reader.Status(); st.SAMID != "" {
		fmt.Fprintf(s.err, "读卡器安全模块 / reader's SAM: %s%s\n", st.SAMID, atRate(st.Baud))
	}
	if card != nil {
		return r.print(s, *card)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		if st := link.Status(); st.Err != "" {
			return fmt.Errorf("read a card within %v: %s\nhint: %s", r.Within, st.Err, st.Hint)
		}
		return fmt.Errorf("read a card within %v: none was laid on", r.Within)
	}
	return err
}

// atRate tells the rate that was looked for.
func atRate(baud int) string {
	if baud == 0 {
		return ""
	}
	return fmt.Sprintf(", baud=%d", baud)
}

// labels of a card's members, and how many characters of each may be seen
// before somebody asks for all, as on the page of a window; -1 is all of them,
// since they tell nobody who the person is.
var labels = []struct {
	member, text string
	keep         int
}{
	{"name", "姓名 name", 1},
	{"english_name", "英文姓名 English name", 1},
	{"sex", "性别 sex", -1},
	{"nation", "民族 nation", 0},
	{"nationality", "国籍 nationality", -1},
	{"birth", "出生 birth", 0},
	{"address", "住址 address", 0},
	{"id_number", "号码 number", 3},
	{"previous_id_number", "原号码 previous number", 3},
	{"region", "地区 region", -1},
	{"travel_permit_number", "通行证号码 travel permit number", 1},
	{"issue_count", "签发次数 times issued", -1},
	{"renewals", "换证次数 renewals", -1},
	{"version", "证件版本 version", -1},
	{"authority_code", "受理机关代码 authority code", -1},
	{"issuer", "签发机关 issuer", 0},
	{"valid_from", "有效期自 valid from", -1},
	{"valid_to", "有效期至 valid to", -1},
}

// print prints what a card of its kind has, masked unless it is to be shown.
func (r readCommand) print(s streams, e idcard.Event) error {
	text, err := json.Marshal(e.Card)
	if err != nil {
		return err
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	if e.Card.LongTerm {
		members["valid_to"] = "长期 long term"
	}
	out := []string{"证件 card: " + e.Card.Type}
	for _, l := range labels {
		value, ok := members[l.member]
		if !ok {
			continue // not on a card of this kind
		}
		text, _ := value.(string)
		out = append(out, l.text+": "+r.shown(text, l.keep))
	}
	for _, a := range e.Addresses {
		out = append(out, "新住址 new address: "+r.shown(a, 0))
	}
	for _, w := range e.Warnings {
		out = append(out, fmt.Sprintf("提示 warning: %s: %s", w.Field, w.Code))
	}
	_, err = fmt.Fprintln(s.out, strings.Join(out, "\n"))
	return err
}

func (r readCommand) shown(text string, keep int) string {
	if r.Show || keep < 0 {
		return text
	}
	return mask(text, keep)
}

// mask leaves the first characters and shows how many follow.
func mask(text string, keep int) string {
	runes := []rune(text)
	if len(runes) <= keep {
		keep = 0
	}
	return string(runes[:keep]) + strings.Repeat("*", len(runes)-keep)
}
