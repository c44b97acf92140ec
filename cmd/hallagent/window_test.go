package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/hallagent/hallagent/device/sim"
	"github.com/hallagent/hallagent/idcard/photo"
)

// code makes a pairing code at the command line.
func (w *world) code(window string) string {
	w.t.Helper()
	out, exit := w.hallagent("pair", "--window", window)
	m := codePattern.FindStringSubmatch(out)
	if m == nil {
		w.t.Fatalf("pair gives %q, exit %d", out, exit)
	}
	return m[1]
}

// photoDecoder builds the decoder that the tests of idcard/photo use.
func photoDecoder(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "decoder")
	cmd := exec.Command("go", "build", "-o", path, "../../idcard/photo/testdata/decoder")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// hold claims a window for another program and gives what lets go of it.
func (w *world) hold(window, token string) (release func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/v1/windows/"+window+"/stream?claim=1", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	var res *http.Response
	eventually(w.t, 5*time.Second, "the window is free", func() error {
		if res, err = http.DefaultClient.Do(req); err == nil && res.StatusCode != http.StatusOK {
			res.Body.Close()
			err = fmt.Errorf("%s", res.Status)
		}
		return err
	})
	return func() {
		cancel()
		res.Body.Close()
	}
}

func visible(id string) string {
	return fmt.Sprintf(`document.getElementById(%q).checkVisibility()`, id)
}
func said(id string) string  { return fmt.Sprintf(`document.getElementById(%q).textContent`, id) }
func onPage(s string) string { return fmt.Sprintf(`document.body.innerText.includes(%q)`, s) }
func css(id string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS("#" + id))
}

