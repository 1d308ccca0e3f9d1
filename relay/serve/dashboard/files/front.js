// Live figures and the look-up of the visitors' page, out of /window and /explain.

import { prose, rule } from "/prose.js";

const EVERY_SECONDS = 3;
const id = (name) => document.getElementById(name);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function span(seconds) {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

// The rate is that of the last half minute, so that it does not jump.
const seen = [];

// How many of the seqs after `from`, up to `to`, a raise skipped: those are no events.
function skipped(raises, from, to) {
  return raises.reduce((sum, { beforeSeq, afterSeq }) => sum + Math.max(0, Math.min(afterSeq - 1, to) - Math.max(beforeSeq, from)), 0);
}

async function look() {
  const answer = await fetch("/window").then((response) => (response.ok ? response.json() : null)).catch(() => null);
  if (!answer) return;
  const now = performance.now() / 1000;
  seen.push([now, answer.tipSeq]);
  while (seen.length > 10) seen.shift();
  const [began, first] = seen[0];
  id("tip").textContent = answer.tipSeq;
  if (seen.length > 1) {
    const rate = Math.max(0, answer.tipSeq - first - skipped(answer.raises, first, answer.tipSeq)) / (now - began);
    id("rate").textContent = rate >= 10 ? whole.format(rate) : rate.toFixed(1);
  }
  if (!answer.floorTime) return;
  const tip = Date.parse(answer.tipTime);
  id("newest").textContent = Date.now() - tip < 2000 ? "now" : `${span((Date.now() - tip) / 1000)} ago`;
  id("window").textContent = span((tip - Date.parse(answer.floorTime)) / 1000);
}

function words(value) {
  if (value === null || value === undefined || value === "") return null;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isSafeInteger(value) ? whole.format(value) : String(value);
  if (typeof value === "string") return /^\d{4}-\d\d-\d\dT/.test(value) ? new Date(value).toLocaleString() : value;
  if (Array.isArray(value)) return null;
  if (value.means) return [value.name, value.means].filter(Boolean).join(" – ");
  return Object.entries(value).map(([name, each]) => [title(name), words(each)]).filter(([, each]) => each !== null).map(([name, each]) => `${name.toLowerCase()}: ${each}`).join("; ") || null;
}

const title = (name) => name.replace(/([A-Z])/g, " $1").toLowerCase().replace(/^./, (letter) => letter.toUpperCase());

// The answer's `cursorLag` is two things to a reader: how old the last event is, and what the cursor means.
function readable({ cursorLag, ...answer }) {
  if (!cursorLag) return answer;
  const { cursor, ...rest } = answer;
  const heard = typeof cursorLag.secondsAgo === "number" ? `${span(cursorLag.secondsAgo)} ago` : "never";
  return { ...rest, lastEventReceived: heard, cursor: typeof cursor === "number" ? { name: words(cursor), means: cursorLag.means } : null };
}

function told(answer, name) {
  const facts = element("dl", { class: "facts" });
  for (const [key, value] of Object.entries(readable(answer))) {
    if (["hostname", "did", "summary", "lastDrops", "dropped"].includes(key)) continue;
    const text = words(value);
    if (text !== null) facts.append(element("dt", {}, title(key)), element("dd", {}, ...prose(text)));
  }
  const parts = [element("h3", {}, name), element("p", {}, ...prose(answer.summary ?? "")), facts];
  if (answer.dropped?.length) {
    const counts = answer.dropped.map((drop) => element("li", {}, element("code", {}, drop.reason), ` ${words(drop.count)} – `, ...rule(drop.means)));
    parts.push(element("h3", {}, "What was dropped, and by which rule"), element("ul", {}, ...counts));
  }
  if (answer.lastDrops?.length) {
    const drops = answer.lastDrops.map((drop) => element("li", {}, `${words(drop.time) ?? ""} `, element("code", {}, drop.reason), " – ", ...rule(drop.means), element("div", { class: "soft" }, ...prose(drop.detail ?? ""))));
    parts.push(element("h3", {}, "Last drops"), element("ul", {}, ...drops));
  }
  return parts;
}

async function find(event) {
  event.preventDefault();
  const what = id("what").value.trim();
  const path = what.startsWith("did:") ? `/explain/account?did=${encodeURIComponent(what)}` : `/explain/host?hostname=${encodeURIComponent(what)}`;
  id("found").replaceChildren(element("p", { class: "soft" }, "Looking…"));
  try {
    const response = await fetch(path);
    const answer = await response.json();
    if (response.ok) id("found").replaceChildren(...told(answer, what));
    else id("found").replaceChildren(element("p", {}, answer.message ?? "That cannot be looked up."));
  } catch {
    id("found").replaceChildren(element("p", { class: "wrong" }, "The relay does not answer."));
  }
}

const secure = location.protocol === "https:";
id("host").textContent = location.host;
id("subscribe").textContent = `${secure ? "wss" : "ws"}://${location.host}/xrpc/com.atproto.sync.subscribeRepos`;
id("crawl").textContent = id("crawl").textContent.replace("https://this-host", location.origin);
id("find").addEventListener("submit", find);
look();
setInterval(() => { if (!document.hidden) look(); }, EVERY_SECONDS * 1000);
