package idcard

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Command makes a request frame of the SAM protocol (GA 467): preamble, length,
// command, parameter, data, checksum.
func Command(cmd, para byte, data ...byte) []byte {
	p := append([]byte(nil), preamble...)
	p = binary.BigEndian.AppendUint16(p, uint16(len(data)+3))
	p = append(p, cmd, para)
	p = append(p, data...)
	return append(p, checksum(p[len(preamble):]))
}

// request is a command together with what its answer looks like. The protocol
// numbers nothing, so the shape alone tells the answer from one that is late.
type request struct {
	name      string
	cmd, para byte
	done      byte            // SW3 of success
	lengths   []int           // of the data of a success
	refusals  func(byte) bool // SW3 without data that are an answer too
	patience  time.Duration   // the module's own time, without the line's
}

// Sizes of answer data, in bytes.
const (
	samIDSize      = 16
	textSize       = 256
	photoSize      = 1024
	cardSize       = 4 + textSize + photoSize
	fingerSize     = 512
	addressSize    = 70
	managementSize = 4 + 8 + 16
)

var (
	askStatus = request{"status", 0x11, 0xFF, 0x90, []int{0}, ofModule, 300 * time.Millisecond} // asked often until it answers
	askSAMID  = request{"SAM id", 0x12, 0xFF, 0x90, []int{samIDSize}, ofModule, 600 * time.Millisecond}
	find      = request{"find", 0x20, 0x01, 0x9F, []int{4}, ofFind, time.Second}
	choose    = request{"select", 0x20, 0x02, 0x90, []int{8}, ofCard, time.Second}
	readCard  = request{"read", 0x30, 0x01, 0x90, []int{cardSize}, ofCard, 3 * time.Second}
	presence  = request{"presence", 0x30, 0x03, 0x90,
		[]int{0, addressSize, 2 * addressSize, 3 * addressSize, 4 * addressSize}, ofCard, time.Second}
)

// ofModule accepts a refusal that any command may meet: the module did not
// understand, or is ill.
func ofModule(sw3 byte) bool {
	switch sw3 {
	case 0x10, 0x11, 0x21, 0x23, 0x24, 0x60, 0x66:
		return true
	}
	return false
}

func ofFind(sw3 byte) bool { return sw3 == noCard || ofModule(sw3) }

// ofCard accepts every refusal but the one that only a find gets, which can be
// late.
func ofCard(sw3 byte) bool { return sw3 != noCard && sw3 != 0x90 && sw3 != 0x9F }

func (q request) frame() []byte { return Command(q.cmd, q.para) }

// answers says whether f is of the shape of an answer to q.
func (q request) answers(f Frame) bool {
	n := len(f.Data())
	if f.Status() == q.done {
		for _, want := range q.lengths {
			if n == want {
				return true
			}
		}
		return false
	}
	return n == 0 && q.refusals(f.Status())
}

// limit is how long the answer to q may take at a rate in bits per second: the
// module's time and that of the bytes on the line, ten bits each.
func (q request) limit(baud int) time.Duration {
	longest := 0
	for _, n := range q.lengths {
		longest = max(longest, n)
	}
	bits := 10 * (len(q.frame()) + headerSize + minLength + longest)
	return q.patience + time.Duration(bits)*time.Second/time.Duration(baud)
}

// Status words SW3 that the reading cycle branches on.
const (
	noCard         = 0x80
	noContent      = 0x91
	selfTestFailed = 0x60
	notAuthorised  = 0x66
	badSum         = 0x10
	badSize        = 0x11
	badCommand     = 0x21
	forbidden      = 0x23
	samRefused     = 0x32
	readFailed     = 0x41
	unselected     = 0x81
)

// meaning of a status word: a stable code, and what a teller is told.
type meaning struct{ code, zh, en string }

// meanings by SW3, GA 467 and vendors' tables.
var meanings = map[byte]meaning{
	0x10: {"reader_saw_bad_checksum", "读卡器收到的数据有误，请将身份证重新放好", "The reader received garbled data; lay the card down again"},
	0x11: {"reader_saw_bad_length", "读卡器收到的数据有误，请将身份证重新放好", "The reader received garbled data; lay the card down again"},
	0x21: {"bad_command", "读卡器不支持此操作，请联系技术人员", "The reader does not know this operation; call support"},
	0x23: {"not_permitted", "读卡器没有此操作的权限，请联系技术人员", "The reader may not do this; call support"},
	0x24: {"unknown_error", "读卡器出错，请将身份证重新放好", "The reader reports an error; lay the card down again"},
	0x31: {"card_rejected_sam", "身份证不接受此读卡器，请将身份证重新放好；仍不行请联系技术人员", "The card does not accept the reader; lay it down again, and call support if that does not help"},
	0x32: {"sam_rejected_card", "未能验证身份证，请将身份证重新放好，不要移动", "The card could not be verified; lay it down again and do not move it"},
	0x33: {"info_verify_error", "身份证信息校验失败，请核对证件真伪", "The card's data failed verification; check that the card is genuine"},
	0x37: {"fingerprint_verify_error", "身份证指纹信息校验失败，请核对证件真伪", "The card's fingerprint data failed verification; check that the card is genuine"},
	0x3F: {"info_length_error", "身份证信息长度有误，请将身份证重新放好", "The card's data has a wrong length; lay the card down again"},
	0x40: {"wrong_card_type", "无法识别此类证件，请人工录入；读卡器可能需要升级", "This kind of card is not recognised; enter the data by hand. The reader may need an upgrade"},
	0x41: {"read_failed", "读卡失败，请将身份证重新放好，不要移动", "Reading failed; lay the card down again and do not move it"},
	0x47: {"random_number_failed", "读卡失败，请将身份证重新放好", "Reading failed; lay the card down again"},
	0x60: {"sam_self_test_failed", "读卡器安全模块自检失败，请联系技术人员", "The reader's security module failed its self-test; call support"},
	0x66: {"sam_not_authorised", "读卡器安全模块未授权，请联系技术人员", "The reader's security module is not authorised; call support"},
	0x80: {"no_card_found", "未检测到身份证，请将身份证重新放好", "No card found; lay the card down again"},
	0x81: {"select_failed", "选卡失败，请只放一张身份证，重新放好", "The card could not be selected; lay down one card only"},
	0x91: {"no_such_content", "身份证中没有此项内容", "The card holds no such content"},
}

// StatusError is an answer with a status word other than success.
type StatusError struct {
	Request       string // name of the command, as find or read
	SW1, SW2, SW3 byte
}

func statusError(q request, f Frame) *StatusError {
	return &StatusError{q.name, f[headerSize], f[headerSize+1], f[headerSize+2]}
}

// Code names the status word; it is stable.
func (e *StatusError) Code() string { return e.meaning().code }

func (e *StatusError) meaning() meaning {
	if m, ok := meanings[e.SW3]; ok {
		return m
	}
	return meaning{"unknown_status", "读卡器出错，请将身份证重新放好", "The reader reports an error; lay the card down again"}
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: %s (SW1 SW2 SW3 %02X %02X %02X)", e.Request, e.Code(), e.SW1, e.SW2, e.SW3)
}

// PayloadError is a valid frame with content that cannot be an answer.
type PayloadError struct {
	Request string
	Detail  string
}

func (e *PayloadError) Error() string { return e.Request + ": " + e.Detail }
