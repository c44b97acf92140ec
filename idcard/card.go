package idcard

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
)

// Card is what the text block of a card says. Dates are YYYY-MM-DD. It prints
// nothing of the person: neither fmt with any verb nor slog shows more than
// "idcard.Card(redacted)". Only JSON carries the content, and of each kind of
// card only the members that such a card has; a blank one is null.
type Card struct {
	Type               string   `json:"card_type"` // as resident_id_card
	Flag               string   `json:"type_flag"` // the kind letter, a space for the resident card
	Name               Optional `json:"name"`      // Chinese; foreigners may have none
	EnglishName        Optional `json:"english_name"`
	SexCode            Optional `json:"sex_code"` // GB/T 2261.1
	Sex                Optional `json:"sex"`
	NationCode         Optional `json:"nation_code"` // GB/T 3304, the two digits as on the card
	Nation             Optional `json:"nation"`
	Nationality        Optional `json:"nationality"` // GB/T 2659, three letters
	Renewals           Optional `json:"renewals"`    // two digits
	Birth              Optional `json:"birth"`
	Address            Optional `json:"address"`
	IDNumber           Optional `json:"id_number"`
	IDNumberValid      bool     `json:"id_number_valid"` // shape, date and check digit
	Region             Optional `json:"region"`          // 香港, 澳门, 台湾; by the number
	Issuer             Optional `json:"issuer"`
	ValidFrom          Optional `json:"valid_from"`
	ValidTo            Optional `json:"valid_to"` // null when LongTerm
	LongTerm           bool     `json:"long_term"`
	Version            Optional `json:"version"`              // of a foreigner's card
	AuthorityCode      Optional `json:"authority_code"`       // that accepted a foreigner's application
	PreviousNumberLink Optional `json:"previous_number_link"` // three digits that lead to the number of 15 characters
	PreviousIDNumber   Optional `json:"previous_id_number"`   // made from the link
	TravelPermitNumber Optional `json:"travel_permit_number"`
	IssueCount         Optional `json:"issue_count"` // two digits
}

// MarshalJSON gives the members that a card of the Type has; of a type that is
// not known here, all.
func (c Card) MarshalJSON() ([]byte, error) {
	members := membersOf(c.Type)
	out := []byte{'{'}
	value, fields := reflect.ValueOf(c), reflect.TypeFor[Card]()
	for i := range fields.NumField() {
		name := fields.Field(i).Tag.Get("json")
		if members != nil && !slices.Contains(members, name) {
			continue
		}
		member, err := json.Marshal(value.Field(i).Interface())
		if err != nil {
			return nil, err
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, "%q:%s", name, member)
	}
	return append(out, '}'), nil
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
	UnknownKind    WarningCode = "unknown_kind"    // a kind letter without a layout; only what proves itself is read

	NationalityMismatch WarningCode = "nationality_mismatch" // differs from the country in the number
)
