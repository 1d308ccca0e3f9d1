// What the operator decided: bans of domains and hosts, the public requestCrawl; and the record of every decision.

import { get, post } from "/dash/api.js";
import { action, ago, attempt, badge, h, hostname, moment, number, panel, sure, table, title } from "/dash/view.js";

const ENTRIES_PER_PAGE = 50;

function crawling(enabled, limit) {
  const box = h("input", { type: "checkbox", checked: enabled, onchange: toggle });
  const day = h("input", { type: "number", min: 0, value: limit, inputmode: "numeric", required: true });
  async function toggle() {
    const done = box.checked ? "Hosts may ask to be read." : "Requests of unknown hosts are refused.";
    if (!(await attempt(() => post("/admin/subs/setEnabled", undefined, { enabled: box.checked }), done))) box.checked = !box.checked;
  }
  async function save(event) {
    event.preventDefault();
    await attempt(() => post("/admin/subs/setPerDayLimit", undefined, { limit: day.value }), "Saved.");
  }
  return [
    h("label", { class: "row" }, box, "Hosts may ask to be read by requestCrawl"),
    h("form", { class: "line", onsubmit: save }, h("label", {}, "New hosts a day", day), h("button", { class: "quiet" }, "Save")),
  ];
}

export async function policy(place) {
  const domains = h("div", { class: "bare" }), hosts = h("div", { class: "bare" });
  const input = h("input", { required: true, placeholder: "example.com", autocapitalize: "none", spellcheck: "false" });

  async function unban(domain) {
    if (!(await sure(`Lift the ban of ${domain}?`, "The hosts that it banned are read again.", "Lift ban"))) return;
    if (await attempt(() => post("/admin/subs/unbanDomain", { Domain: domain }), `${domain} is free again.`)) load();
  }
  async function ban(event) {
    event.preventDefault();
    const domain = input.value.trim();
    if (!(await sure(`Ban ${domain} and everything below it?`, "Known hosts under it are disconnected at once; none can ask to be read.", "Ban domain"))) return;
    if (await attempt(() => post("/admin/subs/banDomain", { Domain: domain }), `${domain} is banned.`)) { input.value = ""; load(); }
  }
  async function unblock(hostname) {
    if (await attempt(() => post("/admin/pds/unblock", undefined, { host: hostname }), `${hostname} is read again.`)) load();
  }
  async function load() {
    const [bans, banned] = await Promise.all([get("/admin/subs/listDomainBans"), get("/admin/hosts", { status: "banned", limit: 1000 })]);
    domains.replaceChildren(table("Banned domains", [
      { head: "Domain", cell: (row) => row.domain, class: "name" },
      { head: "Since", cell: (row) => moment(row.since), class: "labelled" },
      { head: "Hosts banned with it", cell: (row) => number(row.hosts), class: "n" },
      { head: "", cell: (row) => action("Lift ban", () => unban(row.domain), "quiet small"), class: "n" },
    ], bans.bans, { empty: "No domain is banned." }));
    hosts.replaceChildren(table("Banned hosts", [
      { head: "Host", cell: (row) => h("a", { href: `#/host/${row.hostname}` }, hostname(row.hostname)), class: "name" },
      { head: "Since", cell: (row) => moment(row.since), class: "labelled" },
      { head: "", cell: (row) => action("Lift ban", () => unblock(row.hostname), "quiet small"), class: "n" },
    ], banned.hosts, { empty: "No host is banned." }));
  }
  const [{ enabled }, { limit }] = await Promise.all([get("/admin/subs/getEnabled"), get("/admin/subs/perDayLimit")]);
  place.append(
    title("Bans and admission"),
    h("div", { class: "columns" },
      panel("Banned domains", h("form", { class: "line", onsubmit: ban }, h("label", { class: "grow" }, "Domain, with all hosts below it", input), h("button", { class: "danger" }, "Ban")), domains),
      panel("Banned hosts", hosts)),
    panel("Requests to be read", crawling(enabled, limit)),
  );
  await load();
}

export async function audit(place) {
  const list = h("div", { class: "bare" }), more = h("div", { class: "pager" });
  let entries = [];
  async function load() {
    const page = await get("/admin/audit", { before: entries.at(-1)?.number, limit: ENTRIES_PER_PAGE });
    entries = [...entries, ...page.entries];
    list.replaceChildren(table("Audit log", [
      { head: "When", cell: (row) => ago(row.time), class: "tight" },
      { head: "Action", cell: (row) => h("span", { class: "mono" }, row.action) },
      { head: "With", cell: (row) => (row.detail ? h("span", { class: "mono" }, row.detail) : null), class: "name" },
      { head: "Answer", cell: (row) => [badge(row.status, row.status < 400 ? "good" : "bad"), row.error ? h("div", { class: "soft" }, row.error) : null] },
      { head: "From", cell: (row) => [row.address, h("div", { class: "soft" }, row.via === "dashboard" ? "dashboard" : "API")], class: "from" },
    ], entries, { empty: "No operator has changed anything yet." }));
    more.replaceChildren(page.entries.length === ENTRIES_PER_PAGE ? action("Older", () => attempt(load)) : "");
    return page.kept;
  }
  const kept = await load();
  place.append(title("Audit log", { under: `Every change an operator asked for. The last ${number(kept)} are kept.` }), panel(null, list), more);
}
