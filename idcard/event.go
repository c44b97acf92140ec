package idcard

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// EventType says what happened at a reader.
type EventType string

// What happens at a reader.
const (
	CardRead      EventType = "card"      // Card, Photo and Warnings are set
	CardAddresses EventType = "addresses" // of the card that was read before: Addresses and Warnings are set
	CardRemoved   EventType = "removed"   // the card was lifted, or the line to it lost
	CardTroubled  EventType = "trouble"   // Trouble is set
)

// Event is something that happened at a reader. Like Card it prints and logs
// nothing of the person.
type Event struct {
	Type      EventType `json:"type"`
	Reader    string    `json:"reader"`
	Window    string    `json:"window"`
	At        time.Time `json:"at"`
	Card      *Card     `json:"card,omitempty"`
	Photo     []byte    `json:"-"` // 1024 bytes in the card's own coding
	Warnings  []Warning `json:"warnings,omitempty"`
	Addresses []string  `json:"new_addresses,omitempty"` // that the chip holds besides the printed one
	Trouble   *Trouble  `json:"trouble,omitempty"`
}

// copy shares no memory with e that anybody would clear.
func (e Event) copy() Event {
	c := *e.Card
	e.Card, e.Photo = &c, bytes.Clone(e.Photo)
	return e
}

// Format prints type and reader, whatever the verb.
func (e Event) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "idcard.Event(%s at %s)", e.Type, e.Reader)
}

// LogValue logs type and reader.
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(slog.String("type", string(e.Type)), slog.String("device", e.Reader))
}

// Trouble is a reading that failed.
type Trouble struct {
	Code   string `json:"code"`   // stable
	ZH     string `json:"zh"`     // a sentence for the teller
	EN     string `json:"en"`     // the same
	Detail string `json:"detail"` // for a technician
}

// Codes of troubles that are not a status word of the module.
const (
	codeNoAnswer      = "no_answer"
	codeGarbledAnswer = "garbled_answer"
	codeBadPayload    = "bad_payload"
	codeLift          = "lift_card"
)

// troubleOf explains an error that did not end the use of the line.
func troubleOf(err error) Trouble {
	var status *StatusError
	var payload *PayloadError
	m := meaning{"error", "读卡出错，请将身份证重新放好", "Reading failed; lay the card down again"}
	switch {
	case errors.Is(err, errLift):
		m = meaning{codeLift, "请将身份证拿起，重新放好", "Lift the card and lay it down again"}
	case errors.As(err, &status):
		m = status.meaning()
	case errors.As(err, &payload):
		m = meaning{codeBadPayload, "身份证数据不完整，请将身份证重新放好", "The card's data is incomplete; lay the card down again"}
	case garbled(err):
		m = meaning{codeGarbledAnswer, "读卡器的应答有误，请将身份证重新放好", "The reader's answer was garbled; lay the card down again"}
	case unanswered(err):
		m = meaning{codeNoAnswer, "读卡器没有应答，请将身份证重新放好", "The reader did not answer; lay the card down again"}
	}
	return Trouble{Code: m.code, ZH: m.zh, EN: m.en, Detail: err.Error()}
}
