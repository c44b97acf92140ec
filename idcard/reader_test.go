package idcard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/device"
)

// step is one request a scripted module expects, and what it does then.
type step struct {
	want   request
	after  time.Duration // until the answer
	answer []byte        // none: silence
	linger bool          // stay on the line without another word
}

func say(q request, f []byte) step { return step{want: q, answer: f} }
func hush(q request) step          { return step{want: q} }

var goodID = []byte{5, 0, 1, 0, 0x73, 0x8D, 0x32, 1, 12, 0, 0, 0, 0x15, 0xBF, 0x34, 0}

// hello are the steps of every session's beginning.
var hello = []step{say(askStatus, answer(0x90)), say(askSAMID, answer(0x90, goodID...)), say(askSAMID, answer(0x90, goodID...))}

var (
	none     = say(find, answer(0x80))
	found    = say(find, answer(0x9F, 0, 0, 0, 0))
	selected = say(choose, answer(0x90, make([]byte, 8)...))
	there    = say(presence, answer(0x91))
	doubt    = say(presence, answer(0x41))
	settled  = say(askSAMID, answer(0x90, goodID...)) // after a request without an answer
)

// disturbed is an answer with one wrong bit.
func disturbed(f []byte) []byte {
	f = bytes.Clone(f)
	f[len(f)-1] ^= 4
	return f
}

// play is the module's side of a script: it checks each request, answers, and
// hangs up at the end.
func play(t *testing.T, far net.Conn, steps []step) {
	heard := make(chan []byte, 64) // what was sent, as the buffer of a UART
	closed := make(chan struct{})
	defer func() { far.Close(); <-closed }()
	go func() {
		defer close(closed)
		defer close(heard)
		for {
			p := make([]byte, 64)
			n, err := far.Read(p)
			if err != nil {
				return
			}
			heard <- p[:n]
		}
	}()
	for i, s := range steps {
		if s.linger {
			<-closed
			return
		}
		got, err := []byte{}, error(nil)
		for len(got) < len(s.want.frame()) && err == nil {
			p, ok := <-heard
			if got = append(got, p...); !ok {
				err = io.EOF
			}
		}
		if err != nil {
			t.Errorf("step %d: want %s, got %v", i, s.want.name, err)
			return
		}
		if !bytes.Equal(got, s.want.frame()) {
			t.Errorf("step %d: want %s, got %X", i, s.want.name, got)
			return
		}
		time.Sleep(s.after)
		if _, err := far.Write(s.answer); err != nil {
			t.Errorf("step %d: %v", i, err)
			return
		}
	}
}

// happening is an event with the time since the test began.
type happening struct {
	Event
	at time.Duration
}

func (h happening) String() string {
	s := string(h.Type)
	if h.Trouble != nil {
		s += ":" + h.Trouble.Code
	}
	return s
}

// script runs a real Reader against the steps, after a good hello.
func script(t *testing.T, steps ...step) (*Reader, []happening, error) {
	t.Helper()
	return raw(t, append(append([]step{}, hello...), steps...)...)
}

func raw(t *testing.T, steps ...step) (*Reader, []happening, error) {
	t.Helper()
	r, events := collecting(t)
	err := r.meet(t, steps)
	return r.Reader, *events, err
}

// scripted is a real Reader for lines with a script at their other end.
type scripted struct{ *Reader }

// collecting makes one whose events are collected.
func collecting(t *testing.T) (scripted, *[]happening) {
	t.Helper()
	var events []happening
	start := time.Now()
	r, err := NewReader(Config{ID: "rd-05", Kind: "sam", Window: "05", Baud: 115200}, func(_ context.Context, e Event) {
		events = append(events, happening{e, time.Since(start)})
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return scripted{r}, &events
}

// meet lets it use one line, to the end of the script.
func (r scripted) meet(t *testing.T, steps []step) error {
	near, far := net.Pipe()
	defer near.Close()
	go play(t, far, steps)
	err := r.Use(t.Context(), near, func() {})
	near.Close()
	synctest.Wait()
	return err
}

// hungUp says that the module's side ended the line.
func hungUp(err error) bool {
	code, _ := device.Cause(err)
	return code == "closed"
}

func names(events []happening) string {
	var all []string
	for _, e := range events {
		all = append(all, e.String())
	}
	return strings.Join(all, " ")
}

func TestReadCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := vectorCardOf(t, "cn-01-plain")
		r, events, err := script(t, none, none, found, selected,
			step{want: readCard, after: 900 * time.Millisecond, answer: v.Response},
			there, there, say(presence, answer(0x90, make([]byte, 70)...)), doubt, doubt, none, none)
		if !hungUp(err) {
			t.Errorf("Use = %v", err)
		}
		if got := names(events); got != "card removed" {
			t.Fatalf("events: %s", got)
		}
		e := events[0]
		if e.Card.IDNumber != "119999190102030011" || !bytes.Equal(e.Photo, v.Photo) || e.Reader != "rd-05" || e.Window != "05" || len(e.Warnings) != 0 || e.Event.At.IsZero() {
			t.Errorf("event %v is not that of the card", e.Event)
		}
		s := r.Status()
		if s.Scans != 1 || s.Card || s.SAMID != "05.01-20090227-0000000012-0003456789" || s.Discarded != 0 || len(s.Troubles) != 0 {
			t.Errorf("status %+v", s)
		}
		if s.State != device.Waiting || s.Code != "closed" {
			t.Errorf("status after the line closed: %+v", s)
		}
	})
}

