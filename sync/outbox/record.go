package outbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Whatever the store keeps, record or gap, mark or its own state, is a header and
// a body:
//
//	0  4  CRC-32C over everything from 8 on, then from 4 to 8, then the key and
//	      the name of the bucket
//	4  4  opening: how often the store had been opened when this was written
//	8  1  kind
//	9  8  stamp: when a record was appended, nanoseconds since 1970 UTC; the
//	      transaction that wrote a mark or the state
//	17 …  body: the value, or JSON of a gap or the state
//
// All numbers are big-endian. What comes last in the sum is known only to the
// writer; the rest is summed by the caller, outside the transaction. Key and
// bucket are in it so that a value that is found in any page of a damaged file
// tells where it belongs, and the opening so that of two that claim the same
// place the later is known.
const headerSize = 17

const (
	kindValue = 1
	kindGap   = 2
	kindMark  = 3
	kindState = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("record is damaged")

// encode makes a stored value that seal has to complete.
func encode(kind byte, stamp uint64, body []byte) []byte {
	b := make([]byte, headerSize+len(body))
	b[8] = kind
	binary.BigEndian.PutUint64(b[9:], stamp)
	copy(b[headerSize:], body)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[8:], castagnoli))
	return b
}

// seal gives an encoded value its place.
func seal(b []byte, opening uint32, bucket, key []byte) {
	sealOver(sumOf(b), b, opening, bucket, key)
}

// sealOver does the same with the sum that encode left, which a value that was
// sealed before has no more.
func sealOver(sum uint32, b []byte, opening uint32, bucket, key []byte) {
	binary.BigEndian.PutUint32(b[4:], opening)
	binary.BigEndian.PutUint32(b, place(sum, b, bucket, key))
}

func place(sum uint32, b, bucket, key []byte) uint32 {
	sum = crc32.Update(sum, castagnoli, b[4:8])
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, bucket)
}

// intact tells whether b is what seal left at that place.
func intact(b, bucket, key []byte) bool {
	return len(b) >= headerSize && sumOf(b) == place(crc32.Checksum(b[8:], castagnoli), b, bucket, key)
}

func sumOf(b []byte) uint32     { return binary.BigEndian.Uint32(b) }
func openingOf(b []byte) uint32 { return binary.BigEndian.Uint32(b[4:]) }
func kindOf(b []byte) byte      { return b[8] }
func stampOf(b []byte) uint64   { return binary.BigEndian.Uint64(b[9:]) }

// encodeValue makes the record of a value, not yet sealed.
func encodeValue(recorded time.Time, value []byte) []byte {
	return encode(kindValue, uint64(recorded.UnixNano()), value)
}

// encodeGap makes the record of a gap, not yet sealed.
func encodeGap(g Gap) []byte {
	body, err := json.Marshal(g)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return encode(kindGap, uint64(time.Now().UnixNano()), body)
}

// decode reads a record of an epoch. Its value aliases b.
func decode(epoch string, key, b []byte) (Record, error) {
	if len(key) != 8 || !intact(b, epochBucket(epoch), key) {
		return Record{}, errDamaged
	}
	r := Record{
		Position: Position{epoch, binary.BigEndian.Uint64(key)},
		Recorded: time.Unix(0, int64(stampOf(b))).UTC(),
	}
	switch kindOf(b) {
	case kindValue:
		r.Value = b[headerSize:]
	case kindGap:
		if err := json.Unmarshal(b[headerSize:], &r.Gap); err != nil {
			return Record{}, fmt.Errorf("%w: %w", errDamaged, err)
		}
	default:
		return Record{}, fmt.Errorf("%w: kind %d", errDamaged, kindOf(b))
	}
	return r, nil
}
