package sim

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestIRFrames holds frames that another program computed from the makers'
// documents.
func TestIRFrames(t *testing.T) {
	u := NewIRUnit(IROptions{Dialect: "fa", Serial: "2410640A0B0C"})
	record := irRecord{counts: [2]uint64{6, 5}, end: time.Date(2025, 11, 18, 19, 5, 0, 0, time.UTC)}
	ask := u.beatFrame(2, IRFaults{})
	if want := "\xFA\xF5\xF6\x00\x02\x22\x00\x3A<TIME_SYSNC_REQ><uuid>2410640A0B0C</uuid></TIME_SYSNC_REQ>\xFA\xF6\xF5"; string(ask) != want || len(ask) != 69 {
		t.Errorf("%q", ask)
	}
	upload := u.uploadFrame(1, record, IRFaults{})
	if !bytes.HasPrefix(upload, unhex(t, "FAF5F6000121010B")) || len(upload) != 278 {
		t.Errorf("%q", upload)
	}
	seven := NewIRUnit(IROptions{Dialect: "7e", Serial: "20190101A001"})
	record.counts = [2]uint64{52, 47}
	const want = "7EFFFFFFFFD20100313230313930313031413030312C32303235313131383139303530302C35322C34372C38342C37382C312C56312E322C4D380B397D"
	if got := seven.uploadFrame(1, record, IRFaults{}); !bytes.Equal(got, unhex(t, want)) {
		t.Errorf("% X", got)
	}
	a, err := readIRAnswer7E(bytes.NewReader(unhex(t, "7EFFFFFFFFD2020026302C32303235313131383139303530312C303030302C323335392C352C302C302C302C302C30E1997D")), time.UTC)
	if err != nil || a.status != 0 || a.upload != 5*time.Minute || !a.now.Equal(time.Date(2025, 11, 18, 19, 5, 1, 0, time.UTC)) {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestIRUnitAsksForTheTime goes on asking every five seconds while the answer has
// its tag spelt right or lacks something, as real units were seen to do.
func TestIRUnitAsksForTheTime(t *testing.T) {
	const good = "<TIME_SYSNC_RES><uuid>1</uuid><ret>0</ret><time>20251118190501</time><uploadInterval>0010</uploadInterval><dataStartTime>0000</dataStartTime><dataEndTime>2359</dataEndTime></TIME_SYSNC_RES>"
	synctest.Test(t, func(t *testing.T) {
		u := NewIRUnit(IROptions{Dialect: "fa", Serial: "1"})
		answers := []string{
			strings.ReplaceAll(good, "SYSNC", "SYNC"), strings.Replace(good, "<uuid>1</uuid>", "", 1),
			strings.Replace(good, "<dataEndTime>2359</dataEndTime>", "", 1), good,
		}
		start, asked := time.Now(), 0
		var last time.Duration
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- u.Run(ctx, func(context.Context) (net.Conn, error) {
				dev, host := net.Pipe()
				text := answers[min(asked, len(answers)-1)]
				asked++
				last = time.Since(start)
				go func() {
					defer host.Close()
					if _, err := io.ReadFull(host, make([]byte, 58)); err == nil {
						host.Write(irFrameFA(uint16(asked), 0x22, text))
					}
				}()
				return dev, nil
			})
		}()
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if asked != 4 || last != 15*time.Second || u.every() != 10*time.Minute {
			t.Errorf("asked %d times, the last after %v; it uploads every %v", asked, last, u.every())
		}
		cancel()
		<-ended
	})
}
