package idcard

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
)

// samID prints the 16 bytes of a SAM's id the way its label does: five little-
// endian numbers of 2, 2, 4, 4 and 4 bytes.
func samID(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%02d.%02d-%08d-%010d-%010d",
		le.Uint16(b), le.Uint16(b[2:]), le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:]))
}

// SplitRead cuts the data of a read into the text block of 256 bytes, the photo
// block of 1024 and the fingerprints of 0, 512 or 1024. Their lengths, big-
// endian, come first: two in the answer to 30 01, which has no fingerprints,
// three in that to 30 10. Anything else is a *PayloadError.
func SplitRead(data []byte) (text, photo, fingers []byte, err error) {
	const lengths = 4
	bad := func(format string, args ...any) error {
		return &PayloadError{readCard.name, fmt.Sprintf(format, args...)}
	}
	if len(data) < cardSize {
		return nil, nil, nil, bad("%d bytes of data, want %d", len(data), cardSize)
	}
	n, m := binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:])
	if n != textSize || m != photoSize {
		return nil, nil, nil, bad("text of %d bytes and photo of %d, want %d and %d", n, m, textSize, photoSize)
	}
	rest := data[lengths:]
	if len(data) > cardSize {
		size := int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; len(rest) != textSize+photoSize+size || size%fingerSize != 0 || size > 2*fingerSize {
			return nil, nil, nil, bad("%d bytes of data with fingerprints of %d", len(data), size)
		}
		fingers = rest[textSize+photoSize:]
	}
	return rest[:textSize], rest[textSize : textSize+photoSize], fingers, nil
}

// splitCard cuts the data of a read without fingerprints.
func splitCard(data []byte) (text, photo []byte, err error) {
	text, photo, fingers, err := SplitRead(data)
	if err == nil && fingers != nil {
		err = &PayloadError{readCard.name, "fingerprints that were not asked for"}
	}
	return text, photo, err
}

// ParseAddresses reads the addresses that were added to a card (30 03): up to
// four slots of 70 bytes, of which blank ones are left out.
func ParseAddresses(data []byte) ([]string, []Warning, error) {
	if len(data)%addressSize != 0 || len(data) > 4*addressSize {
		return nil, nil, &PayloadError{presence.name, fmt.Sprintf("%d bytes of addresses", len(data))}
	}
	addresses, doubts := []string{}, &parse{}
	for ; len(data) > 0; data = data[addressSize:] {
		text, whole := decode(data[:addressSize])
		if text != "" {
			addresses = append(addresses, text)
		}
		if !whole && !doubts.doubts("new_address") {
			doubts.warn(BadCharacter, "new_address")
		}
	}
	return addresses, doubts.warnings, nil
}

// Finger is what the head of a fingerprint record says; the template behind it
// has no public format (GA 1012) and is not kept.
type Finger struct {
	PositionCode int      `json:"position_code"` // 11 to 15 right hand from the thumb, 16 to 20 left, 97 to 99
	Position     Optional `json:"position"`
	Registered   int      `json:"registered"` // 1 registered, 2 failed, 3 not registered, 9 unknown
	Quality      int      `json:"quality"`    // 1 to 100, 0 unknown
}

// positions of a finger by code.
var positions = map[int]Optional{
	11: "右手拇指", 12: "右手食指", 13: "右手中指", 14: "右手环指", 15: "右手小指",
	16: "左手拇指", 17: "左手食指", 18: "左手中指", 19: "左手环指", 20: "左手小指",
	97: "右手不确定指位", 98: "左手不确定指位", 99: "其他不确定指位",
}

// ParseFingers reads the heads of fingerprint records of 512 bytes, at most two.
// Nothing here ever asks a reader for them.
func ParseFingers(records []byte) ([]Finger, error) {
	if len(records)%fingerSize != 0 || len(records) > 2*fingerSize {
		return nil, &PayloadError{readCard.name, fmt.Sprintf("%d bytes of fingerprints", len(records))}
	}
	fingers := []Finger{}
	for ; len(records) > 0; records = records[fingerSize:] {
		if records[0] != 'C' {
			return nil, &PayloadError{readCard.name, "a fingerprint record without its mark"}
		}
		code := int(records[5])
		fingers = append(fingers, Finger{code, positions[code], int(records[4]), int(records[6])})
	}
	return fingers, nil
}

// Management is the management number of a card (30 05), in hexadecimal. DN is
// the same at every reading and so as personal as the card's number: like Card it
// prints nothing.
type Management struct {
	IIN string `json:"iin"` // 4 bytes
	SN  string `json:"sn"`  // 8 bytes
	DN  string `json:"dn"`  // 16 bytes
}

// LogValue keeps the number out of logs.
func (Management) LogValue() slog.Value { return slog.StringValue("idcard.Management(redacted)") }

// Format keeps the number out of whatever fmt makes, with every verb.
func (Management) Format(s fmt.State, _ rune) { io.WriteString(s, "idcard.Management(redacted)") }

// ParseManagement reads the 28 bytes of a management number. Nothing here ever
// asks a reader for it.
func ParseManagement(data []byte) (Management, error) {
	if len(data) != managementSize {
		return Management{}, &PayloadError{"management number", fmt.Sprintf("%d bytes, want %d", len(data), managementSize)}
	}
	text := func(b []byte) string { return fmt.Sprintf("%X", b) }
	return Management{text(data[:4]), text(data[4:12]), text(data[12:])}, nil
}
