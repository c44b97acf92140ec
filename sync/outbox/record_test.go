package outbox

import (
	"bytes"
	"testing"
	"time"
)

func TestRecord(t *testing.T) {
	at := time.Date(2026, 3, 2, 9, 30, 0, 123456789, time.FixedZone("CST", 8*3600))
	b := sealed("e", 3, 7, encodeValue(at, []byte("value")))
	r, err := decode("e", key(7), b)
	if err != nil || r.Seq != 7 || r.Epoch != "e" || string(r.Value) != "value" || !r.Recorded.Equal(at) || r.Gap != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := decode("e", key(8), b); err == nil {
		t.Error("read under another key")
	}
	if _, err := decode("f", key(7), b); err == nil {
		t.Error("read in another epoch")
	}
	if _, err := decode("e", key(7), sealed("e", 3, 7, encode(kindMark, 1, nil))); err == nil {
		t.Error("a mark was taken for a record")
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
	if r, err := decode("e", key(9), sealed("e", 1, 9, encodeGap(gap))); err != nil || *r.Gap != gap || r.Value != nil || r.Seq != 9 {
		t.Errorf("%+v, %v", r, err)
	}
}

// sealed gives an encoded record its place.
func sealed(epoch string, opening uint32, seq uint64, b []byte) []byte {
	seal(b, opening, epochBucket(epoch), key(seq))
	return b
}

// FuzzDecode: nothing on disk makes decode panic, and what it takes is what was
// encoded.
func FuzzDecode(f *testing.F) {
	whole := sealed("e", 1, 1, encodeValue(time.Unix(1, 2), []byte("value")))
	f.Add(key(1), whole)
	f.Add(key(5), sealed("e", 1, 5, encodeGap(Gap{From: 1, To: 5, Count: 5, Reason: ReasonSize})))
	f.Add(key(1), whole[:headerSize])
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, k, b []byte) {
		r, err := decode("e", k, b)
		if err != nil || r.Gap != nil {
			return
		}
		again := sealed("e", openingOf(b), r.Seq, encodeValue(r.Recorded, r.Value))
		if !bytes.Equal(again, b) {
			t.Errorf("decoded %x, encoded again %x", b, again)
		}
	})
}
