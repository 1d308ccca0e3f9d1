// The frame of the dashboard: login, which page is shown, and the stream of live figures that pages listen to.

import { get, post, whenLoggedOut } from "/dash/api.js";
import { attempt, h } from "/dash/view.js";
import { overview } from "/dash/overview.js";
import { hosts } from "/dash/hosts.js";
import { host } from "/dash/host.js";
import { accounts } from "/dash/accounts.js";
import { consumers } from "/dash/consumers.js";
import { audit, policy } from "/dash/policy.js";

const PAGES = { "": overview, hosts, host, accounts, consumers, policy, audit };
const main = document.getElementById("main");
const live = document.getElementById("live");

let stream = null;
let shown = null; // { live(figures), close() } of the page on display
let latest = null;
let turn = 0;

function follow() {
  if (stream || document.hidden) return;
  stream = new EventSource("/admin/live");
  stream.onmessage = (event) => {
    latest = JSON.parse(event.data);
    live.className = "live on";
    live.textContent = "Live";
    document.getElementById("brand").textContent = location.hostname;
    shown?.live?.(latest);
  };
  stream.onerror = async () => {
    live.className = "live off";
    live.textContent = "Not connected";
    if (stream?.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    unfollow();
    const session = await get("/dash/session").catch(() => null);
    if (session && !session.valid) login(session);
    else setTimeout(follow, 5000);
  };
}

function unfollow() {
  stream?.close();
  stream = null;
}

async function show() {
  const mine = (turn += 1);
  const [name = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const page = PAGES[name] ?? overview;
  for (const link of document.querySelectorAll(".bar nav a")) {
    const target = link.getAttribute("href").replace(/^#\/?/, "");
    const current = target === name || (target === "hosts" && name === "host");
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  shown?.close?.();
  shown = null;
  const place = h("div", { class: "bare" });
  const made = await attempt(() => page(place, decodeURIComponent(rest.join("/")), latest));
  if (mine !== turn || !made) return;
  main.replaceChildren(place);
  shown = made === true ? {} : made;
  if (latest) shown.live?.(latest);
  window.scrollTo(0, 0);
  if (document.activeElement === document.body || document.activeElement?.closest("nav")) return;
  main.focus({ preventScroll: true });
}

function login(session) {
  unfollow();
  turn += 1;
  shown?.close?.();
  shown = null;
  document.title = "Log in – Relay";
  document.getElementById("bar").hidden = true;
  const wrong = h("p", { class: "wrong", role: "alert" });
  const password = h("input", { type: "password", name: "password", autocomplete: "current-password", required: true });
  const button = h("button", {}, "Log in");
  const form = h("form", { onsubmit: enter }, h("input", { type: "text", name: "username", value: "admin", autocomplete: "username", hidden: true, readonly: true }), h("label", {}, "Admin password", password), button, wrong);
  async function enter(event) {
    event.preventDefault();
    button.disabled = true;
    wrong.textContent = "";
    try {
      await post("/dash/login", { password: password.value });
      start();
    } catch (error) {
      wrong.textContent = error.status === 401 ? "That is not the password." : error.message;
      button.disabled = false;
      password.select();
    }
  }
  const brand = h("div", { class: "brand" }, h("img", { src: "/dash/icon.svg", alt: "", width: 28, height: 28 }), h("h1", {}, "Relay dashboard"));
  const off = h("p", {}, "The operator’s API is off because no password is configured. Set ", h("code", {}, "RELAY_ADMIN_PASSWORD"), " or ", h("code", {}, "RELAY_ADMIN_PASSWORD_FILE"), " and start the relay again.");
  main.replaceChildren(h("section", { class: "panel login" }, brand, session.enabled ? form : off));
  password.focus();
}

function start() {
  document.getElementById("bar").hidden = false;
  follow();
  show();
}

whenLoggedOut(() => login({ enabled: true }));
document.getElementById("logout").addEventListener("click", async () => {
  await attempt(() => post("/dash/logout"));
  login({ enabled: true });
});
window.addEventListener("hashchange", () => { if (!document.getElementById("bar").hidden) show(); });
document.addEventListener("visibilitychange", () => {
  if (document.getElementById("bar").hidden) return;
  if (document.hidden) unfollow();
  else follow();
});

const session = await attempt(() => get("/dash/session"));
if (session?.valid) start();
else login(session ?? { enabled: true });
