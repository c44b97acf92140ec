package counter

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/hallagent/hallagent/device"
)

func cameraKind() Kind {
	return Kind{
		Kind: device.Kind{
			Name: "camera",
			Doc:  "cameras that count people: Hikvision ones that push over HTTP, Dahua ones that are asked or attached to over HTTP",
		},
		Sensor:   Camera,
		Schemes:  []string{device.SchemeHTTPListen, device.SchemeHTTP},
		Settings: func() Settings { return new(CameraSettings) },
		hear: func(ctx context.Context, c device.Conn, on *units) error {
			if on.ear.line.Listens() {
				return hearHikvision(ctx, c, on)
			}
			return askDahua(ctx, c, on)
		},
		patience: func(line device.Address, s Settings) time.Duration {
			k, _ := s.(*CameraSettings)
			return k.patience(line)
		},
	}
}

// CameraSettings are the settings of kind camera.
type CameraSettings struct {
	Make     string        `yaml:"make"`     // hikvision on an http-listen:// line, dahua on an http:// line; may be left out
	Channel  int           `yaml:"channel"`  // of the camera; dahua: 1 if 0; hikvision: 0 takes any
	Area     int           `yaml:"area"`     // of several in a picture; dahua: 1 if 0 where the camera names them; hikvision: 0 takes any
	Patience time.Duration `yaml:"patience"` // how long it may be silent; of a hikvision that pushes real time 0 is for ever

	// Of a Hikvision.
	SecretFile  string `yaml:"secret_file"` // holds the path under which the camera pushes: http://address:port/{secret}
	Statistical string `yaml:"statistical"` // which of its two reports counts: realtime, the default, or timerange
	Timezone    string `yaml:"timezone"`    // of times without an offset; Asia/Shanghai if empty

	// Of a Dahua.
	Mode         string        `yaml:"mode"`          // pull, the default, or attach
	Poll         time.Duration `yaml:"poll"`          // between two questions; 5s if 0
	Total        string        `yaml:"total"`         // which figure counts: total, the default, or today
	Username     string        `yaml:"username"`      // of the camera's login
	PasswordFile string        `yaml:"password_file"` // holds its password
}

const (
	makeHikvision = "hikvision"
	makeDahua     = "dahua"

	methodRealtime  = "realtime"
	methodTimerange = "timerange"

	modePull   = "pull"
	modeAttach = "attach"

	totalTotal = "total"
	totalToday = "today"

	defaultCameraPoll = 5 * time.Second
	cameraPatience    = 30 * time.Second // the shortest of one that is asked
	windowPatience    = 3 * time.Hour    // of one that reports periods, of an hour at most

	shortestSecret = 16 // characters
)

// Check returns everything that is wrong with the settings.
func (s *CameraSettings) Check(line device.Address) []Problem {
	var ps []Problem
	report := func(key, hint, cause string, args ...any) {
		ps = append(ps, Problem{Key: key, Cause: fmt.Sprintf(cause, args...), Hint: hint})
	}
	word := func(key, value string, allowed ...string) {
		if value != "" && value != allowed[0] && value != allowed[1] {
			report(key, "use "+allowed[0]+" or "+allowed[1], "%q is not known", value)
		}
	}
	word("make", s.Make, makeHikvision, makeDahua)
	word("statistical", s.Statistical, methodRealtime, methodTimerange)
	word("mode", s.Mode, modePull, modeAttach)
	word("total", s.Total, totalTotal, totalToday)
	if s.Poll != 0 && (s.Poll < time.Second || s.Poll > time.Minute) {
		report("poll", "1s to 1m; 5s suits most cameras", "%v is no useful pace", s.Poll)
	}
	if s.Channel < 0 || s.Area < 0 {
		report("channel", "channels and areas count from 1", "channel %d, area %d is no place in a camera", s.Channel, s.Area)
	}
	if s.Patience < 0 || s.Patience > 7*24*time.Hour {
		report("patience", "as 45m: three times what the camera takes between two reports", "%v is not between 0 and a week", s.Patience)
	}
	if _, err := zone(s.Timezone); err != nil {
		report("timezone", "example: Asia/Shanghai", "no time zone %q", s.Timezone)
	}
	switch s.maker(line) {
	case makeHikvision:
		if line.Scheme != "" && line.Scheme != device.SchemeHTTPListen {
			report("make", "put it on an http-listen:// line, and enter that address in the camera", "a hikvision camera pushes")
		}
		if s.SecretFile == "" {
			report("secret_file", fmt.Sprintf("a file with %d or more letters and digits that nobody guesses; the camera pushes to http://address:port/THEM", shortestSecret), "is missing")
		}
		if s.Mode+s.Total+s.Username+s.PasswordFile != "" || s.Poll != 0 {
			report("make", "remove mode, poll, total, username and password_file", "a hikvision camera is not asked")
		}
	case makeDahua:
		if line.Scheme != "" && line.Scheme != device.SchemeHTTP {
			report("make", "put it on a line http://address-of-the-camera", "a dahua camera is asked")
		}
		if s.Username == "" || s.PasswordFile == "" {
			report("password_file", "a user of the camera with the right to see, and a file with its password", "username and password_file are needed")
		}
		if s.SecretFile+s.Statistical != "" {
			report("make", "remove secret_file and statistical", "a dahua camera does not push")
		}
	default:
		if line.Scheme != "" {
			report("make", "hikvision on an http-listen:// line, dahua on an http:// line", "a %s line has no camera", line.Scheme)
		}
	}
	return ps
}

// Place is the path under which a camera pushes, or the place in the camera.
func (s *CameraSettings) Place() (key, value string) {
	if s.SecretFile != "" {
		return "secret_file", s.SecretFile
	}
	return "channel", fmt.Sprintf("%d area %d", s.channel(), max(s.Area, 1))
}

// maker is the make, by the line if it was not written.
func (s *CameraSettings) maker(line device.Address) string {
	switch {
	case s.Make != "":
		return s.Make
	case line.Scheme == device.SchemeHTTPListen:
		return makeHikvision
	case line.Scheme == device.SchemeHTTP:
		return makeDahua
	}
	return ""
}

func (s *CameraSettings) patience(line device.Address) time.Duration {
	switch {
	case s.Patience > 0:
		return s.Patience
	case s.maker(line) == makeDahua:
		return max(3*s.poll(), cameraPatience)
	case s.Statistical == methodTimerange:
		return windowPatience
	}
	return 0
}

func (s *CameraSettings) poll() time.Duration {
	if s.Poll == 0 {
		return defaultCameraPoll
	}
	return s.Poll
}

// channel is that of a Dahua.
func (s *CameraSettings) channel() int { return max(s.Channel, 1) }

// fitsPlace says whether a text of a camera gives a number that was set, or any if none was.
func fitsPlace(set int, told string) bool {
	n, err := strconv.Atoi(told)
	return set == 0 || err == nil && n == set
}

// readSecret reads a password or a path from its file.
func readSecret(file string, shortest int) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	text = bytes.TrimSpace(text)
	if len(text) < shortest {
		return "", fmt.Errorf("%s holds %d characters, and needs %d", file, len(text), shortest)
	}
	return string(text), nil
}
