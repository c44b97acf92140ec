// Command hallagent is the agent of one service hall: it reads ID-card readers
// and entrance counters and brings what they say to the workstations of the
// hall and to the central services.
//
// Each sub-command is one small file. What a person asked for goes to stdout,
// everything else to stderr. Exit codes: 0 good, 1 a finding or a failure,
// 2 wrong usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/counter"

	_ "time/tzdata" // a gateway without zone files still knows the hall's time zone
)

// version is set by the build.
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// commands are the sub-commands.
type commands struct {
	Config string `help:"The configuration file (${default})." default:"/etc/hallagent/hallagent.yaml" placeholder:"FILE" type:"path"`

	Run     runCommand     `cmd:"" help:"Run the agent until it is stopped."`
	Check   checkCommand   `cmd:"" help:"Check the configuration and say all that is wrong with it."`
	Pair    pairCommand    `cmd:"" help:"Make a one-time code that pairs a workstation with a window."`
	Read    readCommand    `cmd:"" help:"Read one card at the command line."`
	Count   countCommand   `cmd:"" help:"Watch one counter at the command line."`
	Devices devicesCommand `cmd:"" help:"List the serial ports, without opening one."`
	Record  recordCommand  `cmd:"" help:"Write down what passes over a line, without what is personal."`
	Play    playCommand    `cmd:"" help:"Play a recording as the device."`
	Outbox  outboxCommand  `cmd:"" help:"Look at the stores of records that wait for the centre."`
	Sim     simCommand     `cmd:"" help:"Simulate devices on a pseudo terminal or on TCP."`
	Version versionCommand `cmd:"" help:"Print the version."`

	Photo photoCommand `cmd:"" name:"photo-decoder" hidden:""`
}

// streams are what a command reads and prints to.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// errFinding ends a command with exit code 1 when all has been said already.
var errFinding = errors.New("finding")

// run is the whole program with its surroundings passed in.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	var c commands
	ended := -1 // the exit code kong wants, after help
	parser, err := kong.New(&c,
		kong.Name("hallagent"),
		kong.Description("The agent of a service hall: ID-card readers and entrance counters, on the LAN and over MQTT."),
		kong.Writers(out, errs),
		kong.Exit(func(code int) { ended = code }),
		kong.UsageOnError(),
		kong.Vars{
			"counters": strings.Join(counter.Kinds().Names(), ", "),
			"streams":  strings.Join(agent.Streams(), ","),
		},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(errs, "hallagent:", err)
		return 1
	}
	k, err := parser.Parse(args)
	if ended >= 0 {
		return ended
	}
	if err != nil {
		fmt.Fprintln(errs, "hallagent:", err)
		fmt.Fprintln(errs, "hint: hallagent --help lists the commands")
		return 2
	}
	ctx, stop := signals()
	defer stop()
	k.BindTo(ctx, (*context.Context)(nil))
	switch err := k.Run(&c, streams{in, out, errs}); {
	case err == nil, errors.Is(err, context.Canceled):
		return 0
	case errors.Is(err, errFinding):
		return 1
	default:
		fmt.Fprintln(errs, "hallagent:", err)
		return 1
	}
}

// signals gives a context that ends with the first SIGINT or SIGTERM. After
// that the signals have their usual effect again, so that a second one kills.
func signals() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
