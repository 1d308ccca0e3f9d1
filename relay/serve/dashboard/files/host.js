// One host: how it is doing, its limits, its last drops, and everything an operator can do to it.

import { get, post } from "/dash/api.js";
import { action, ago, attempt, badge, bars, dropTable, facts, h, moment, number, panel, rate, short, span, sure, title } from "/dash/view.js";
import { sparkline } from "/dash/charts.js";

const EVERY_SECONDS = 10;

function told(host) {
  return facts([
    ["Status", [badge(host.status), " since ", ago(host.since)]],
    ["Last error", host.lastError || null],
    ["Domain ban", host.domainBan ? [host.domainBan, " – lift it under ", h("a", { href: "#/policy" }, "Bans")] : null],
    ["Accounts", `${number(host.accounts)} of ${number(host.accountLimit)}${host.throttledAccounts ? `, ${number(host.throttledAccounts)} waiting for room` : ""}`],
    ["Last event", ago(host.lastEvent)],
    ["Catching up", host.catchingUpSeconds ? `${span(host.catchingUpSeconds)} behind` : null],
    ["Possible gap", host.possibleGap ? [host.possibleGap, ", ", ago(host.possibleGapAt)] : null],
    ["First seen", moment(host.firstSeen)],
    ["Cursor", host.cursor === null ? "nothing was read yet" : String(host.cursor)],
    ["Earlier cursor", host.cursorBefore === null ? null : `${host.cursorBefore}, given up at restart ${host.epoch}`],
    ["Chains", host.mode || (host.proven ? "as configured; it sends proven commits" : "as configured")],
    ["Connection", `${host.connected ? "open" : "none at the moment"}, ${host.insecure ? "http without TLS" : "https"}`],
    ["Accepted", number(host.accepted)],
    ["Remarks", Object.entries(host.remarks).map(([name, count]) => `${name} ${number(count)}`).join(", ") || null],
  ]);
}

function limits(host, changed) {
  const field = (name, text, value, override) => h("label", {}, text, h("input", { name, type: "number", min: 0, inputmode: "numeric", value: override ?? "", placeholder: `${short(value)} by tier` }));
  const form = h("form", { class: "fields", onsubmit: save },
    field("account_limit", "Accounts", host.accountLimit, host.accountLimitOverride),
    field("per_second", "Events a second", host.limits.perSecond, host.rateOverrides.per_second),
    field("per_hour", "Events an hour", host.limits.perHour, host.rateOverrides.per_hour),
    field("per_day", "Events a day", host.limits.perDay, host.rateOverrides.per_day),
    h("label", {}, "Tier", h("select", { name: "tier" }, [["", "by its name"], ...host.tiers.map((name) => [name, name])].map(([value, text]) => h("option", { value, selected: host.tierOverride === value }, text)))),
    h("label", {}, "Chains are judged", h("select", { name: "mode" }, [["", "as configured"], ["strict", "strict"], ["ratchet", "ratchet"], ["lenient", "lenient"]].map(([value, text]) => h("option", { value, selected: host.mode === value }, text)))),
    h("div", { class: "actions" }, h("button", {}, "Save limits"), h("small", {}, `In tier ${host.tier} now. An empty field means the tier’s.`)));
  async function save(event) {
    event.preventDefault();
    const given = (name) => (form.elements[name].value === "" ? null : Number(form.elements[name].value));
    const rates = { per_second: given("per_second"), per_hour: given("per_hour"), per_day: given("per_day") };
    const body = { hostname: host.hostname, account_limit: given("account_limit"), rates, tier: form.elements.tier.value, mode: form.elements.mode.value };
    if (await attempt(() => post("/admin/hosts/change", body), "Limits saved.")) changed(true);
  }
  return form;
}

export async function host(place, hostname) {
  const read = () => get("/admin/host", { hostname });
  let now = await read();
  const head = h("div", { class: "bare" }), last = h("div", { class: "bare" });
  const body = h("div", {}), spark = h("div", {}), why = h("div", {}), form = h("div", {});

  async function ban() {
    if (!(await sure(`Ban ${hostname}?`, "Its connection ends at once and stays away after restarts, until the ban is lifted.", "Ban host"))) return;
    if (await attempt(() => post("/admin/pds/block", undefined, { host: hostname }), `${hostname} is banned.`)) load(true);
  }
  async function unban() {
    if (await attempt(() => post("/admin/pds/unblock", undefined, { host: hostname }), `${hostname} is read again.`)) load(true);
  }
  async function reconnect() {
    if (await attempt(() => post("/admin/hosts/reconnect", undefined, { hostname }), "A new connection is on its way.")) load();
  }
  async function reset() {
    if (!(await sure(`Read ${hostname} again?`, "Its whole window is read from the beginning. What passed before is recognised and not sent twice.", "Read again"))) return;
    if (await attempt(() => post("/admin/hosts/resetCursor", { hostname, cursor: null }), "Reading from the beginning of its window.")) load();
  }
  function fill(withForm) {
    const banned = now.status === "banned";
    const actions = banned ? [action("Lift ban", unban, "")] : [action("Reconnect", reconnect), action("Read window again", reset), action("Ban host", ban, "quiet danger")];
    if (withForm || !head.contains(document.activeElement)) head.replaceChildren(title(now.hostname, { mark: badge(now.status), actions }));
    body.replaceChildren(told(now));
    spark.replaceChildren(h("div", {}, h("strong", {}, rate(now.ratePerSecond)), " events a second"), sparkline(now.rates, "Events a second over the last five minutes", true));
    why.replaceChildren(bars(now.dropped));
    last.replaceChildren(dropTable(now.lastDrops, true));
    if (withForm) form.replaceChildren(limits(now, load));
  }
  async function load(withForm = false) {
    const found = await attempt(read);
    if (found) { now = found; fill(withForm); }
  }
  fill(true);
  place.append(
    h("p", {}, h("a", { href: "#/hosts" }, "← All hosts")),
    head,
    h("div", { class: "columns" }, panel("How it is doing", body), h("div", { class: "panel" }, h("header", {}, h("h2", {}, "Last five minutes")), spark, h("header", {}, h("h2", {}, "Drops by reason")), why)),
    panel("Limits", form),
    panel("Last drops", { end: "one a minute for each reason is kept" }, last),
  );
  const clock = setInterval(() => load(), EVERY_SECONDS * 1000);
  return { close: () => clearInterval(clock) };
}
