// The page of one window: what lies on its reader, for the workstation that was
// paired with it. A card is on the screen for as long as it lies there; nothing
// of it is stored.
import { $, t, speak } from "./language.js";
import { rowsOf, sentenceOf } from "./card.js";
import { follow } from "./stream.js";

const place = decodeURIComponent(location.pathname.split("/")[2]);
const api = "/v1/windows/" + encodeURIComponent(place);

// The token is in localStorage and not in sessionStorage, since a workstation is
// paired once and must be one after a restart, too. Only this page's own scripts
// can read it, and it opens this one window; it can be revoked at the gateway.
const tokenKey = "hallagent.token." + place;
let token = localStorage.getItem(tokenKey);

// What is shown, and nothing else: speak draws all of it again.
let link = "opening"; // unpaired, opening, open, lost, claimed, nowhere, store
let notice = ""; // key of t().desk.notice
let reader = null, trouble = null, card = null, hall = null;
let shown = false; // the card without masks
let picture = ""; // none yet: "", "asking", "shown", or the code of why not
let reading = false; // the card is read again
let elsewhere = ""; // the window that a code was for
let stop = () => {};

function show() {
  const d = t().desk;
  document.title = d.title(place) + (hall ? " · " + hall.name : "");
  $("title").textContent = d.title(place);
  $("name").textContent = hall ? hall.name : "";
  $("notice").hidden = !notice;
  $("notice").textContent = notice ? d.notice[notice] : "";
  $("pairing").hidden = link !== "unpaired";
  $("elsewhere").hidden = !elsewhere;
  $("elsewhere-link").textContent = elsewhere ? d.elsewhere(elsewhere) : "";
  $("elsewhere-link").href = "/window/" + encodeURIComponent(elsewhere);
  $("desk").hidden = link === "unpaired";
  showReader(d);
  $("card").hidden = !card;
  if (card) showCard(d);
}

function showReader(d) {
  const state = link === "open" && reader ? reader.state : "";
  $("state").hidden = !state;
  $("state").className = "state" + (state === "online" ? "" : " bad");
  const why = reader?.code ? t().code[reader.code] || reader.code : "";
  $("state").textContent = state ? d.reader(t().states[state] || state) + (why ? " · " + why : "") : "";
  const step = link !== "open" ? link : reading ? "reading" : card ? "read" : state !== "online" ? "away" : trouble ? "unread" : "ready";
  $("prompt").textContent = d.prompt[step];
  $("retry").hidden = link !== "claimed";
  $("again").hidden = link !== "open" || state !== "online";
  $("again").disabled = reading;
  $("actions").hidden = $("retry").hidden && $("again").hidden;
  $("trouble").hidden = !trouble || link !== "open";
  if (trouble) {
    $("sentence").textContent = document.documentElement.lang === "en" ? trouble.en : trouble.zh;
    $("detail").textContent = `${trouble.code}: ${trouble.detail}`;
  }
}

function showCard(d) {
  $("type").textContent = d.type[card.card.card_type] || card.card.card_type;
  $("warnings").hidden = card.warnings.length === 0;
  $("warnings").replaceChildren(...card.warnings.map((w) => {
    const li = document.createElement("li");
    li.textContent = sentenceOf(w);
    return li;
  }));
  $("fields").replaceChildren(...rowsOf(card, shown));
  $("show").textContent = shown ? d.mask : d.show;
  $("show").setAttribute("aria-pressed", shown);
  $("photo-button").hidden = !card.photo || picture === "shown" || picture === "undecoded";
  $("photo-button").disabled = picture === "asking";
  $("photo").hidden = picture !== "shown";
  $("photo").setAttribute("aria-label", d.photoOf);
  const why = picture === "asking" || picture === "shown" ? "" : picture;
  $("photo-text").hidden = card.photo && !why;
  $("photo-text").textContent = !card.photo ? d.photo.no_photo : why ? d.photo[why] || d.photo.trouble(why) : "";
}

// forget takes the card from the screen and from memory.
function forget() {
  card = null;
  shown = false;
  picture = "";
  for (const id of ["fields", "warnings"]) $(id).replaceChildren();
  $("photo").width = $("photo").height = 0;
}

