// All hosts: searched, sorted and paged by the relay, so that a page stays quick with any number of them.

import { get, post } from "/dash/api.js";
import { ago, attempt, badge, h, hostname, number, panel, rate, short, span, table, title } from "/dash/view.js";
import { sparkline } from "/dash/charts.js";

const PER_PAGE = 50;
const STATUSES = ["active", "idle", "offline", "throttled", "banned"];
const DESCENDING_FIRST = new Set(["rate", "accounts", "accepted", "dropped", "lastEvent", "behind", "firstSeen"]);
const EVERY_SECONDS = 10;

const state = { q: "", status: "", sort: "rate", order: "desc", offset: 0 };

function drops(row) {
  const sorted = Object.entries(row.dropped).sort((a, b) => b[1] - a[1]);
  const total = sorted.reduce((sum, [, count]) => sum + count, 0);
  if (!total) return "0";
  return h("span", { title: sorted.map(([name, count]) => `${name} ${number(count)}`).join("\n") }, short(total), h("div", { class: "soft mono" }, sorted[0][0]));
}

function columns() {
  return [
    { head: "Host", sort: "hostname", class: "name", cell: (row) => [h("a", { href: `#/host/${row.hostname}` }, hostname(row.hostname)), row.lastError ? h("div", { class: "soft" }, row.lastError) : null] },
    { head: "Status", sort: "status", cell: (row) => badge(row.status) },
    { head: "Events/s", sort: "rate", class: "n", cell: (row) => rate(row.ratePerSecond) },
    { head: "5 minutes", class: "wide", cell: (row) => sparkline(row.rates, `${row.hostname}: ${rate(row.ratePerSecond)} events a second`) },
    { head: "Accounts", sort: "accounts", class: "n", cell: (row) => [number(row.accounts), h("span", { class: row.accounts >= 0.8 * row.accountLimit ? "wrong" : "soft" }, ` / ${short(row.accountLimit)}`)] },
    { head: "Last event", sort: "lastEvent", class: "n", cell: (row) => ago(row.lastEvent) },
    { head: "Behind", sort: "behind", class: "n", cell: (row) => (row.catchingUpSeconds ? badge(span(row.catchingUpSeconds), "warn") : row.connected ? "no" : null) },
    { head: "Accepted", sort: "accepted", class: "n wide", cell: (row) => short(row.accepted) },
    { head: "Dropped", sort: "dropped", class: "n", cell: drops },
    { head: "First seen", sort: "firstSeen", class: "n wide", cell: (row) => ago(row.firstSeen) },
  ];
}

export async function hosts(place, status) {
  if (STATUSES.includes(status)) Object.assign(state, { status, offset: 0 });
  const list = h("div", { class: "bare" }), pager = h("div", { class: "pager" }), count = h("span", {});
  const search = h("input", { type: "search", value: state.q, placeholder: "part of a name", oninput: () => { state.q = search.value.trim(); state.offset = 0; later(); } });
  const chips = h("fieldset", { class: "chips" }, h("legend", {}, "Status"));
  const adding = h("input", { name: "hostname", required: true, placeholder: "pds.example.com", autocapitalize: "none", spellcheck: "false" });
  let timer = null, asked = 0;

  function later() {
    clearTimeout(timer);
    timer = setTimeout(load, 200);
  }
  function sortBy(by) {
    if (state.sort === by) state.order = state.order === "asc" ? "desc" : "asc";
    else Object.assign(state, { sort: by, order: DESCENDING_FIRST.has(by) ? "desc" : "asc" });
    state.offset = 0;
    load(by);
  }
  function chip(value, text) {
    return h("label", {}, h("input", { type: "radio", name: "status", value, checked: state.status === value, onchange: () => { state.status = value; state.offset = 0; load(); } }), h("span", {}, text));
  }
  function turn(by) {
    state.offset = Math.max(0, state.offset + by);
    load();
  }
  async function load(focused) {
    const mine = (asked += 1);
    const page = await attempt(() => get("/admin/hosts", { ...state, limit: PER_PAGE }));
    if (!page || mine !== asked) return;
    const sort = { by: state.sort, order: state.order };
    list.replaceChildren(table("Hosts", columns(), page.hosts, { sort, onsort: sortBy, empty: state.q || state.status ? "No host matches." : "No host is known yet." }));
    if (focused) list.querySelector("th[aria-sort] button")?.focus();
    if (!chips.contains(document.activeElement)) chips.replaceChildren(chips.firstChild, chip("", `all ${number(page.total)}`), ...STATUSES.map((name) => chip(name, `${name} ${number(page.statuses[name] ?? 0)}`)));
    count.textContent = `${number(page.matched)} of ${number(page.total)}`;
    const last = Math.min(state.offset + PER_PAGE, page.matched);
    pager.replaceChildren();
    if (page.matched > PER_PAGE) {
      pager.append(
        h("span", {}, `${number(state.offset + 1)}–${number(last)} of ${number(page.matched)}`),
        h("button", { type: "button", class: "quiet small", disabled: state.offset === 0, onclick: () => turn(-PER_PAGE) }, "Back"),
        h("button", { type: "button", class: "quiet small", disabled: last >= page.matched, onclick: () => turn(PER_PAGE) }, "More"),
      );
    }
  }
  async function add(event) {
    event.preventDefault();
    const hostname = adding.value.trim();
    if (await attempt(() => post("/admin/pds/requestCrawl", { hostname }), `${hostname} will be read.`)) {
      adding.value = "";
      load();
    }
  }

  place.append(
    title("Hosts"),
    panel(null, h("form", { class: "line", role: "search", onsubmit: (event) => event.preventDefault() }, h("label", { class: "grow" }, "Find a host", search)), chips, list),
    pager,
    panel("Read another host", h("form", { class: "line", onsubmit: add }, h("label", { class: "grow" }, "Name of a PDS", adding), h("button", {}, "Add"))),
  );
  await load();
  const clock = setInterval(() => { if (!list.contains(document.activeElement)) load(); }, EVERY_SECONDS * 1000);
  return { close: () => { clearInterval(clock); clearTimeout(timer); asked += 1; } };
}
