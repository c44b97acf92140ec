package idcard

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

func TestExchangeVectors(t *testing.T) {
	requests := map[string]request{
		"status": askStatus, "sam_id": askSAMID, "find_ok": find, "find_none": find,
		"select_ok": choose, "select_fail": choose, "read_base": readCard, "read_base_card_gone": readCard,
		"new_address_none": presence, "new_address_one": presence, "new_address_four_slots_two_used": presence,
	}
	refused := map[string]string{
		"find_none": "no_card_found", "select_fail": "select_failed",
		"read_base_card_gone": "read_failed", "new_address_none": "no_such_content",
	}
	cards := loadVectors(t).Cards
	seen := 0
	for _, v := range loadVectors(t).Exchanges {
		want, err := hex.DecodeString(v.Request)
		if err != nil {
			t.Fatal(err)
		}
		if got := Command(want[7], want[8], want[9:len(want)-1]...); string(got) != string(want) {
			t.Errorf("%s: Command = %X, want %X", v.Name, got, want)
		}
		q, ok := requests[v.Name]
		if !ok {
			continue
		}
		seen++
		if string(q.frame()) != string(want) {
			t.Errorf("%s: request %X, want %X", v.Name, q.frame(), want)
		}
		answer := []byte(cards[0].Response)
		if v.Name != "read_base" {
			answer, err = hex.DecodeString(v.Response)
		}
		frames, _ := frame(answer, 64)
		if err != nil || len(frames) != 1 {
			t.Fatalf("%s: %d frames, %v", v.Name, len(frames), err)
		}
		if !q.answers(frames[0]) {
			t.Errorf("%s: its own answer is of the wrong shape", v.Name)
		}
		if code, ok := refused[v.Name]; ok != (frames[0].Status() != q.done) || ok && statusError(q, frames[0]).Code() != code {
			t.Errorf("%s: %v", v.Name, statusError(q, frames[0]))
		}
		if v.Name == "sam_id" && !strings.Contains(string(v.Expected), samID(frames[0].Data())) {
			t.Errorf("SAM id %s, want %s", samID(frames[0].Data()), v.Expected)
		}
	}
	if seen != len(requests) {
		t.Errorf("%d of %d exchanges found", seen, len(requests))
	}
}

// A late answer must fit no request that can follow it.
func TestAnswersAreToldApart(t *testing.T) {
	answers := map[string]Frame{
		"status": answer(0x90), "SAM id": answer(0x90, make([]byte, 16)...), "find": answer(0x9F, 0, 0, 0, 0),
		"no card": answer(0x80), "select": answer(0x90, make([]byte, 8)...),
		"read": answer(0x90, make([]byte, cardSize)...), "read failed": answer(0x41), "nothing new": answer(0x91),
		"address": answer(0x90, make([]byte, 70)...), "sick": answer(0x60),
	}
	fits := map[string]string{
		"status":   "sick status",
		"SAM id":   "SAM id sick",
		"find":     "find no card sick",
		"select":   "nothing new read failed select sick",
		"read":     "nothing new read read failed sick",
		"presence": "address nothing new read failed sick status",
	}
	for _, q := range []request{askStatus, askSAMID, find, choose, readCard, presence} {
		for name, f := range answers {
			want := strings.Contains(" "+fits[q.name]+" ", " "+name+" ")
			if name == "read" { // is also the first half of read failed
				want = q.name == "read"
			}
			if q.answers(f) != want {
				t.Errorf("%s takes the answer %q: %v", q.name, name, !want)
			}
		}
	}
}

func answer(sw3 byte, data ...byte) Frame {
	return Command(0, 0, append([]byte{sw3}, data...)...)
}

func TestLimits(t *testing.T) {
	tests := []struct {
		q    request
		baud int
		want time.Duration
	}{
		{readCard, 9600, 3*time.Second + 1359*time.Millisecond},
		{readCard, 115200, 3*time.Second + 113*time.Millisecond},
		{find, 115200, time.Second + 2*time.Millisecond},
		{askStatus, 9600, 321 * time.Millisecond},
	}
	for _, tt := range tests {
		if got := tt.q.limit(tt.baud); got < tt.want || got > tt.want+2*time.Millisecond {
			t.Errorf("%s at %d: %v, want %v", tt.q.name, tt.baud, got, tt.want)
		}
	}
}

func TestUnknownStatus(t *testing.T) {
	err := statusError(find, Command(0x69, 0x86, 0x99))
	if err.Code() != "unknown_status" || !strings.Contains(err.Error(), "69 86 99") {
		t.Errorf("%v", err)
	}
}
