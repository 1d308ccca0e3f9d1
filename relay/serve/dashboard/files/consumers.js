// Who reads the stream, on any serve worker, how far behind, and sending one away.

import { get, post } from "/dash/api.js";
import { action, ago, attempt, badge, h, number, panel, short, span, sure, table, title, bytes } from "/dash/view.js";

const EVERY_SECONDS = 5;

function lag(row) {
  if (row.lag_seconds === null) return "starting";
  if (row.lag_seconds === 0) return badge("at the tip", "good");
  return badge(span(row.lag_seconds), row.lag_seconds < 60 ? "warn" : "bad");
}

export async function consumers(place) {
  const list = h("div", { class: "bare" }), count = h("span", {});

  async function kick(row) {
    if (!(await sure(`Send ${row.remote_addr} away?`, `${row.user_agent || "It names no user agent"}. Its connection is closed; it may come back with its cursor.`, "Close connection"))) return;
    if (await attempt(() => post("/admin/consumers/kick", { id: row.id }), "The connection is being closed.")) setTimeout(load, 400);
  }
  async function load() {
    const rows = await attempt(() => get("/admin/consumers/list"));
    if (!Array.isArray(rows)) return;
    count.textContent = `${number(rows.length)} connected`;
    list.replaceChildren(table("Consumers", [
      { head: "Address", cell: (row) => [row.remote_addr, h("div", { class: "soft" }, row.user_agent || "no user agent")], class: "name" },
      { head: "Behind", cell: lag, class: "labelled" },
      { head: "Connected", cell: (row) => ago(row.connected_at), class: "n" },
      { head: "Events", cell: (row) => short(row.events_consumed), class: "n" },
      { head: "Sent", cell: (row) => bytes(row.bytes_sent), class: "n wide" },
      { head: "Position", cell: (row) => row.position, class: "n wide" },
      { head: "Worker", cell: (row) => row.worker, class: "n wide" },
      { head: "", cell: (row) => action("Kick", () => kick(row), "quiet small danger"), class: "n" },
    ], rows, { empty: "Nobody is subscribed." }));
  }
  place.append(title("Consumers", { mark: h("span", { class: "soft" }, count) }), panel(null, list));
  await load();
  const clock = setInterval(() => { if (!list.contains(document.activeElement)) load(); }, EVERY_SECONDS * 1000);
  return { close: () => clearInterval(clock) };
}