const events = {
  reader(e) {
    reader = e;
    trouble = e.trouble || null;
  },
  card(e) {
    forget();
    card = e;
    trouble = null;
    notice = "";
  },
  addresses(e) {
    if (card) {
      card.new_addresses = e.new_addresses;
      card.warnings = [...card.warnings, ...(e.warnings || [])];
    }
  },
  removed() {
    forget();
    trouble = null;
  },
};

function open() {
  link = "opening";
  stop();
  stop = follow(api + "/stream?claim=1", token, {
    event(name, data) {
      events[name]?.(data);
      show();
    },
    open() {
      link = "open";
      notice = "";
      show();
    },
    lost() {
      if (link === "open" || link === "opening") link = "lost";
      forget(); // the gateway has forgotten it, too
      show();
    },
    refused(status, code) {
      forget();
      if (status === 401 || status === 403) {
        unpair();
        return false;
      }
      link = { 409: "claimed", 404: "nowhere" }[status] || (code === "store" ? "store" : "lost");
      show();
      return link === "store" || link === "lost";
    },
  });
  show();
}

function unpair() {
  localStorage.removeItem(tokenKey);
  token = null;
  link = "unpaired";
  notice = "revoked";
  show();
}

// ask calls the gateway and gives its answer, or what it refused with.
async function ask(path, options = {}) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = "Bearer " + token;
  try {
    const answer = await fetch(path, { cache: "no-store", headers, ...options });
    return answer.ok ? { answer } : { code: (await answer.json()).code };
  } catch {
    return { code: "unreachable" };
  }
}

$("pairing").addEventListener("submit", async (e) => {
  e.preventDefault();
  const body = JSON.stringify({ code: $("code").value, workstation: $("workstation").value.trim() });
  const { answer, code } = await ask("/v1/pair", { method: "POST", body });
  elsewhere = "";
  if (!answer) {
    notice = code in t().desk.notice ? code : "trouble";
    show();
    if (code === "code") $("code").value = "";
    $("code").focus();
    return;
  }
  const pairing = await answer.json();
  $("code").value = "";
  for (const w of pairing.windows) localStorage.setItem("hallagent.token." + w, pairing.token);
  if (!pairing.windows.includes(place)) {
    elsewhere = pairing.windows[0];
    notice = "elsewhere";
    show();
    return;
  }
  token = pairing.token;
  notice = "";
  open();
});

$("retry").addEventListener("click", open);

$("show").addEventListener("click", () => {
  shown = !shown;
  show();
});

$("photo-button").addEventListener("click", async () => {
  const of = card;
  picture = "asking";
  show();
  const { answer, code } = await ask(api + "/photo");
  const image = answer?.headers.get("Content-Type") === "image/png" ? await createImageBitmap(await answer.blob()).catch(() => null) : null;
  if (card !== of) return; // it was lifted meanwhile
  if (image) {
    $("photo").width = image.width;
    $("photo").height = image.height;
    $("photo").getContext("2d").drawImage(image, 0, 0);
    picture = "shown";
  } else {
    picture = answer ? (answer.headers.get("Content-Type") === "image/png" ? "photo_bad_picture" : "undecoded") : code;
  }
  show();
});

// The card itself comes over the stream.
$("again").addEventListener("click", async () => {
  reading = true;
  notice = "";
  show();
  const body = JSON.stringify({ purpose: "window", notice: "window page", within: "5s", again: true });
  const { code } = await ask(api + "/reads", { method: "POST", body });
  reading = false;
  if (code) notice = code in t().desk.notice ? code : "trouble";
  show();
});

// A page that the browser keeps for the way back keeps no card.
addEventListener("pagehide", () => {
  stop();
  forget();
});
addEventListener("pageshow", (e) => {
  if (e.persisted) location.reload();
});

if (!token) link = "unpaired";
speak(show);
if (token) open();
ask("/v1/hall").then(async ({ answer }) => {
  hall = answer ? await answer.json() : null;
  show();
});
