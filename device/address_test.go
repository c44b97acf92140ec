package device

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	tty := Address{Scheme: "serial", Path: "/dev/ttyUSB0", Baud: 115200, DataBits: 8, Parity: "none", StopBits: "1", DTR: true, RTS: true}
	odd := tty
	odd.Baud, odd.DataBits, odd.Parity, odd.StopBits, odd.DTR, odd.RTS = 9600, 7, "odd", "2", false, false
	com := tty
	com.Path = "COM12"
	spaced := tty
	spaced.Path = "/dev/serial/by-id/a b?c"
	pulse := Address{Scheme: "pulse", Path: "/dev/ttyUSB0", Baud: 9600, DataBits: 8, Parity: "none", StopBits: "1", DTR: true, RTS: true}
	lowered := pulse
	lowered.Path, lowered.RTS = "COM4", false
	tests := map[string]Address{
		"serial:///dev/ttyUSB0": tty,
		"serial:///dev/ttyUSB0?baud=9600&data=7&parity=odd&stop=2&dtr=off&rts=off": odd,
		"serial://COM12":                               com,
		"serial:///dev/serial/by-id/a%20b%3Fc":         spaced,
		"tcp://10.0.0.7:4001":                          {Scheme: "tcp", Host: "10.0.0.7:4001"},
		"tcp://[fd00::7]:4001":                         {Scheme: "tcp", Host: "[fd00::7]:4001"},
		"tcp://gates.hall.example:4001":                {Scheme: "tcp", Host: "gates.hall.example:4001"},
		"http://10.0.0.9":                              {Scheme: "http", Host: "10.0.0.9:80"},
		"pulse:///dev/ttyUSB0":                         pulse,
		"pulse://COM4?rts=off":                         lowered,
		"tcp-listen://127.0.0.1:8085":                  {Scheme: "tcp-listen", Host: "127.0.0.1:8085"},
		"udp-listen://10.0.0.5:8085?allow=10.0.0.0/24": {Scheme: "udp-listen", Host: "10.0.0.5:8085", Allow: "10.0.0.0/24"},
		"http-listen://0.0.0.0:8086?allow=10.0.0.7/24,fd00::1,10.9.9.9": {Scheme: "http-listen", Host: "0.0.0.0:8086", Allow: "10.0.0.0/24,fd00::1/128,10.9.9.9/32"},
	}
	for raw, want := range tests {
		got, err := ParseAddress(raw)
		if err != nil || got != want {
			t.Errorf("ParseAddress(%q) = %+v, %v; want %+v", raw, got, err, want)
			continue
		}
		if again, err := ParseAddress(got.String()); err != nil || again != got {
			t.Errorf("%q printed as %q reads back as %+v, %v", raw, got.String(), again, err)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	tests := map[string]string{ // address → what the message must say
		"":                                       "no scheme",
		"/dev/ttyUSB0":                           "no scheme",
		"usb:///dev/ttyUSB0":                     `unknown scheme "usb"; known: serial, tcp`,
		"tcp-lisen://10.0.0.5:8085":              `did you mean "tcp-listen"?`,
		"tcp-listen://10.0.0.5:8085":             "needs allow",
		"udp-listen://gw:8085?allow=10.0.0.0/8":  "needs an address of this machine",
		"http-listen://10.0.0.5:8086?allow=all":  "neither a network",
		"http-listen://10.0.0.5:8086/x":          "no path",
		"pulse://10.0.0.5":                       "three slashes",
		"pulse:///dev/ttyUSB0?baud=9600":         `unknown option "baud"`,
		"serial:///dev/ttyUSB0?baud=automatic":   "option baud: \"automatic\" is neither auto nor a rate",
		"serial:///dev/ttyUSB0?baud=fast":        `option baud: "fast" is neither auto nor a rate`,
		"serial:///dev/ttyUSB0?baud=0":           "option baud",
		"serial:///dev/ttyUSB0?baut=9600":        `unknown option "baut"; did you mean "baud"? known: baud, data, dtr, parity, rts, stop`,
		"serial:///dev/ttyUSB0?data=9":           "option data",
		"serial:///dev/ttyUSB0?parity=mark":      `option parity: "mark" is not one of [none odd even]`,
		"serial:///dev/ttyUSB0?stop=1.5":         "option stop",
		"serial:///dev/ttyUSB0?dtr=true":         `option dtr: "true" is neither on nor off`,
		"serial:///dev/ttyUSB0?rts=":             "option rts",
		"serial:///dev/ttyUSB0?baud=1&baud=2":    "option baud is given 2 times",
		"serial:///dev/ttyUSB0?baud=9600;rts=on": "options",
		"serial:///dev/ttyUSB0#x":                "fragment",
		"serial://dev/ttyUSB0":                   "three slashes",
		"serial://":                              "needs a path",
		"serial:///":                             "needs a path",
		"tcp://10.0.0.7":                         "host:port",
		"tcp://:4001":                            "host:port",
		"tcp://10.0.0.7:0":                       "1 to 65535",
		"tcp://10.0.0.7:4001/x":                  "no path",
		"tcp://10.0.0.7:4001?baud=9600":          `unknown option "baud"; this scheme takes none`,
		"tcp://u:secret@10.0.0.7:4001":           "password",
		"serial:///dev/%zz":                      "not a URL",
	}
	for raw, want := range tests {
		a, err := ParseAddress(raw)
		if err == nil {
			t.Errorf("ParseAddress(%q) = %+v, want an error", raw, a)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("ParseAddress(%q): %q does not say %q", raw, err, want)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("ParseAddress(%q) repeats the password: %q", raw, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("serial:///dev/serial/by-id/X?baud=115200&parity=none&data=8&stop=1&dtr=on&rts=on")
	f.Add("serial://COM3")
	f.Add("tcp://[::1]:4001")
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := ParseAddress(raw)
		if err != nil {
			return
		}
		again, err := ParseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q: %+v printed as %q reads back as %+v, %v", raw, a, a, again, err)
		}
	})
}
