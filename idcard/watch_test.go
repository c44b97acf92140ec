package idcard

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// mute are the steps after which a module is known not to answer presence tests.
var mute = []step{hush(presence), settled, hush(presence), settled}

func TestWatchByFind(t *testing.T) {
	one := say(readCard, vectorCardOf(t, "cn-01-plain").Response)
	two := say(readCard, vectorCardOf(t, "cn-02-female-long-term").Response)
	laid := func(card step) []step { return []step{found, selected, card} }
	mute1 := mute[:2] // of a card after one for which find took the place
	tests := map[string]struct {
		steps [][]step
		want  string
	}{
		"read cards are denied":             {[][]step{laid(one), mute, {none, none, none, none}}, "card removed"},
		"another is laid down":              {[][]step{laid(one), mute, {none, none}, laid(two), mute1, {none}}, "card removed card removed"},
		"the same is laid down again":       {[][]step{laid(one), mute, {none}, laid(one), mute1, {none, none}}, "card removed card removed"},
		"swapped between two finds":         {[][]step{laid(one), mute, laid(two), mute1, {none, none}}, "card removed card removed"},
		"read cards are shown":              {[][]step{laid(one), mute, laid(one), {found, found, found}}, "card removed"},
		"shown, lost for a moment":          {[][]step{laid(one), mute, laid(one), {found, none}, laid(one), {found}}, "card removed"},
		"shown, then lifted":                {[][]step{laid(one), mute, laid(one), {found, none, none, none}}, "card removed"},
		"shown, then swapped":               {[][]step{laid(one), mute, laid(one), {found, none}, laid(two), mute1, {none}}, "card removed card removed"},
		"answers lost on a good module":     {[][]step{laid(one), {there, there}, mute, mute, {there, doubt, doubt, none}}, "card removed"},
		"shown, swapped between two finds":  {[][]step{laid(one), mute, laid(one), {found, found, found, found, found, found}, laid(two), mute1, {none}}, "card removed card removed"},
		"no answer any more":                {[][]step{laid(one), {there, there}, mute, mute, mute1, {none}, laid(two), {there}}, "card removed card removed"},
		"find refused all the time":         {[][]step{laid(one), mute, {none, say(find, answer(0x24)), say(find, answer(0x24)), say(find, answer(0x24)), found, selected, two, hush(presence), settled, none}}, "card trouble:unknown_error removed card removed"},
		"noise is not silence":              {[][]step{laid(one), {say(presence, disturbed(there.answer)), settled, say(presence, disturbed(there.answer)), settled, say(presence, there.answer[:5]), settled, there, there}}, "card removed"},
		"no command for it":                 {[][]step{laid(one), {say(presence, answer(0x21)), none, none}, laid(two), {say(presence, answer(0x21)), none}}, "card removed card removed"},
		"no answer after the first":         {[][]step{laid(one), {there}, mute, {none}, laid(two), {there}, mute1, {none}}, "card removed card removed"},
		"lifted in the midst of the second": {[][]step{laid(one), mute, {none, found, selected, say(readCard, answer(0x41)), none, none}}, "card removed trouble:read_failed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, events, err := script(t, slices.Concat(tt.steps...)...)
				if got := names(events); got != tt.want || !hungUp(err) {
					t.Errorf("events: %s; want %s; Use = %v", got, tt.want, err)
				}
			})
		})
	}
}

// Addresses that were added to the card follow it, once.
func TestNewAddresses(t *testing.T) {
	block := bytes.Repeat([]byte{' ', 0}, 4*addressSize/2)
	put(block, 0, addressSize, "虚构省样例市新路1号")
	put(block, addressSize, addressSize, "虚构省样例市新路2号")
	with := say(presence, answer(0x90, block...))
	synctest.Test(t, func(t *testing.T) {
		good := say(readCard, vectorCardOf(t, "cn-01-plain").Response)
		_, events, _ := script(t, found, selected, good, with, with, with, doubt, doubt, found, selected, good, there, doubt, doubt)
		if got := names(events); got != "card addresses removed card removed" {
			t.Fatalf("events: %s", got)
		}
		if e := events[1]; !reflect.DeepEqual(e.Addresses, []string{"虚构省样例市新路1号", "虚构省样例市新路2号"}) || e.at != events[0].at+time.Millisecond {
			t.Errorf("%d addresses %v after the card", len(e.Addresses), e.at-events[0].at)
		}
	})
}

func TestReread(t *testing.T) {
	one := say(readCard, vectorCardOf(t, "cn-01-plain").Response)
	two := say(readCard, vectorCardOf(t, "cn-02-female-long-term").Response)
	failed := say(readCard, answer(0x41))
	block := bytes.Repeat([]byte{' ', 0}, addressSize/2)
	put(block, 0, addressSize, "虚构省样例市新路1号")
	with := say(presence, answer(0x90, block...))
	tests := map[string]struct {
		steps []step // after the card was read, removed or not
		want  string
	}{
		"it has not moved":           {[]step{there, there, doubt}, "card card removed"},
		"one test disturbed":         {[]step{say(presence, answer(0x10)), there, there, doubt}, "card card removed"},
		"its new addresses":          {[]step{there, with, doubt}, "card card addresses removed"},
		"module reads it again":      {[]step{doubt, doubt, none, selected, one, there, doubt}, "card card removed"},
		"select denied, read is not": {[]step{doubt, doubt, none, say(choose, answer(0x81)), one, there, doubt}, "card card removed"},
		"found again":                {[]step{doubt, doubt, found, selected, one, there}, "card card removed"},
		"module wants it lifted":     {[]step{doubt, doubt, none, say(choose, answer(0x81)), failed, there, doubt, doubt, found, selected, two}, "card trouble:lift_card removed card removed"},
		"swapped meanwhile":          {[]step{doubt, doubt, found, selected, two, there}, "card removed card removed"},
		"module fell ill":            {[]step{say(presence, answer(0x60)), say(presence, answer(0x60)), say(find, answer(0x60)), there}, "card trouble:sam_self_test_failed removed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, events := collecting(t)
				if r.Reread() {
					t.Error("a reader without a line takes a wish")
				}
				go func() {
					for !r.Status().Card {
						time.Sleep(time.Millisecond)
					}
					time.Sleep(50 * time.Millisecond)
					if !r.Reread() {
						t.Error("the wish was not taken")
					}
				}()
				if err := r.meet(t, slices.Concat(hello, []step{found, selected, one, there}, tt.steps)); !hungUp(err) {
					t.Errorf("Use = %v", err)
				}
				if got := names(*events); got != tt.want {
					t.Errorf("events: %s; want %s", got, tt.want)
				}
			})
		})
	}
}
