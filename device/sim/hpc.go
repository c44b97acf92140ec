package sim

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// HPCOptions says which counter of the HPC168 class is imitated.
type HPCOptions struct {
	ID    uint16
	Start [2]uint64 // totals up and down it begins with; up is in
	Baud  int       // bytes are paced at this rate; 0: as fast as it goes
}

// HPC is an infrared counter of the HPC168 class: its frames are hexadecimal text
// between 02 and 03. Its totals have 32 bits. It does what the command says that
// clears them, and remembers all that is no question.
type HPC struct {
	tally
	opts     HPCOptions
	commands []string
}

// NewHPC returns a counter that nobody has passed yet.
func NewHPC(o HPCOptions) *HPC {
	h := &HPC{opts: o}
	h.totals = o.Start
	return h
}

// Commands are those that have come beside the question for the totals.
func (h *HPC) Commands() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.commands...)
}

func (h *HPC) pace() int { return h.opts.Baud }

// find looks for 02 id command length data sum 03 with this id and a right sum.
func (h *HPC) find(come []byte) (request, rest []byte) {
	for {
		head, tail, ended := bytes.Cut(come, []byte{3})
		if !ended {
			return nil, come
		}
		come = tail
		start := bytes.LastIndexByte(head, 2)
		text := head[start+1:]
		if start >= 0 && len(text) >= 10 && strings.HasPrefix(string(text), fmt.Sprintf("%04X", h.opts.ID)) && string(text[len(text)-2:]) == hpcSum(string(text[:len(text)-2])) {
			return append(head[start:len(head):len(head)], 3), tail
		}
	}
}

func (h *HPC) reply(request []byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	id, command := string(request[1:5]), string(request[5:7])
	var text string
	switch command {
	case "13":
		text = fmt.Sprintf("%s9310%08X%08X%016X", id, uint32(h.totals[0]), uint32(h.totals[1]), 0)
	case "12":
		h.totals = [2]uint64{}
		text = id + "920106"
		fallthrough
	default:
		h.commands = append(h.commands, command)
	}
	if h.silent || text == "" {
		return nil
	}
	frame := []byte("\x02" + text + hpcSum(text) + "\x03")
	return h.spoil(frame, len(frame)-2)
}

// hpcSum adds up the bytes that the text stands for.
func hpcSum(text string) string {
	sum := uint64(0)
	for ; len(text) >= 2; text = text[2:] {
		b, err := strconv.ParseUint(text[:2], 16, 8)
		if err != nil {
			return ""
		}
		sum += b
	}
	return fmt.Sprintf("%02X", sum%256)
}
