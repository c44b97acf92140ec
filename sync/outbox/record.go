package outbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// A stored record is a header and the value:
//
//	0  4  CRC-32C over everything after it and then the key, big-endian
//	4  1  kind
//	5  8  recorded time, nanoseconds since 1970 UTC, big-endian
//	13 …  the value, or the gap in JSON
//
// The key comes last in the sum so that all but its eight bytes can be summed by
// the caller, outside the transaction that gives the sequence.
const headerSize = 13

const (
	kindValue = 1
	kindGap   = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("record is damaged")

// encode makes a stored record that still lacks the key in its sum; seal adds it.
func encode(kind byte, recorded time.Time, value []byte) []byte {
	b := make([]byte, headerSize+len(value))
	b[4] = kind
	binary.BigEndian.PutUint64(b[5:], uint64(recorded.UnixNano()))
	copy(b[headerSize:], value)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// seal completes the sum of an encoded record with its key.
func seal(key, b []byte) {
	binary.BigEndian.PutUint32(b, crc32.Update(binary.BigEndian.Uint32(b), castagnoli, key))
}

// check tells whether key and b are what seal left.
func check(key, b []byte) bool {
	return len(b) >= headerSize &&
		binary.BigEndian.Uint32(b) == crc32.Update(crc32.Checksum(b[4:], castagnoli), castagnoli, key)
}

// decode reads a stored record. The value of the record aliases b.
func decode(epoch string, key, b []byte) (Record, error) {
	if len(key) != 8 || !check(key, b) {
		return Record{}, errDamaged
	}
	r := Record{
		Position: Position{epoch, binary.BigEndian.Uint64(key)},
		Recorded: time.Unix(0, int64(binary.BigEndian.Uint64(b[5:]))).UTC(),
	}
	switch b[4] {
	case kindValue:
		r.Value = b[headerSize:]
	case kindGap:
		if err := json.Unmarshal(b[headerSize:], &r.Gap); err != nil {
			return Record{}, fmt.Errorf("%w: %w", errDamaged, err)
		}
	default:
		return Record{}, fmt.Errorf("%w: kind %d", errDamaged, b[4])
	}
	return r, nil
}

// encodeGap makes the stored record of a gap; its key is the gap's To.
func encodeGap(g Gap) []byte {
	value, err := json.Marshal(g)
	if err != nil {
		panic(err) // strings and numbers only
	}
	b := encode(kindGap, time.Now(), value)
	seal(key(g.To), b)
	return b
}
