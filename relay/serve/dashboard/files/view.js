// Elements, words and numbers: what all pages are made of. Text is always set as text, never as markup.

import { prose, rule } from "/dash/prose.js";

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Numbers and times

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const number = (value) => (value === null || value === undefined ? "–" : whole.format(value));
export const short = (value) => (value >= 100000 ? compact.format(value) : whole.format(value));
export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 100) return whole.format(value);
  if (value === 0) return "0";
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) { value /= 1000; at += 1; }
  return `${value >= 100 || at === 0 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}
export function ago(time) {
  if (!time) return "never";
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  return h("time", { datetime: time, title: new Date(time).toLocaleString() }, seconds < 2 ? "now" : `${span(seconds)} ago`);
}
export const moment = (time) => (time ? h("time", { datetime: time, class: "tight" }, new Date(time).toLocaleString()) : "–");

// Parts of pages

const KINDS = { active: "good", idle: "warn", offline: "bad", throttled: "warn", banned: "bad", takendown: "bad", suspended: "warn", deleted: "" };
export const badge = (status, kind = KINDS[status] ?? "") => h("span", { class: `badge ${kind}` }, status);

export function title(text, { under, actions = [], mark } = {}) {
  document.title = `${text} – Relay`;
  return h("div", { class: "head" }, h("h1", {}, text), mark, actions.length ? h("div", { class: "actions" }, actions) : null, under ? h("p", { class: "under" }, under) : null);
}

export function panel(heading, ...children) {
  const end = children[0]?.end ? children.shift().end : null;
  return h("section", { class: "panel" }, heading ? h("header", {}, h("h2", {}, heading), end ? h("div", { class: "end soft" }, end) : null) : null, children);
}

export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, known.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

// A host's name, broken only where a reader would: after a dot.
export const hostname = (name) => h("span", { class: "host" }, name.split(/(?<=\.)/).flatMap((part, at) => (at ? [h("wbr"), part] : [part])));

// columns: [{ head, cell(row), class, sort }]; the first one is the row's own name. On a phone each row is a card.
export function table(label, columns, rows, { sort, onsort, empty = "Nothing here." } = {}) {
  const heads = columns.map((column) => {
    const direction = sort && column.sort === sort.by ? (sort.order === "desc" ? "descending" : "ascending") : null;
    const text = column.sort && onsort ? h("button", { type: "button", onclick: () => onsort(column.sort) }, column.head) : column.head;
    return h("th", { scope: "col", class: column.class, "aria-sort": direction }, text);
  });
  const body = rows.map((row) => h("tr", {}, columns.map((column, at) => {
    const value = column.cell(row) ?? null;
    const kind = [column.class, value === null ? "blank" : null].filter(Boolean).join(" ") || null;
    return h(at ? "td" : "th", { scope: at ? null : "row", class: kind, "data-head": column.head || null }, value ?? "–");
  })));
  return h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
    rows.length ? h("table", {}, h("caption", { hidden: true }, label), h("thead", {}, h("tr", {}, heads)), h("tbody", {}, body)) : h("p", { class: "empty" }, empty));
}

// Drops by reason, the commonest first.
export function bars(counts) {
  const sorted = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  if (!sorted.length) return h("p", { class: "soft" }, "Nothing was dropped.");
  const most = sorted[0][1];
  return h("dl", { class: "bars" }, sorted.map(([name, count]) => [
    h("dt", { class: "mono" }, name),
    h("dd", {}, h("meter", { min: 0, max: most, value: count, "aria-label": `${name}: ${count}` })),
    h("dd", { class: "n" }, number(count)),
  ]));
}

// Of a host with whose event it was; an account's own DID is on its page already.
export function dropTable(drops, ofHost = false) {
  const account = { head: "Account", cell: (row) => (row.did ? h("a", { href: `#/accounts/${row.did}` }, row.did) : null), class: "did" };
  return table("Last drops", [
    { head: "When", cell: (row) => ago(row.time), class: "tight" },
    { head: "Reason", cell: (row) => h("span", { class: "mono" }, row.reason) },
    { head: "Rule and detail", cell: (row) => [rule(row.rule), row.detail ? h("div", { class: "soft" }, prose(row.detail)) : null], class: "name" },
    ...(ofHost ? [account] : []),
  ], drops, { empty: "Nothing was dropped lately." });
}

// Talking to the operator

export function note(text, wrong = false) {
  const line = h("p", { class: wrong ? "wrong" : "" }, text);
  document.getElementById("notes").append(line);
  setTimeout(() => line.remove(), wrong ? 9000 : 4500);
}

export function sure(heading, text, yes) {
  const dialog = document.getElementById("ask");
  document.getElementById("ask-title").textContent = heading;
  document.getElementById("ask-text").textContent = text;
  document.getElementById("ask-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

// Do something, say that it was done or why not. `done` may be a text or nothing.
export async function attempt(act, done) {
  try {
    const answer = await act();
    if (done) note(done);
    return answer ?? true;
  } catch (error) {
    if (error.status !== 401) note(error.message, true);
    return null;
  }
}

export function action(text, act, kind = "quiet") {
  const button = h("button", { type: "button", class: kind }, text);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try { await act(); } finally { button.disabled = false; }
  });
  return button;
}
