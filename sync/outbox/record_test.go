package outbox

import (
	"bytes"
	"testing"
	"time"
)

func TestRecord(t *testing.T) {
	at := time.Date(2026, 3, 2, 9, 30, 0, 123456789, time.FixedZone("CST", 8*3600))
	b := encode(kindValue, at, []byte("value"))
	seal(key(7), b)
	r, err := decode("e", key(7), b)
	if err != nil || r.Seq != 7 || r.Epoch != "e" || string(r.Value) != "value" || !r.Recorded.Equal(at) || r.Gap != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := decode("e", key(8), b); err == nil {
		t.Error("read under another key")
	}
	for i := range b { // each single bit counts
		for bit := range 8 {
			wrong := bytes.Clone(b)
			wrong[i] ^= 1 << bit
			if _, err := decode("e", key(7), wrong); err == nil {
				t.Fatalf("bit %d of byte %d was flipped and not noticed", bit, i)
			}
		}
	}
	gap := Gap{Epoch: "e", From: 3, To: 9, Count: 7, Reason: ReasonSize}
	if r, err := decode("e", key(9), encodeGap(gap)); err != nil || *r.Gap != gap || r.Value != nil || r.Seq != 9 {
		t.Errorf("%+v, %v", r, err)
	}
}

// FuzzDecode: nothing on disk makes decode panic, and what it takes is what was
// encoded.
func FuzzDecode(f *testing.F) {
	whole := encode(kindValue, time.Unix(1, 2), []byte("value"))
	seal(key(1), whole)
	f.Add(key(1), whole)
	f.Add(key(5), encodeGap(Gap{From: 1, To: 5, Count: 5, Reason: ReasonSize}))
	f.Add(key(1), whole[:headerSize])
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, k, b []byte) {
		r, err := decode("e", k, b)
		if err != nil || r.Gap != nil {
			return
		}
		again := encode(kindValue, r.Recorded, r.Value)
		seal(key(r.Seq), again)
		if !bytes.Equal(again, b) {
			t.Errorf("decoded %x, encoded again %x", b, again)
		}
	})
}
