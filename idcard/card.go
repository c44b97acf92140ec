package idcard

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Card is what the text block of a card says. Dates are YYYY-MM-DD. It prints
// nothing of the person: neither fmt with any verb nor slog shows more than
// "idcard.Card(redacted)". Only JSON carries the content.
type Card struct {
	Type          string   `json:"card_type"` // as resident_id_card
	Flag          string   `json:"type_flag"` // the kind letter, a space for the resident card
	Name          Optional `json:"name"`
	SexCode       Optional `json:"sex_code"` // GB/T 2261.1
	Sex           Optional `json:"sex"`
	NationCode    Optional `json:"nation_code"` // GB/T 3304, the two digits as on the card
	Nation        Optional `json:"nation"`
	Birth         Optional `json:"birth"`
	Address       Optional `json:"address"`
	IDNumber      Optional `json:"id_number"`
	IDNumberValid bool     `json:"id_number_valid"` // shape, date and check digit
	Issuer        Optional `json:"issuer"`
	ValidFrom     Optional `json:"valid_from"`
	ValidTo       Optional `json:"valid_to"` // null when LongTerm
	LongTerm      bool     `json:"long_term"`
}

const redacted = "idcard.Card(redacted)"

// LogValue keeps the person out of logs.
func (Card) LogValue() slog.Value { return slog.StringValue(redacted) }

// Format keeps the person out of whatever fmt makes, with every verb.
func (Card) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }

// Optional is a text that is null in JSON when it is empty: a blank field, or
// one that holds nothing sensible.
type Optional string

// MarshalJSON gives null for the empty text.
func (o Optional) MarshalJSON() ([]byte, error) {
	if o == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(o))
}

// UnmarshalJSON reads null as the empty text.
func (o *Optional) UnmarshalJSON(p []byte) error { return json.Unmarshal(p, (*string)(o)) }

// Warning is a doubt about a card that is handed on all the same: the chip is
// the authority. It repeats nothing of the card.
type Warning struct {
	Code  WarningCode `json:"code"`
	Field string      `json:"field"` // JSON name of the field
}

// WarningCode says what is doubtful; it is stable.
type WarningCode string

// The doubts there are.
const (
	BadCharacter   WarningCode = "bad_character"   // half a surrogate pair, shown as U+FFFD
	BadDate        WarningCode = "bad_date"        // not a date of the calendar
	UnknownCode    WarningCode = "unknown_code"    // not in the standard's table
	BadNumber      WarningCode = "bad_number"      // shape, date or check digit of the number
	BirthMismatch  WarningCode = "birth_mismatch"  // differs from the date in the number
	SexMismatch    WarningCode = "sex_mismatch"    // differs from the parity in the number
	NumberMismatch WarningCode = "number_mismatch" // a number of another kind of card
	Blank          WarningCode = "blank"           // a field that every such card fills
)

// KindError says that a card of a kind this version cannot read was laid down.
type KindError struct {
	Letter string // as on the card: I, Y, J
}

func (e *KindError) Error() string { return fmt.Sprintf("card kind %q is not supported", e.Letter) }