// The event comes with the last byte of the answer, and find follows removal
// without a pause.
func TestNothingIsAddedToTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := vectorCardOf(t, "cn-01-plain")
		_, events, _ := script(t, found, selected, step{want: readCard, after: time.Second, answer: v.Response}, there, doubt, doubt, found, selected, step{want: readCard, after: time.Second, answer: v.Response})
		// Draining a pipe takes 1 ms before each request: 6 of them, and no poll.
		if at := events[0].at; at != time.Second+6*time.Millisecond {
			t.Errorf("card event after %v", at)
		}
		if gap := events[2].at - events[1].at; gap != time.Second+3*time.Millisecond {
			t.Errorf("second card %v after the first was removed", gap)
		}
	})
}

func TestTroubles(t *testing.T) {
	resident := vectorCardOf(t, "cn-02-female-long-term").Response
	foreign := vectorCardOf(t, "fi-01-plain").Response
	good := say(readCard, resident)
	failed := say(readCard, answer(0x41))
	tests := map[string]struct {
		steps []step
		want  string
	}{
		"moved once":                  {[]step{found, selected, failed, found, selected, good, there}, "card removed"},
		"refused once":                {[]step{found, selected, say(readCard, answer(0x32)), found, selected, good}, "card removed"},
		"select failed once":          {[]step{found, say(choose, answer(0x81)), found, selected, good}, "card removed"},
		"lifted too early":            {[]step{found, selected, failed, none, none, found, selected, good}, "trouble:read_failed card removed"},
		"never readable":              {[]step{found, selected, failed, found, selected, failed, found, selected, failed, found, selected, failed}, "trouble:read_failed"},
		"told again when laid again":  {[]step{found, selected, failed, found, selected, failed, none, none, found, selected, failed, found, selected, failed}, "trouble:read_failed trouble:read_failed"},
		"verification fails":          {[]step{found, selected, say(readCard, answer(0x33)), found, selected, say(readCard, answer(0x33))}, "trouble:info_verify_error"},
		"module ill on find":          {[]step{say(find, answer(0x66)), say(find, answer(0x66)), none}, "trouble:sam_not_authorised"},
		"find disturbed once":         {[]step{say(find, answer(0x24)), none, say(find, answer(0x81)), settled, found, selected, good}, "card removed"},
		"find refused":                {[]step{say(find, answer(0x24)), say(find, answer(0x24)), say(find, answer(0x24)), none}, "trouble:unknown_error"},
		"find never answered":         {[]step{hush(find), settled, hush(find), settled, hush(find), settled, hush(find), settled, found, selected, good}, "trouble:no_answer card removed"},
		"find always garbled":         {slices.Repeat([]step{say(find, disturbed(none.answer)), settled}, 5), "trouble:garbled_answer"},
		"the next card's own trouble": {[]step{none, none, none, say(find, answer(0x24)), say(find, answer(0x24)), none, none, none, found, say(choose, answer(0x24)), none}, "trouble:unknown_error trouble:unknown_error"},
		"other kind of card":          {[]step{found, selected, say(readCard, foreign), there, there, doubt, doubt, none}, "card removed"},
		"success without a card":      {[]step{found, selected, say(readCard, answer(0x90)), settled, none}, "trouble:bad_payload"},
		"read unanswered":             {[]step{found, selected, hush(readCard), settled, selected, failed, found, selected, good}, "card removed"},
		"select unanswered":           {[]step{found, hush(choose), settled, found, selected, good}, "card removed"},
		"never answered":              {[]step{found, hush(choose), settled, found, hush(choose), settled, none}, "trouble:no_answer"},
		"read garbled":                {[]step{found, selected, say(readCard, resident[:1000]), settled, say(choose, answer(0x81)), failed, none}, "trouble:garbled_answer"},
		"read garbled once":           {[]step{found, selected, say(readCard, disturbed(resident)), settled, selected, good}, "card removed"},
		"read garbled, select denied": {[]step{found, selected, say(readCard, disturbed(resident)), settled, say(choose, answer(0x81)), good}, "card removed"},
		"one find unanswered":         {[]step{hush(find), settled, none, hush(find), settled, found, selected, good}, "card removed"},
		"no id, only a status":        {[]step{hush(find), hush(askSAMID), say(askStatus, answer(0x90)), found, selected, good}, "card removed"},
		"presence unanswered, no end": {[]step{found, selected, good, hush(presence), settled, there, hush(presence), settled, there, doubt}, "card removed"},
		"at the edge of the field":    {[]step{found, selected, good, there, doubt, there, doubt, there}, "card removed"},
		"line lost under the card":    {[]step{found, selected, good, there}, "card removed"},
		"echo of the request":         {[]step{say(find, append(find.frame(), answer(0x9F, 0, 0, 0, 0)...)), selected, good}, "card removed"},
		"late answers passed over": {[]step{say(find, append(answer(0x41), found.answer...)),
			say(choose, append(append([]byte{}, found.answer...), selected.answer...)), good}, "card removed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, events, err := script(t, tt.steps...)
				if got := names(events); got != tt.want {
					t.Errorf("events: %s; want %s", got, tt.want)
				}
				if errors.Is(err, device.ErrSilent) {
					t.Errorf("Use = %v", err)
				}
				for _, e := range events {
					if e.Trouble != nil && (e.Trouble.ZH == "" || e.Trouble.EN == "" || e.Trouble.Detail == "" || r.Status().Troubles[e.Trouble.Code] == 0) {
						t.Errorf("trouble %+v, status %+v", e.Trouble, r.Status())
					}
				}
			})
		})
	}
}

