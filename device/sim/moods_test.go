package sim_test

import (
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/device/sim"
)

// Whatever mood a reader is in, what is reported makes sense; and once the mood
// is over the next card is read.
func TestDriverInEveryMood(t *testing.T) {
	force := func(cmd, para, sw3 byte) []sim.Force {
		return []sim.Force{{Command: [2]byte{cmd, para}, Status: [3]byte{0, 0, sw3}}}
	}
	const (
		once     = `card:\S+ removed` // as if nothing were
		byFind   = `card:\S+`         // read; that it was lifted shows when the next is laid
		notTwice = `(card:\S+ removed|trouble:garbled_answer)`
	)
	tests := map[string]struct {
		mood sim.Mood
		want string // while the first card is laid and lifted
	}{
		"well":                           {sim.Mood{}, once},
		"slow":                           {sim.Mood{Delay: 700 * time.Millisecond}, once},
		"at the slowest pace":            {sim.Mood{Pace: 9600}, once},
		"in pieces of a USB adapter":     {sim.Mood{Pieces: sim.Pieces{Size: 64, Pause: 16 * time.Millisecond}}, once},
		"in single bytes":                {sim.Mood{Pieces: sim.Pieces{Size: 1, Pause: time.Millisecond}}, once},
		"rubbish around answers":         {sim.Mood{Rubbish: 0.5, Seed: 1}, once},
		"rubbish around every answer":    {sim.Mood{Rubbish: 1, Seed: 2}, once},
		"an echo":                        {sim.Mood{Echo: true}, once},
		"an echo and rubbish":            {sim.Mood{Echo: true, Rubbish: 0.3, Seed: 3}, once},
		"one answer late":                {sim.Mood{Late: 1500 * time.Millisecond}, once},
		"one answer not sent":            {sim.Mood{Swallow: 1}, once},
		"one answer cut":                 {sim.Mood{Cut: sim.Cut{After: 8, Times: 1}}, once},
		"a byte disturbed, read again":   {sim.Mood{Disturb: 1, Rereads: true}, once},
		"a byte disturbed, to be lifted": {sim.Mood{Disturb: 1}, "trouble:garbled_answer"},
		"always a byte disturbed":        {sim.Mood{Disturb: 1000, Rereads: true}, "trouble:garbled_answer"},
		"bits wrong now and then":        {sim.Mood{Flip: 1e-4, Seed: 4, Rereads: true}, notTwice},
		"no presence test":               {sim.Mood{Force: []sim.Force{{Command: [2]byte{0x30, 0x03}}}}, byFind},
		"presence test not known":        {sim.Mood{Force: force(0x30, 0x03, 0x21)}, byFind},
		"presence test once":             {sim.Mood{PresenceOnce: true}, byFind},
		"card found again and again":     {sim.Mood{FindsAgain: true}, once},
		"the same, and no presence test": {sim.Mood{FindsAgain: true, Force: []sim.Force{{Command: [2]byte{0x30, 0x03}}}}, once},
		"self-test failed":               {sim.Mood{Force: []sim.Force{{Status: [3]byte{0, 0, 0x60}}}}, "trouble:sam_self_test_failed"},
		"not authorised":                 {sim.Mood{Force: []sim.Force{{Status: [3]byte{0, 0, 0x66}}}}, "trouble:sam_not_authorised"},
		"card fails verification":        {sim.Mood{Force: force(0x30, 0x01, 0x33)}, "trouble:info_verify_error"},
		"card not known":                 {sim.Mood{Force: force(0x30, 0x01, 0x40)}, "trouble:wrong_card_type"},
		"card refuses the module":        {sim.Mood{Force: []sim.Force{{Command: [2]byte{0x30, 0x01}, Status: [3]byte{0x69, 0x88, 0x31}}}}, "trouble:card_rejected_sam"},
		"select fails":                   {sim.Mood{Force: force(0x20, 0x02, 0x81)}, "trouble:select_failed"},
		"a read unanswered":              {sim.Mood{Force: []sim.Force{{Command: [2]byte{0x30, 0x01}, Times: 1}}}, once},
	}
	first, _ := madeUp(t, 1)
	second, two := madeUp(t, 2)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := between(t, wired, func(module *sim.Reader) {
					module.SetMood(tt.mood)
					module.Lay(first)
					time.Sleep(9 * time.Second)
					module.Lift()
					time.Sleep(4 * time.Second)
					module.SetMood(sim.Mood{})
					time.Sleep(5 * time.Second) // a module that was ill is asked once a second
					module.Lay(second)
				})
				if tt.want == byFind {
					tt.want = once // it shows now
				}
				if want := regexp.MustCompile(`^` + tt.want + ` card:` + two + `$`); !want.MatchString(got) {
					t.Errorf("reported: %s; want %s", got, want)
				}
			})
		})
	}
}
