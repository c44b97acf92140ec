import { draw } from "./curve.js";
import { $, t, locale, speak } from "./language.js";

const life = 90_000; // a number that was not renewed for this long is out of date

let hall = null, occupancy = null, day = null, heard = 0, lost = false;
let ahead = 0; // of the gateway's clock, in ms: a phone may be wrong by minutes

const clockTime = (iso) => new Date(iso).toLocaleTimeString(locale(), { hour12: false });

function ago(iso) {
  if (!iso) return t().never;
  const s = Math.max(0, Math.round((Date.now() - ahead - new Date(iso)) / 1000));
  return s < 100 ? t().seconds(s) : t().minutes(Math.round(s / 60));
}

function cell(text, kind, note) {
  const td = document.createElement("td");
  if (kind) td.className = kind;
  td.textContent = text;
  if (note) {
    const small = document.createElement("small");
    small.textContent = note;
    td.append(small);
  }
  return td;
}

// state is told by a word and a shape; the colour only repeats it. What a code
// means may depend on the part it is about.
function state(name, code, detail, part) {
  if (lost) [name, code, detail] = ["unknown", "", ""]; // nobody is there to ask
  const good = name === "online" || name === "connected";
  const td = document.createElement("td");
  const span = document.createElement("span");
  span.className = "state" + (good ? "" : name === "disabled" || name === "unknown" || (name === "waiting" && !code) ? " off" : " bad");
  span.textContent = t().states[name] || name;
  td.append(span);
  const note = t().code[`${part}_${code}`] || t().code[code] || detail || code;
  if (note) {
    const small = document.createElement("small");
    small.textContent = note;
    td.append(small);
  }
  return td;
}

function rows(id, list) {
  $(id).replaceChildren(...list.map((cells) => {
    const tr = document.createElement("tr");
    tr.append(...cells);
    return tr;
  }));
}

// lastOf is the newest reading of a door. The estimate is sent when it moves; the
// counters are heard all the time.
function lastOf(door) {
  const heard = (hall?.counters || []).filter((c) => c.door === door.door && c.last).map((c) => c.last);
  return [door.last, ...heard].filter(Boolean).sort((a, b) => new Date(a) - new Date(b)).pop();
}

function showOccupancy() {
  if (!occupancy) return;
  const o = occupancy, old = Date.now() - heard > life, stale = lost || old;
  const known = o.people !== null && !old;
  $("occupancy").classList.toggle("stale", stale);
  $("people").textContent = known ? o.people : "–";
  $("unit").textContent = known ? t().people : "";
  $("level").textContent = stale ? t().stale : o.level ? t().level[o.level] : t().unknownPeople;
  $("range").textContent = known ? t().range(o.low, o.high, o.capacity) : "";
  const percent = (n) => Math.min(100, (100 * n) / (o.capacity * 1.2));
  $("gauge").hidden = !known;
  if (known) {
    $("gauge").setAttribute("aria-label", t().gauge(o.people, o.capacity));
    $("band").style.left = percent(o.low) + "%";
    $("band").style.width = percent(o.high) - percent(o.low) + "%";
    $("fill").style.left = `min(${percent(o.people)}%, 100% - 3px)`;
  }
  const why = o.reason ? t().reason[o.reason] || o.reason : "";
  if (!known && !stale) $("range").textContent = why; // why there is no number
  $("trust").textContent = [t().trust[o.trust], known ? why : "", t().updated(clockTime(heard))].filter(Boolean).join(" · ");
  $("day").textContent = t().day(o.in, o.out, o.day);
  rows("doors", o.doors.map((d) => [cell(d.door), cell(d.in, "number"), cell(d.out, "number"), cell(ago(lastOf(d))), doorState(d)]));
}

// doorState is whether a door is read, and what its passes show to be wrong.
function doorState(door) {
  const found = (occupancy.findings || []).find((f) => f.door === door.door);
  return found && door.state === "online" ? state("doubtful", found.code) : state(door.state);
}

// streamNote is what waits in an open stream, and what became of its store.
function streamNote(s) {
  return [
    s.stalled ? t().stalled(s.pending) : s.pending ? t().backlog(s.pending) : t().noBacklog,
    s.replaced && t().replaced, s.restored && t().restored, ...(s.damages || []).map((d) => t().aside(d.file, d.lost, d.open)),
  ].filter(Boolean).join(" · ");
}

function showDay() {
  if (day && hall) draw(day, hall.capacity, hall.levels);
}

function showHall() {
  document.body.classList.toggle("lost", lost); // what is shown is no longer news
  $("offline").hidden = !lost;
  $("offline").textContent = t().offline;
  if (!hall) return;
  const h = hall;
  document.title = h.name;
  $("name").textContent = h.name;
  $("hours").textContent = (h.open ? t().open : t().closed) + " · " + (h.hours ? t().hoursToday + h.hours : t().closedToday);
  $("about").textContent = t().about(h.version, t().clock[h.clock] || h.clock);
  rows("readers", h.readers.map((r) => [cell(r.window), cell(r.id, "name"), cell(r.scans, "number"), state(r.state, r.code, r.err)]));
  rows("devices", [
    ...h.lines.map((l) => [cell(l.id), cell(l.url.split("?")[0], "address"), state(l.state, l.code, l.err)]),
    ...h.readers.map((r) => [cell(r.id), cell(r.sam_id ? `SAM ${r.sam_id}` : r.kind, "address", r.baud && `${r.baud} baud`), state(r.state, r.code, r.err)]),
    ...h.counters.map((c) => [cell(c.id), cell(c.door, "address", c.kind), state(c.state === "online" && c.code ? "doubtful" : c.state, c.code, c.err, "counter")]),
    [cell(t().broker), cell(h.broker.url, "address"), state(h.broker.state, h.broker.code, h.broker.err, "broker")],
    ...h.streams.map((s) => [cell(t().visits), cell(s.epoch, "address"), state(s.open ? "online" : "store", s.code, s.open ? streamNote(s) : s.err, "store")]),
    ...h.listen.map((l) => [cell(t().listen), cell(l.address, "address"), state(l.state, l.code, l.err, "listen")]),
  ]);
}

function show() {
  showHall();
  showOccupancy();
  showDay();
}

async function refresh() {
  try {
    const answer = await fetch("/v1/hall");
    hall = await answer.json();
    ahead = Date.now() - new Date(hall.now);
    lost = false;
  } catch {
    lost = true;
  }
  show();
  setTimeout(refresh, 2000);
}

// The curve moves once in five minutes.
async function refreshDay() {
  try {
    const answer = await fetch("/v1/occupancy/day");
    day = answer.ok ? await answer.json() : { day: "", steps: [] };
    showDay();
  } catch {
    // The hall's state says that nobody is there.
  }
  setTimeout(refreshDay, 30_000);
}

// follow opens the live stream. The browser opens a broken one again by itself,
// but not one that was refused.
function follow() {
  const stream = new EventSource("/v1/occupancy/stream");
  stream.addEventListener("occupancy", (e) => {
    occupancy = JSON.parse(e.data);
    heard = Date.now();
    showOccupancy();
  });
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  });
}

speak(show);
addEventListener("resize", showDay);
refresh();
refreshDay();
follow();
