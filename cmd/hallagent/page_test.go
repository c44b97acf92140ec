package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/sync/mqtt"
	"github.com/hallagent/hallagent/sync/mqtt/mosquitto"
)

// browser is a tab of a headless Chromium and what went wrong in it.
type browser struct {
	t     *testing.T
	ctx   context.Context
	shots string // where screenshots go; "" makes none

	mu       sync.Mutex
	problems []string
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	need(t, "chromium")
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // its children write for a moment after it has ended
		eventually(t, 10*time.Second, "the browser's folder is removed", func() error { return os.RemoveAll(dir) })
	})
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("lang", "zh-CN"), chromedp.Flag("accept-lang", "zh-CN"))
	allocator, free := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(free)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	b := &browser{t: t, ctx: ctx, shots: os.Getenv("HALLAGENT_SCREENSHOTS")}
	if err := chromedp.Listen(ctx, b.watch); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return b
}

// watch collects what a developer would see in red.
func (b *browser) watch(event any) {
	problem := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		problem = "exception: " + e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" {
			problem = fmt.Sprintf("console.%s", e.Type)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			problem = "log: " + e.Entry.Text + " " + e.Entry.URL
		}
	}
	if problem != "" {
		b.mu.Lock()
		b.problems = append(b.problems, problem)
		b.mu.Unlock()
	}
}

func (b *browser) seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.problems
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// until waits for a condition in JavaScript.
func (b *browser) until(limit time.Duration, condition string) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool](condition, chromedp.WithPollingTimeout(limit))); err != nil {
		b.t.Fatalf("not within %v: %s: %v\n%s", limit, condition, err, ask[string](b, "document.body.innerText"))
	}
}

