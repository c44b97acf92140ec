package mqtt

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// FuzzLine: whatever a broker sends, paho's reader gets an unchanged beginning of
// it, cut before a packet that breaks the protocol, and reads it without a panic.
func FuzzLine(f *testing.F) {
	ok := []byte{0x20, 2, 0, 0}
	f.Add(ok)
	f.Add(append(ok, 0x90, 4, 0, 1, 1, 0x80, 0x40, 2, 0, 1))
	f.Add(append(ok, 0x90, 6, 0, 1, 0, 0, 0, 0))
	f.Add(append(ok, 0x30, 0xff, 0xff, 0xff, 0x7f))
	f.Add(append(ok, 0x32, 9, 0, 3, 'a', '/', 'b', 0, 1, 'x', 'y', 0xd0, 0))
	f.Fuzz(func(t *testing.T, sent []byte) {
		var passed bytes.Buffer
		l := &line{in: bufio.NewReaderSize(bytes.NewReader(sent), 64)}
		l.topics.Store(2)
		in := io.TeeReader(l, &passed)
		for {
			p, err := packets.ReadPacket(in)
			if err != nil {
				break
			}
			if ack, ok := p.(*packets.SubackPacket); ok && len(ack.ReturnCodes) > 2 {
				t.Errorf("a SUBACK of %d codes for two topics", len(ack.ReturnCodes))
			}
			if ack, ok := p.(*packets.ConnackPacket); ok && ack.ReturnCode > 5 {
				t.Errorf("a CONNACK of code %d", ack.ReturnCode)
			}
		}
		if !bytes.HasPrefix(sent, passed.Bytes()) {
			t.Errorf("sent %x, passed %x", sent, passed.Bytes())
		}
		if fault := l.fault(); fault != nil && !errors.Is(fault, errProtocol) {
			t.Errorf("fault %v", fault)
		}
	})
}
