package counter_test

import (
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/counter"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/transcript"
)

// samples say how each kind must be set for its transcript, and what the
// transcript holds. A new kind adds its own.
var samples = map[string]struct {
	settings counter.Settings
	line     device.Address
	in, out  uint64
}{
	"modbus": {
		settings: &counter.Modbus{Station: 1, Map: counter.RegisterMap{
			In:  &counter.Registers{Function: 3, Address: 0x44, Words: 2, Order: "low"},
			Out: &counter.Registers{Function: 3, Address: 0x46, Words: 2, Order: "low"},
		}},
		line: serialLine,
		in:   6, out: 1,
	},
	"pulse":     {settings: &counter.Pulse{In: "cts", Out: "dsr"}, line: contactLine},
	"gate-7e7f": {settings: &counter.Gate7F{Station: 1}, line: serialLine, in: 6, out: 1},
	"line":      {settings: &counter.Text{Preset: "in-out"}, line: serialLine, in: 6, out: 1},
	"hpc":       {settings: &counter.HPC{Station: 1}, line: serialLine, in: 6, out: 1},
	"ir-tcp": {
		settings: &counter.IR{Serial: "2410640A0B0C"},
		line:     irLine,
		in:       9, out: 7,
	},
	"camera": {
		settings: &counter.CameraSettings{SecretFile: filepath.Join("testdata", "camera.secret")},
		line:     pushLine,
		in:       4, out: 3,
	},
}

// Every kind brings a line of documentation, settings that are fresh each time, a
// transcript that becomes passes, and a seed for the fuzzing of its answers.
func TestKinds(t *testing.T) {
	if err := counter.Kinds().Check(); err != nil {
		t.Error(err)
	}
	if n := len(counter.Kinds()); n != len(samples) {
		t.Errorf("%d kinds and %d samples", n, len(samples))
	}
	for _, k := range counter.Kinds() {
		t.Run(k.Name, func(t *testing.T) {
			if k.Settings() == nil || k.Settings() == k.Settings() {
				t.Error("settings are shared")
			}
			if len(k.Settings().Check(serialLine)) == 0 {
				t.Error("settings that nobody filled in are good")
			}
			seeds, err := filepath.Glob(filepath.Join("testdata", "fuzz", "*", k.Name))
			if err != nil || len(seeds) == 0 {
				t.Errorf("no fuzz seed, %v", err)
			}
			if slices.Equal(k.Schemes, []string{device.SchemePulse}) {
				return // no bytes pass over its line
			}
			file, err := os.Open(filepath.Join("testdata", k.Name+".transcript"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			bursts, err := transcript.Parse(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, pace := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) { playKind(t, k.Name, transcript.Player{Bursts: bursts, Pace: pace}) })
			}
		})
	}
}

func playKind(t *testing.T, kind string, p transcript.Player) {
	sample, ok := samples[kind]
	if !ok {
		t.Fatal("no sample")
	}
	var s store
	c := counter.Config{ID: "c", Kind: kind, Door: "D1", Settings: sample.settings}
	b, err := counter.NewOwner(sample.line, []counter.Config{c}, 0, s.mark, s.sink, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	host, dev := net.Pipe()
	played := make(chan error, 1)
	go func() {
		played <- p.Play(t.Context(), dev)
		dev.Close()
	}()
	heard := 0
	if err := b.Use(t.Context(), host, func() { heard++ }); err == nil {
		t.Error("the line has ended, and Use has not noticed")
	}
	host.Close()
	if err := <-played; err != nil {
		t.Error(err)
	}
	if in, out := s.sum("D1"); in != sample.in || out != sample.out {
		t.Errorf("%d in, %d out; want %d, %d", in, out, sample.in, sample.out)
	}
	if heard == 0 {
		t.Error("nothing valid was heard")
	}
}

// Whatever a device answers, each kind that is asked sends its one request to
// read and nothing else.
func TestNothingButReadsGoesOut(t *testing.T) {
	for _, k := range counter.Kinds() {
		sample := samples[k.Name]
		if text, ok := sample.settings.(*counter.Text); ok {
			asked := *text
			asked.Ask = textAsk
			sample.settings = &asked
		}
		if !k.Asked(sample.line, sample.settings) {
			continue // what it hears it answers itself, and its own tests say how
		}
		t.Run(k.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s store
				b := newBus(t, sample.line, &s, counter.Config{ID: "c", Kind: k.Name, Door: "D1", Settings: sample.settings})
				chance := rand.New(rand.NewPCG(7, 7))
				sent := map[string]int{}
				for range 250 {
					host, dev := pipe(t)
					done := make(chan struct{})
					go func() {
						defer close(done)
						buf := make([]byte, 256)
						for {
							n, err := dev.Read(buf)
							if err != nil {
								return
							}
							sent[string(buf[:n])]++
							dev.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // a line waits for nobody
							dev.Write(answerOf(k.Name, buf[:n], chance))
						}
					}()
					b.Use(t.Context(), onlyReads{host, t}, func() {}) // ends, since nothing makes sense
					host.Close()
					dev.Close()
					<-done
				}
				if len(sent) != 1 {
					t.Errorf("%d different requests: %q", len(sent), slices.Sorted(maps.Keys(sent)))
				}
				for _, n := range sent {
					if n < 250 {
						t.Errorf("asked %d times", n)
					}
				}
			})
		})
	}
}

// answerOf is anything: rubbish, what was asked, refusals, heads of frames.
func answerOf(kind string, request []byte, chance *rand.Rand) []byte {
	b := make([]byte, 1+chance.IntN(40))
	for i := range b {
		b[i] = byte(chance.Uint32())
	}
	switch chance.IntN(4) {
	case 0:
		return request
	case 1:
		return append([]byte{1, 0x83, 0x06, 0xC1, 0x32}[:chance.IntN(6)], b...)
	case 2:
		return append([]byte{map[string]byte{"gate-7e7f": 0x7F, "hpc": 0x02, "line": 'I', "modbus": 1}[kind]}, b...)
	}
	return b
}