// ask evaluates JavaScript.
func ask[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// TestPage looks at the hall's page as a person does.
func TestPage(t *testing.T) {
	need(t, "chromium")
	br := mosquitto.Start(t, mosquitto.Options{})
	w := newWorld(t, br.URL)
	w.poll = 500 * time.Millisecond
	_, pty := w.addReader("05", sim.ReaderOptions{})
	w.addReader("06", sim.ReaderOptions{})
	gate := w.addCounter("D1", true)
	w.addCounter("D2", true)
	w.configure("")
	aside := agent.StorePath(w.data(), "visits") + ".damaged-20260302T093000"
	if err := errors.Join(os.MkdirAll(w.data(), 0o700), os.WriteFile(aside, nil, 0o600), os.WriteFile(aside+".json", []byte(`{"lost": 7, "open": true}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.ready()

	b := openBrowser(t)
	b.do(chromedp.EmulateViewport(1366, 768), chromedp.Navigate(w.url+"/"))
	b.until(5*time.Second, `document.getElementById("name").textContent === "样例大厅" && document.title === "样例大厅"`)
	for _, text := range []string{"厅内人数", "D1", "D2", "rd-05", "rd-06", "已连接", "无积压", "损坏的文件已移到 " + aside + "，丢失 7 条记录，可能更多"} {
		b.until(5*time.Second, fmt.Sprintf("document.body.innerText.includes(%q)", text))
	}
	b.until(5*time.Second, `document.getElementById("people").textContent === "0"`)
	b.until(5*time.Second, `document.querySelectorAll(".state.bad").length === 0`)

	if odd := ask[[]string](b, untranslated); len(odd) > 0 {
		t.Errorf("in one language only: %q", odd)
	}
	for part, codes := range map[string]string{
		"store": "full readonly permission missing locked damaged wrong_stream io", // those of outbox.Status
		"broker": strings.Join([]string{mqtt.CodeURL, mqtt.CodeFile, mqtt.CodeRefused, mqtt.CodeUnreachable, mqtt.CodeTLS, mqtt.CodeCredentials,
			mqtt.CodeClientID, mqtt.CodeUnavailable, mqtt.CodeSubscription, mqtt.CodeProtocol, mqtt.CodeSilent, mqtt.CodeLost, mqtt.CodeNotEchoed,
			mqtt.CodeDuplicate, mqtt.CodeReconnecting, mqtt.CodePacketLimit}, " "),
	} {
		if odd := ask[[]string](b, fmt.Sprintf(unspoken, part, codes)); len(odd) > 0 {
			t.Errorf("codes of the %s without a text: %q", part, odd)
		}
	}

	worst := time.Duration(0)
	for i := 1; i <= 6; i++ {
		gate.Pass(1, 0)
		passed := time.Now()
		b.until(5*time.Second, fmt.Sprintf(`document.getElementById("people").textContent === "%d"`, i))
		took := time.Since(passed)
		worst = max(worst, took)
		time.Sleep(took % (70 * time.Millisecond)) // another phase of the counter's poll
	}
	t.Logf("a pass is on the page after %v at worst, of 6, line read every %v", worst.Round(time.Millisecond), w.poll)
	if worst > time.Second {
		t.Errorf("a pass is on the page after %v", worst)
	}
	b.look("well")

	if err := pty.Unplug(); err != nil {
		t.Fatal(err)
	}
	br.Kill()
	row := func(words string) string {
		return fmt.Sprintf(`[...document.querySelectorAll("#readers tr")].some((r) => r.innerText.includes("rd-05") && r.innerText.includes(%q))`, words)
	}
	b.until(6*time.Second, row("未连接"))
	b.until(6*time.Second, row("端口不存在"))
	b.do(chromedp.Click(chromedp.CSS("#language")))
	b.until(time.Second, row("Not connected"))
	b.until(time.Second, `document.documentElement.lang === "en"`)
	b.until(6*time.Second, `[...document.querySelectorAll("#devices tr")].some((r) => r.innerText.includes("The other side refuses") && r.querySelector(".state.bad"))`)
	b.look("troubled")
	b.do(chromedp.Click(chromedp.CSS("#language")))
	b.until(time.Second, row("未连接"))
	b.look("troubled")
	if err := pty.Plug(); err != nil {
		t.Fatal(err)
	}
	b.until(6*time.Second, row("正常"))

	if problems := b.seen(); len(problems) > 0 {
		t.Errorf("the browser complains: %q", problems)
	}
	// The watch sees what it is there to see.
	ask[bool](b, `console.error("seen"), setTimeout(() => { throw new Error("seen") }), fetch("/nothing"), true`)
	eventually(t, 5*time.Second, "the watch sees three errors", func() error {
		if problems := b.seen(); len(problems) != 3 {
			return fmt.Errorf("it saw %q", problems)
		}
		return nil
	})
	w.stop()
	b.until(6*time.Second, `!document.getElementById("offline").hidden`)
	b.until(time.Second, `[...document.querySelectorAll(".state")].every((s) => s.textContent === "不详")`)
	b.until(time.Second, `document.getElementById("level").textContent === "数据已过时"`)
	b.look("offline")
}

// untranslated lists what the texts have in one language only.
const untranslated = `(async () => {
  const { texts } = await import("/page/texts.js");
  const keys = (o, path) => Object.entries(o).flatMap(([k, v]) => typeof v === "object" ? keys(v, path + k + ".") : [path + k]);
  const all = Object.values(texts).map((o) => keys(o, ""));
  return all.flatMap((one) => one.filter((k) => !all.every((other) => other.includes(k))));
})()`

// unspoken lists the codes of a part for which the texts have no words.
const unspoken = `(async () => {
  const { texts } = await import("/page/texts.js");
  const part = %q, codes = %q.split(" ");
  return Object.entries(texts).flatMap(([l, t]) => codes.filter((c) => !t.code[part + "_" + c] && !t.code[c]).map((c) => l + " " + c));
})()`

// flaws finds text that is cut off, that stands beyond the screen, that is too
// pale (WCAG 2.2, 1.4.3), that is missing, or not in the page's language.
const flaws = `(() => {
  const found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push("the page is wider than the screen: " + document.documentElement.scrollWidth);
  const parse = (c) => { const n = c.match(/[\d.]+/g).map(Number); return { rgb: n.slice(0, 3), a: n[3] ?? 1 }; };
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.a === 1) return c.rgb; } return [255, 255, 255]; };
  for (const e of document.body.querySelectorAll("*")) {
    const text = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join("");
    if (e.dataset.text !== undefined && !text) found.push("no text: " + e.dataset.text);
    if (!text || !e.checkVisibility()) continue;
    if (text.includes("undefined")) found.push("undefined: " + text);
    const [x, y] = [light(parse(getComputedStyle(e).color).rgb), light(ground(e))];
    const contrast = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
    if (contrast < 4.5) found.push("contrast " + contrast.toFixed(2) + ": " + text);
    if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline") found.push("cut off: " + text);
    const han = /\p{Script=Han}/u.test(text), ours = e.id !== "name" && e.closest("[lang]") === document.documentElement;
    if (document.documentElement.lang === "en" && han && ours) found.push("not English: " + text);
    if (document.documentElement.lang !== "en" && ours && /[a-z]+ [a-z]+ [a-z]+/i.test(text)) found.push("not Chinese: " + text);
  }
  for (const e of document.querySelectorAll(".scroll")) {
    if (e.scrollWidth > e.clientWidth + 1) found.push("to be scrolled sideways: " + e.innerText.slice(0, 40));
  }
  for (const e of document.querySelectorAll(".state")) {
    if (e.checkVisibility() && document.documentElement.lang !== "en" && !/\p{Script=Han}/u.test(e.textContent)) found.push("not Chinese: " + e.textContent);
  }
  for (const e of document.querySelectorAll(".state + small")) {
    if (document.documentElement.lang !== "en" && !/\p{Script=Han}/u.test(e.textContent)) found.push("not Chinese: " + e.textContent);
  }
  return found;
})()`

// look searches the page for flaws at the sizes and in the colours that people
// have, and takes a picture of each.
func (b *browser) look(state string) {
	b.t.Helper()
	language := ask[string](b, "document.documentElement.lang")
	for _, size := range []struct {
		name          string
		width, height int64
		options       []chromedp.EmulateViewportOption
	}{{"desk", 1366, 768, nil}, {"phone", 390, 844, []chromedp.EmulateViewportOption{chromedp.EmulateMobile}}} {
		for _, scheme := range []string{"light", "dark"} {
			b.do(chromedp.EmulateViewport(size.width, size.height, size.options...),
				chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
					_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
						Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
					})
					return err
				}))
			b.until(time.Second, fmt.Sprintf(`innerWidth === %d && matchMedia("(prefers-color-scheme: %s)").matches`, size.width, scheme))
			name := strings.Join([]string{state, language, size.name, scheme}, "-")
			for _, flaw := range ask[[]string](b, flaws) {
				b.t.Errorf("%s: %s", name, flaw)
			}
			if b.shots == "" {
				continue
			}
			shot, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
			if err == nil {
				err = os.WriteFile(filepath.Join(b.shots, name+".png"), shot, 0o644)
			}
			if err != nil {
				b.t.Error(err)
			}
		}
	}
	b.do(chromedp.EmulateViewport(1366, 768))
}
