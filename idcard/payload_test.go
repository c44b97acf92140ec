package idcard

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

// What the answers of the exchanges hold is what the vectors expect.
func TestPayloadVectors(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range loadVectors(t).Exchanges {
		raw, err := hex.DecodeString(v.Response)
		if err != nil {
			continue // a card of its own
		}
		frames, _ := frame(raw, 64)
		if len(frames) != 1 {
			t.Fatalf("%s: %d frames", v.Name, len(frames))
		}
		data := frames[0].Data()
		var got any
		switch {
		case v.Name == "sam_id":
			got = map[string]any{"sam_id": samID(data)}
		case strings.HasPrefix(v.Name, "new_address"):
			added, _, err := ParseAddresses(data)
			if err != nil {
				t.Errorf("%s: %v", v.Name, err)
			}
			got = map[string]any{"new_addresses": added}
		case v.Name == "card_management_number":
			m, err := ParseManagement(data)
			if err != nil {
				t.Errorf("%s: %v", v.Name, err)
			}
			got = m
		default:
			continue
		}
		seen[v.Name] = true
		p, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := errors.Join(json.Unmarshal(p, &a), json.Unmarshal(v.Expected, &b)); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %s, want %s, %v", v.Name, p, v.Expected, err)
		}
	}
	if len(seen) != 5 {
		t.Errorf("payloads of %v only", seen)
	}
}

func TestFingerprintVectors(t *testing.T) {
	v := loadVectors(t)
	if len(v.Fingers) == 0 {
		t.Fatal("no vectors with fingerprints")
	}
	for _, f := range v.Fingers {
		frames, _ := frame(f.Response, 64)
		if len(frames) != 1 {
			t.Fatalf("%s: %d frames", f.Name, len(frames))
		}
		text, photo, records, err := SplitRead(frames[0].Data())
		if err != nil || len(photo) != photoSize || len(records) != f.Expected.Length {
			t.Fatalf("%s: %d bytes of fingerprints, %v", f.Name, len(records), err)
		}
		card, warnings, err := ParseText(text)
		if want := vectorCardOf(t, f.Expected.Card).Expected["id_number"]; err != nil || len(warnings) > 0 || string(card.IDNumber) != want {
			t.Errorf("%s: not the card expected: %v, %v", f.Name, warnings, err)
		}
		fingers, err := ParseFingers(records)
		if err != nil || !reflect.DeepEqual(fingers, f.Expected.Fingers) {
			t.Errorf("%s: %+v, %v, want %+v", f.Name, fingers, err, f.Expected.Fingers)
		}
		if _, _, err := splitCard(frames[0].Data()); err == nil {
			t.Errorf("%s: taken for the answer to a read without fingerprints", f.Name)
		}
	}
}

func TestBadPayloads(t *testing.T) {
	read := func(text, photo, fingers int, rest int) []byte {
		d := []byte{byte(text >> 8), byte(text), byte(photo >> 8), byte(photo), byte(fingers >> 8), byte(fingers)}
		return append(d, make([]byte, rest)...)
	}
	for name, data := range map[string][]byte{
		"nothing":                 nil,
		"a byte too few":          read(256, 1024, 0, 1280)[:1283],
		"text of 255":             read(255, 1024, 0, 1280),
		"photo of 1025":           read(256, 1025, 0, 1280),
		"one byte more":           read(256, 1024, 0, 1279),
		"fingers missing":         read(256, 1024, 512, 1280),
		"fingers without length":  read(256, 1024, 0, 1280+512),
		"half a finger":           read(256, 1024, 256, 1280+256),
		"three fingers":           read(256, 1024, 1536, 1280+1536),
		"fingers, length swapped": read(256, 1024, 2, 1280+512),
	} {
		var payload *PayloadError
		if _, _, _, err := SplitRead(data); !errors.As(err, &payload) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range 5*addressSize + 1 {
		if _, _, err := ParseAddresses(make([]byte, n)); (err == nil) != (n%addressSize == 0 && n <= 4*addressSize) {
			t.Errorf("%d bytes of addresses: %v", n, err)
		}
	}
	for n := range 3*fingerSize + 1 {
		records := make([]byte, n)
		for i := 0; i < n; i += fingerSize {
			records[i] = 'C'
		}
		if _, err := ParseFingers(records); (err == nil) != (n%fingerSize == 0 && n <= 2*fingerSize) {
			t.Errorf("%d bytes of fingerprints: %v", n, err)
		}
	}
	if _, err := ParseFingers(make([]byte, fingerSize)); err == nil {
		t.Error("a fingerprint record without its mark was read")
	}
	if _, err := ParseManagement(make([]byte, 27)); err == nil {
		t.Error("a management number of 27 bytes was read")
	}
}

func TestManagementNumberIsNotPrinted(t *testing.T) {
	m, err := ParseManagement([]byte("0123456789abcdefghijklmnopqr"))
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "m", m)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		fmt.Fprintf(&log, verb, m)
	}
	if strings.Contains(log.String(), m.SN) || strings.Contains(log.String(), m.DN) {
		t.Error("the management number was printed")
	}
}