// A late answer that arrives between two requests is dropped, not taken.
func TestLateAnswerIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := step{want: find, after: 1100 * time.Millisecond, answer: answer(0x9F, 0, 0, 0, 0)} // 100 ms after its limit
		_, events, err := script(t, late, settled, none, none)
		if len(events) != 0 || !hungUp(err) {
			t.Errorf("events: %s, Use = %v", names(events), err)
		}
	})
}

func TestSilence(t *testing.T) {
	v := vectorCardOf(t, "cn-01-plain")
	tests := map[string]struct {
		steps    []step
		within   time.Duration
		say, got string
	}{
		"from the start":    {slices.Repeat([]step{hush(askStatus)}, contactTries), 4 * time.Second, "no answer", ""},
		"at another rate":   {slices.Repeat([]step{say(askStatus, []byte("\xF8\x00\xC0"))}, contactTries), 4 * time.Second, "wrong baud rate", ""},
		"while looking":     {append(append([]step{}, hello...), none, hush(find), hush(askSAMID), hush(askStatus)), 2500 * time.Millisecond, "no answer", ""},
		"with a card there": {append(append([]step{}, hello...), found, selected, say(readCard, v.Response), hush(presence), hush(askSAMID), hush(askStatus)), 3 * time.Second, "no answer", "card removed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				r, events, err := raw(t, append(tt.steps, step{linger: true})...)
				if !errors.Is(err, device.ErrSilent) || !strings.Contains(err.Error(), tt.say) {
					t.Errorf("Use = %v", err)
				}
				if took := time.Since(start); took > tt.within {
					t.Errorf("silent after %v", took)
				}
				code := "silent"
				if name == "at another rate" {
					code = "garbled"
				}
				if s := r.Status(); s.State != device.Wedged || s.Code != code || s.Card {
					t.Errorf("status %+v", s)
				}
				if got := names(events); got != tt.got {
					t.Errorf("events: %s; want %s", got, tt.got)
				}
			})
		})
	}
}

func TestIllModuleIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := append([]byte{9}, goodID[1:]...)
		r, events, _ := raw(t, say(askStatus, answer(0x60)), say(askStatus, answer(0x60)), hush(askStatus), say(askStatus, answer(0x90)),
			say(askSAMID, answer(0x90, other...)), say(askSAMID, answer(0x90, goodID...)), say(askSAMID, answer(0x90, goodID...)), none)
		if got := names(events); got != "trouble:sam_self_test_failed" {
			t.Errorf("events: %s", got)
		}
		if s := r.Status(); s.SAMID != samID(goodID) {
			t.Errorf("SAM id %s", s.SAMID)
		}
	})
}

func TestStopEndsUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := vectorCardOf(t, "cn-01-plain")
		var events []Event
		r, err := NewReader(Config{ID: "rd-05", Kind: "sam"}, func(_ context.Context, e Event) { events = append(events, e) }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		dial := func(context.Context) (device.Conn, error) {
			near, far := net.Pipe()
			go play(t, far, append(append([]step{}, hello...), found, selected, say(readCard, v.Response), step{linger: true}))
			return near, nil
		}
		link := device.NewLink("window-05", dial, r.Use, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- link.Run(ctx) }()
		time.Sleep(100 * time.Millisecond)
		if link.Status().State != device.Online || r.Status().State != device.Online || !r.Status().Card {
			t.Errorf("link %+v, reader %+v", link.Status(), r.Status())
		}
		cancel()
		<-done
		synctest.Wait()
		if len(events) != 1 || events[0].Type != CardRead { // a stopping agent has nobody to tell
			t.Errorf("events %v", events)
		}
		if s := r.Status(); s.State != device.Waiting || s.Card {
			t.Errorf("status %+v", s)
		}
	})
}

func TestNewReaderRefuses(t *testing.T) {
	for _, cfg := range []Config{{ID: "x", Kind: "samm"}, {ID: "x", Kind: "sam", Poll: -1}, {ID: "x", Kind: "sam", Baud: -1}} {
		if _, err := NewReader(cfg, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), `"x"`) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// What a Reader logs holds nothing of the cards it read.
func TestReaderLogsNothingPersonal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		v := vectorCardOf(t, "cn-01-plain")
		near, far := net.Pipe()
		defer near.Close()
		r, err := NewReader(Config{ID: "rd-05", Kind: "sam", Window: "05"}, func(context.Context, Event) {}, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		if err != nil {
			t.Fatal(err)
		}
		go play(t, far, append(append([]step{}, hello...), found, selected, say(readCard, v.Response), doubt, doubt, found, selected, say(readCard, answer(0x33))))
		if err := r.Use(t.Context(), near, func() {}); !hungUp(err) {
			t.Error(err)
		}
		log := out.String() + fmt.Sprintf("%+v", r.Status())
		if !strings.Contains(log, "info_verify_error") || !strings.Contains(log, "device=rd-05") {
			t.Errorf("log says nothing:\n%s", log)
		}
		for _, secret := range []string{"测试", "119999", "1901", "虚构"} {
			if strings.Contains(log, secret) {
				t.Errorf("%q was logged:\n%s", secret, log)
			}
		}
	})
}

// A card over which the line was lost is not forgotten: it is tried again when the
// module answers, however long that takes, and the teller is told if that does not
// help.
func TestLineLostOverACard(t *testing.T) {
	good := say(readCard, vectorCardOf(t, "cn-01-plain").Response)
	reading := append(slices.Clone(hello), found, selected)
	silent := slices.Concat(reading, []step{hush(readCard), hush(askSAMID), hush(askStatus), {linger: true}})
	cut := slices.Concat(reading, []step{say(readCard, good.answer[:500])})
	mute := append(slices.Repeat([]step{hush(askStatus)}, contactTries), step{linger: true})
	read := append(slices.Clone(hello), none, selected, good, there)
	denied := append(slices.Clone(hello), none, say(choose, answer(0x81)), say(readCard, answer(0x41)), none)
	for name, tt := range map[string]struct {
		lines [][]step
		want  string
	}{
		"silent, read":               {[][]step{silent, read}, "card removed"},
		"silent, denied":             {[][]step{silent, denied}, "trouble:no_card_found"},
		"silent for long":            {[][]step{silent, mute, mute, denied}, "trouble:no_card_found"},
		"hung up in the midst":       {[][]step{cut, denied}, "trouble:no_card_found"},
		"hung up, then read by find": {[][]step{cut, append(slices.Clone(hello), found, selected, good, there)}, "card removed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, events := collecting(t)
				for _, steps := range tt.lines {
					r.meet(t, steps)
				}
				if got := names(*events); got != tt.want {
					t.Errorf("events: %s; want %s", got, tt.want)
				}
			})
		})
	}
}
