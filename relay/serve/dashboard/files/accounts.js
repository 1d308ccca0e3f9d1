// One account by its DID: what consumers are told, why, and takedown. Without a DID, the accounts that are taken down.

import { get, post } from "/dash/api.js";
import { action, attempt, badge, dropTable, facts, h, moment, number, panel, sure, table, title } from "/dash/view.js";

function word(account) {
  if (account.active) return badge("active");
  return badge(account.status ?? "inactive");
}

function purge({ purged }) {
  if (purged.finished) return ["done ", moment(purged.finished), `, ${number(purged.frames)} events replaced`];
  return purged.segments ? `segment ${number(purged.segmentsDone)} of ${number(purged.segments)}` : "begins in a moment";
}

function told(account) {
  const upstream = account.upstreamStatus ?? (account.upstreamActive ? "active" : "inactive, no reason given");
  return facts([
    ["Consumers are told", account.active ? "active" : `not active${account.status ? `: ${account.status}` : ""}`],
    ["Its host says", upstream],
    ["This relay says", account.localStatus ?? "nothing of its own"],
    ["Taken down", account.takedown ? moment(account.takedown.since) : null],
    ["Purge of the window", account.takedown?.purge ? purge(account.takedown) : null],
    ["Host", account.hostname ? h("a", { href: `#/host/${account.hostname}` }, account.hostname) : null],
    ["PDS by its DID", account.identity ? (account.identity.tombstone ? "the DID is gone" : account.identity.pds ?? "names none") : "not resolved yet"],
    ["Resolved", account.identity ? moment(account.identity.fetched) : null],
    ["Rev", account.rev ? h("span", { class: "mono" }, account.rev) : "no commit was seen"],
    ["Commit", account.commit ? h("span", { class: "mono" }, account.commit) : null],
    ["Seq at its host", account.upstreamSeq || null],
  ]);
}

async function list() {
  const found = await get("/admin/repo/takedowns");
  return panel("Taken down here", { end: found.cursor ? "the first 500" : `${found.takedowns.length} in all` }, table("Accounts taken down", [
    { head: "Account", class: "did", cell: (row) => h("a", { href: `#/accounts/${row.did}` }, row.did) },
    { head: "Since", cell: (row) => moment(row.since), class: "labelled" },
    { head: "Purge", cell: (row) => (row.purge ? purge(row) : "not asked for"), class: "labelled" },
  ], found.takedowns, { empty: "No account is taken down." }));
}

export async function accounts(place, did) {
  const input = h("input", { name: "did", value: did, required: true, placeholder: "did:plc:…", autocapitalize: "none", spellcheck: "false" });
  const search = h("form", { class: "line", role: "search", onsubmit: (event) => { event.preventDefault(); location.hash = `#/accounts/${input.value.trim()}`; } }, h("label", { class: "grow" }, "DID of an account", input), h("button", {}, "Look up"));
  const body = h("div", { class: "bare" });
  place.append(title("Accounts"), panel(null, search), body);

  let later = null;
  async function load() {
    clearTimeout(later);
    let account;
    try {
      account = await get("/admin/account", { did });
    } catch (error) {
      if (error.status !== 401) body.replaceChildren(h("p", { class: "panel" }, error.status === 404 ? "No event of this account has passed here, so nothing is known of it." : error.message));
      return;
    }
    if (account.takedown?.purge && !account.takedown.purged.finished) later = setTimeout(load, 3000);
    const purging = h("input", { type: "checkbox" });
    async function takeDown() {
      if (!(await sure("Take this account down?", `${did} – its content stops at once and consumers are told. The takedown can be ended.`, "Take down"))) return;
      if (await attempt(() => post("/admin/repo/takeDown", { did, purge: purging.checked }), "The account is taken down.")) load();
    }
    async function restore() {
      if (await attempt(() => post("/admin/repo/reverseTakedown", { did }), "The takedown has ended.")) load();
    }
    async function purgeToo() {
      if (!(await sure("Replace its events?", `${did} – its events in the backfill window are replaced, under their seqs. That cannot be undone.`, "Replace events"))) return;
      if (await attempt(() => post("/admin/repo/takeDown", { did, purge: true }), "Its events are being replaced.")) load();
    }
    const canPurge = account.localStatus === "takendown" && !account.takedown?.purge;
    const lifted = account.localStatus
      ? [h("p", {}, `It is ${account.localStatus} on this relay.`), h("div", { class: "actions" }, action(account.localStatus === "throttled" ? "Let it in now" : "End the takedown", restore, ""), canPurge ? action("Replace its events in the window too", purgeToo, "quiet danger") : null)]
      : [h("label", { class: "row" }, purging, "Also replace its events in the backfill window"), h("div", { class: "actions" }, action("Take down", takeDown, "quiet danger"))];
    body.replaceChildren(
      h("section", { class: "panel" }, h("header", {}, h("h2", { class: "did" }, did), word(account)), told(account)),
      panel("Takedown", lifted),
      panel("Last drops", dropTable(account.lastDrops)),
    );
  }
  if (did) await load();
  else body.append(await list());
  return { close: () => clearTimeout(later) };
}
