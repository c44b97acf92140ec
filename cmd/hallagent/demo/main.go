// Command demo is a whole hall in one process: simulated card readers and door
// counters, a broker, a workstation at each window, a consumer, and between
// them the agent as it is shipped, with the shipped sample configuration. A day
// passes at a chosen speed, and each thing that happens is one line.
//
// Nothing in the agent knows that the hall is simulated: the readers hang on
// pseudo terminals, one counter on another, the second on TCP, and the agent
// reaches the broker by MQTT. Limits: the persons are made up; the broker keeps
// nothing; it needs Linux, for the pseudo terminals.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/deploy"
	"github.com/hallagent/hallagent/device"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// options of the demo.
type options struct {
	speed  float64 // seconds of the hall's day for each real second
	listen string  // address of the page
	data   string  // directory of the agent's stores
	log    bool    // print the agent's log too
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Float64Var(&o.speed, "speed", 60, "seconds of the hall's day for each second, up to 300")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of the page")
	flags.StringVar(&o.data, "data", "", "directory to keep the stores in; a new one each time if empty")
	flags.BoolVar(&o.log, "log", false, "print the agent's log too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.speed <= 0 || o.speed > 300 {
		return fmt.Errorf("speed %v is not between 0 and 300: counters of a faster hall would not be believed", o.speed)
	}
	if o.data == "" {
		dir, err := os.MkdirTemp("", "hallagent-demo-")
		if err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
		defer os.RemoveAll(dir)
		o.data = dir
	}
	return demo(ctx, o, &printer{out: out})
}

// demo puts the hall together and runs it until ctx ends.
func demo(ctx context.Context, o options, p *printer) error {
	cfg, problems := config.Parse(deploy.Sample)
	if errs := problems.Errors(); len(errs) > 0 {
		return fmt.Errorf("read the sample configuration:\n%s", errs.Print("hallagent.yaml"))
	}
	if l, err := net.Listen("tcp", o.listen); err != nil {
		return fmt.Errorf("serve the page: %w\nhint: choose another address: make demo ARGS=\"--listen 127.0.0.1:8090\"", err)
	} else if err := l.Close(); err != nil {
		return fmt.Errorf("serve the page: %w", err)
	}
	broker, err := newBroker()
	if err != nil {
		return err
	}
	shut := sync.OnceFunc(func() { broker.Close() })
	defer shut()
	hall, err := newHall(o, cfg)
	if err != nil {
		return err
	}
	defer hall.close()
	if err := adapt(&cfg, o, hall, broker); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if o.log {
		log = slog.New(slog.NewTextHandler(p.out, nil))
	}
	a, err := agent.New(cfg, "demo", log)
	if err != nil {
		return err
	}
	if err := broker.watch(cfg, p); err != nil {
		return err
	}
	p.say("demo", "the page is at http://%s/ (Ctrl-C stops)", o.listen)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var once sync.Once
	var failed error
	start := func(what string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				once.Do(func() { failed = fmt.Errorf("run %s: %w", what, err) })
				cancel()
			}
		})
	}
	start("agent", a.Run)
	m := &manager{page: "http://" + o.listen, control: cfg.Data, p: p}
	start("hall", func(ctx context.Context) error { return hall.run(ctx, p, m) })
	for _, r := range cfg.Readers {
		w := &workstation{window: r.Window, page: "http://" + o.listen, control: cfg.Data, p: p}
		start("workstation", w.run)
	}
	<-ctx.Done()
	wg.Wait()
	broker.quiet()
	shut() // what the agent said last is printed first
	p.say("demo", "stopped")
	return failed
}

// adapt turns the sample configuration to the simulated devices and the broker
// of the demo; everything else stays as shipped.
func adapt(cfg *config.Config, o options, h *hall, b *broker) error {
	cfg.Data = o.data
	cfg.LAN.Listen = []string{o.listen}
	cfg.Occupancy.Stay = time.Duration(float64(stay) / o.speed) // by the clock
	cfg.Broker = config.Broker{URL: b.url, Acknowledge: cfg.Broker.Acknowledge}
	leaveOut(cfg, device.SchemePulse) // a pseudo terminal has no modem lines
	for i := range cfg.Lines {
		url, ok := h.urls[cfg.Lines[i].ID]
		if !ok {
			return fmt.Errorf("line %q of the sample configuration has no simulated device", cfg.Lines[i].ID)
		}
		address, err := device.ParseAddress(url)
		if err != nil {
			return err
		}
		cfg.Lines[i].URL = config.Address{Address: address}
	}
	return nil
}

// leaveOut takes lines of a scheme away, with all that is on them.
func leaveOut(cfg *config.Config, scheme string) {
	gone := map[string]bool{}
	cfg.Lines = slices.DeleteFunc(cfg.Lines, func(l config.Line) bool {
		gone[l.ID] = l.URL.Scheme == scheme
		return gone[l.ID]
	})
	doors := map[string]bool{}
	cfg.Counters = slices.DeleteFunc(cfg.Counters, func(c config.Counter) bool {
		doors[c.Door] = doors[c.Door] || !gone[c.Line]
		return gone[c.Line]
	})
	cfg.Doors = slices.DeleteFunc(cfg.Doors, func(d config.Door) bool { return !doors[d.ID] })
}

// printer prints one line for each thing that happens.
type printer struct {
	mu  sync.Mutex
	out io.Writer
}

func (p *printer) say(who, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "%s  %-10s %s\n", time.Now().Format("15:04:05"), who, fmt.Sprintf(format, args...))
}