// TestWindowPage sits down at a window as a teller does.
func TestWindowPage(t *testing.T) {
	need(t, "chromium")
	w := newWorld(t, "mqtt://"+freeAddress(t))
	reader, _ := w.addReader("05", sim.ReaderOptions{})
	w.addReader("06", sim.ReaderOptions{})
	w.configure("")
	w.start()
	w.ready()
	cards := vectors(t)
	first, second := cards[0].card(t), cards[1].card(t)

	b := openBrowser(t)
	b.do(chromedp.EmulateViewport(1366, 768), chromedp.Navigate(w.url+"/window/05"))
	b.until(5*time.Second, visible("pairing"))
	b.until(5*time.Second, said("name")+` === "样例大厅"`)
	b.look("window-unpaired")
	b.do(chromedp.SendKeys(chromedp.CSS("#code"), w.code("05")), chromedp.SendKeys(chromedp.CSS("#workstation"), "测试工作站\r"))
	b.until(5*time.Second, said("prompt")+` === "请放上证件"`)
	b.until(time.Second, "!"+visible("pairing")+" && "+said("state")+` === "读卡器：正常"`)
	b.look("window-ready")

	// A card is masked until somebody wants to see it.
	reader.Lay(first)
	b.until(5*time.Second, onPage("测**")+" && "+onPage("119***************"))
	b.until(time.Second, onPage("居民身份证")+" && "+onPage("2020-01-01 – 2040-01-01"))
	for _, secret := range []string{"测试甲", "119999", "1901-02-03", "示范区"} {
		if ask[bool](b, fmt.Sprintf(`document.documentElement.outerHTML.includes(%q)`, secret)) {
			t.Errorf("%s is in the masked page", secret)
		}
	}
	b.look("window-masked")
	b.do(css("show"))
	b.until(time.Second, onPage("测试甲")+" && "+onPage("119999190102030011")+" && "+onPage("1901-02-03"))
	b.do(css("photo-button"))
	b.until(5*time.Second, onPage("照片未解码：本系统不附带解码器"))
	b.look("window-shown")
	b.do(css("language"))
	b.until(time.Second, onPage("Photo not decoded: no decoder is installed")+" && "+onPage("Date of birth"))
	b.look("window-shown")
	b.do(css("language"))

	everyKind(t, b)

	// It goes with the card, and the next one is masked again.
	reader.Lift()
	b.until(5*time.Second, "!"+visible("card")+" && "+said("prompt")+` === "请放上证件"`)
	if ask[bool](b, `document.documentElement.outerHTML.includes("测试甲")`) {
		t.Error("the card is still in the page")
	}
	reader.Lay(second)
	b.until(5*time.Second, onPage("样**")+" && "+onPage("长期")+" && !"+onPage("样例乙"))
	reader.Lift()
	b.until(5*time.Second, "!"+visible("card"))

	// Of a card of no known kind there is what proves itself.
	strange := first
	strange.Text[248] = 'Q'
	reader.Lay(strange)
	b.until(5*time.Second, onPage("未知种类的证件")+" && "+onPage("其余请人工录入")+" && "+onPage("119***************")+" && !"+onPage("住址"))
	b.look("window-unknown")
	reader.Lift()
	b.until(5*time.Second, "!"+visible("card"))

	// A card that the module cannot read is a trouble, told in words.
	reader.SetMood(sim.Mood{Force: []sim.Force{{Command: [2]byte{0x30, 0x01}, Status: [3]byte{0, 0, 0x40}}}})
	reader.Lay(first)
	b.until(5*time.Second, visible("trouble")+" && "+onPage("请人工录入"))
	if ask[bool](b, visible("detail")) {
		t.Error("the technician's detail is not folded away")
	}
	b.until(time.Second, said("prompt")+` === "证件没有读出"`)
	b.look("window-trouble")
	reader.Lift()
	reader.SetMood(sim.Mood{Rereads: true})

	// Asked for, the next card comes the same way.
	b.do(css("again"))
	b.until(time.Second, said("prompt")+`.startsWith("正在重新读卡")`)
	reader.Lay(first)
	b.until(5*time.Second, onPage("测**")+` && !document.getElementById("again").disabled`)

	// It is paired after a reload; the card that still lies there is not shown to
	// whoever comes, and read again for who got it before.
	b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(w.url+"/window/05"))
	b.until(5*time.Second, said("prompt")+` === "请放上证件"`)
	b.do(css("again"))
	b.until(5*time.Second, onPage("测**"))
	reader.Lift()
	b.until(5*time.Second, "!"+visible("card"))
	reader.SetMood(sim.Mood{})
	if problems := b.seen(); len(problems) > 0 {
		t.Errorf("the browser complains: %q", problems)
	}

	// Another program has the window: from here on the browser sees refusals.
	b.do(chromedp.Navigate("about:blank"))
	release := w.hold("05", w.pair("05"))
	b.do(chromedp.Navigate(w.url + "/window/05"))
	b.until(5*time.Second, onPage("本窗口正由另一个页面或程序使用")+" && "+visible("retry"))
	b.look("window-claimed")
	release()
	eventually(t, 5*time.Second, "the page has the window", func() error {
		b.do(css("retry"))
		b.until(2*time.Second, said("prompt")+` !== "正在连接网关…"`)
		if got := ask[string](b, said("prompt")); got != "请放上证件" {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})

	// The agent goes and comes back, with a decoder.
	reader.Lay(first)
	b.until(5*time.Second, onPage("测**"))
	w.stop()
	b.until(5*time.Second, onPage("与网关的连接已断开")+" && !"+visible("card"))
	b.look("window-lost")
	reader.Lift()
	w.extra = fmt.Sprintf("photo: {decoder: [%q, good, \"-\", \"--config\"]}", photoDecoder(t))
	w.configure("")
	w.start()
	w.ready()
	b.until(20*time.Second, said("prompt")+` === "请放上证件"`)
	reader.Lay(first)
	b.until(5*time.Second, visible("photo-button"))
	b.do(css("photo-button"))
	b.until(5*time.Second, visible("photo")+` && document.getElementById("photo").width === 102 && document.getElementById("photo").height === 126`)
	b.look("window-photo")
	if metrics, err := get(w.url + "/metrics"); err != nil || !contains(string(metrics), `hallagent_photo_decodes_total{result="good"} 1`) {
		t.Errorf("the metrics do not count the photo: %v", err)
	}
	reader.Lift()
	b.until(5*time.Second, "!"+visible("card")+` && document.getElementById("photo").width === 0`)

	// Without a card, reading again ends when its time is over, and not later.
	b.do(css("again"))
	asked := time.Now()
	b.until(20*time.Second, onPage("没有读到证件"))
	if took := time.Since(asked); took > 8*time.Second {
		t.Errorf("after %v", took)
	}

	// A pairing that is revoked, a wrong code, and the code of another window.
	if err := os.WriteFile(filepath.Join(w.data(), "pairings.json"), []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	reader.Lay(first)
	b.until(10*time.Second, visible("pairing")+" && "+onPage("本工作站的配对已失效"))
	b.do(chromedp.SendKeys(chromedp.CSS("#code"), "0000000000"), chromedp.SendKeys(chromedp.CSS("#workstation"), "x\r"))
	b.until(5*time.Second, onPage("配对码错误"))
	b.do(chromedp.SendKeys(chromedp.CSS("#code"), w.code("06")+"\r"))
	b.until(5*time.Second, onPage("这个配对码属于另一个窗口")+" && "+visible("elsewhere"))
	b.do(chromedp.Navigate(ask[string](b, `document.getElementById("elsewhere-link").href`)))
	b.until(5*time.Second, said("title")+` === "窗口 06" && `+said("prompt")+` === "请放上证件"`)
}

// everyKind draws every card of the vectors with the page's own code, masked and
// not, and wants a sentence for everything that can be said of one.
func everyKind(t *testing.T, b *browser) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("..", "..", "idcard", "testdata", "idcard-vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	outcomes := photo.New(photo.Options{Command: []string{"/none"}}).Status().Outcomes
	delete(outcomes, "good")
	codes, err := json.Marshal(slices.Sorted(maps.Keys(outcomes)))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range ask[[]string](b, fmt.Sprintf(`(async () => {
  const { rowsOf, sentenceOf } = await import("/page/card.js");
  const { texts } = await import("/page/texts.js");
  const wrong = [], d = texts["zh-CN"].desk;
  const secret = ["name", "english_name", "nation", "birth", "address", "id_number", "issuer", "travel_permit_number", "previous_id_number"];
  const codes = new Set(["sex_code", "nation_code", "long_term", "type_flag", "card_type", "id_number_valid", "previous_number_link"]);
  for (const { id, expected: card } of %s.cards) {
    if (!card) continue;
    if (!d.type[card.card_type]) wrong.push(id + ": no name for " + card.card_type);
    const text = (shown) => rowsOf({ card, new_addresses: ["虚构省新址"] }, shown).map((e) => e.textContent).join("\n");
    const open = text(true), masked = text(false);
    if (open.includes("undefined") || masked.includes("undefined")) wrong.push(id + ": undefined");
    for (const [field, value] of Object.entries(card)) {
      if (codes.has(field) || !value) continue;
      if (!open.includes(value)) wrong.push(id + ": no " + field);
      if (secret.includes(field) && [...value].length > 1 && masked.includes(value)) wrong.push(id + ": " + field + " is not masked");
    }
    if (masked.includes("虚构省新址") || !open.includes("虚构省新址")) wrong.push(id + ": the new address");
  }
  for (const code of %s) if (!d.photo[code]) wrong.push("no sentence for " + code);
  for (const code of ["bad_character", "bad_date", "unknown_code", "bad_number", "birth_mismatch", "sex_mismatch", "number_mismatch", "nationality_mismatch", "unknown_kind", "blank"]) {
    for (const field of ["name", "sex_code", "nation_code", "birth", "valid_to", "id_number", "english_name", "nationality", "issuer", "address", "previous_number_link", "type_flag"]) {
      const s = sentenceOf({ code, field });
      if (s.includes("_") || s.includes("undefined")) wrong.push("no sentence for " + code + " of " + field + ": " + s);
    }
  }
  return wrong;
})()`, file, codes)) {
		t.Errorf("page: %s", wrong)
	}
}
