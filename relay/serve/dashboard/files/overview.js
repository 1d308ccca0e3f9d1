// Everything at a glance: figures that move, rates over time, the log window, the processes.

import { get } from "/dash/api.js";
import { ago, badge, bars, bytes, facts, h, moment, number, panel, rate, short, span, table, title } from "/dash/view.js";
import { lineChart } from "/dash/charts.js";

const RANGES = [[1, "1 h"], [6, "6 h"], [24, "24 h"], [72, "3 d"]];
const EVERY_SECONDS = 30;

function tile(name, value, under) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value), h("dd", {}, under));
}

function tiles(now) {
  const { hosts, window: log, consumers } = now;
  const depth = log.floorTime ? (Date.parse(log.tipTime) - Date.parse(log.floorTime)) / 1000 : null;
  const lag = consumers.lagSecondsMax;
  return [
    tile("Events", `${rate(now.eventsPerSecond)}/s`, `${short(now.accepted)} accepted`),
    tile("Drops", `${rate(now.dropsPerSecond)}/s`, `${short(Object.values(now.dropped).reduce((a, b) => a + b, 0))} in all`),
    tile("Hosts connected", number(hosts.connected), `of ${number(hosts.total)}`),
    tile("Accounts", short(now.accounts), "on those hosts"),
    tile("Consumers", number(consumers.count), lag === null ? "nobody waits" : `furthest behind ${span(lag)}`),
    tile("Newest event", log.tipTime ? ago(log.tipTime) : "none yet", `seq ${log.tipSeq}`),
    tile("Window", depth === null ? "empty" : span(depth), `${short(log.events)} events`),
    tile("Disk free", bytes(now.diskFreeBytes), "at data_dir"),
  ];
}

function workers(list) {
  return table("Workers", [
    { head: "Worker", cell: (each) => `${each.role}-${each.worker}` },
    { head: "State", cell: (each) => badge(each.up ? "up" : each.failing ? "failing" : "down", each.up ? "good" : "bad") },
    { head: "Pid", cell: (each) => each.pid, class: "n" },
    { head: "Restarts", cell: (each) => number(each.restarts), class: "n" },
    { head: "Last exit", cell: (each) => each.last_exit || null, class: "name" },
  ], list, { empty: "No supervisor answers." });
}

function logFacts(log) {
  return facts([
    ["Newest seq", log.tipSeq],
    ["appended", moment(log.tipTime)],
    ["Oldest seq", log.floorSeq],
    ["appended", moment(log.floorTime)],
    ["Events held", number(log.events)],
    ["Raises of seq", log.raises.length ? log.raises.map((each) => `${each.beforeSeq} → ${each.afterSeq}`).join(", ") : null],
  ]);
}

function statuses(counts) {
  return h("div", { class: "actions" }, Object.entries(counts).filter(([, count]) => count).map(([name, count]) => h("a", { href: `#/hosts/${name}`, class: "tight" }, badge(`${number(count)} ${name}`, { active: "good", idle: "warn", throttled: "warn" }[name] ?? "bad"))));
}

function eventChart(history) {
  return lineChart({
    label: `Events a second over ${history.hours} hours`,
    times: history.events.map((each) => Date.parse(each.time)),
    series: [{ name: "events", values: history.events.map((each) => each.perSecond) }],
    note: "The log holds too little yet to draw.",
  });
}

function dropChart(history) {
  const totals = {};
  for (const sample of history.drops) for (const [name, value] of Object.entries(sample.reasons)) totals[name] = (totals[name] ?? 0) + value;
  const names = Object.keys(totals).sort((a, b) => totals[b] - totals[a]);
  const series = names.slice(0, 5).map((name) => ({ name, values: history.drops.map((each) => each.reasons[name] ?? 0) }));
  if (names.length > 5) series.push({ name: "others", values: history.drops.map((each) => names.slice(5).reduce((sum, name) => sum + (each.reasons[name] ?? 0), 0)) });
  return lineChart({
    label: "Drops a second by reason, last hour at most",
    first: 2,
    legend: true,
    times: names.length ? history.drops.map((each) => Date.parse(each.time)) : [],
    series,
    note: "Nothing was dropped since this worker started.",
  });
}

export async function overview(place, _argument, latest) {
  let hours = 1;
  const [now, history] = await Promise.all([latest ?? get("/admin/overview"), get("/admin/history", { hours })]);
  const figures = h("dl", { class: "tiles", "aria-label": "Present figures" });
  const eventPlace = h("div", {}), dropPlace = h("div", {});
  const crew = h("div", { class: "bare" }), said = h("div", { class: "bare", role: "status" });
  const log = h("div", {}), dropped = h("div", {}), states = h("div", {});
  const ranges = h("fieldset", { class: "chips" }, h("legend", {}, "Range of the chart of events"), RANGES.map(([value, text]) => h("label", {}, h("input", { type: "radio", name: "hours", value, checked: value === hours, onchange: () => { hours = value; draw(); } }), h("span", {}, text))));

  function fill(figuresNow) {
    figures.replaceChildren(...tiles(figuresNow));
    log.replaceChildren(logFacts(figuresNow.window));
    dropped.replaceChildren(bars(figuresNow.dropped));
    said.replaceChildren(...figuresNow.ready.reasons.map((text) => h("p", { class: "warning bad" }, `Not ready: ${text}`)), ...figuresNow.ready.warnings.map((text) => h("p", { class: "warning" }, text)));
    states.replaceChildren(statuses(figuresNow.hosts.statuses));
    if (!crew.contains(document.activeElement)) crew.replaceChildren(workers(figuresNow.workers));
  }
  async function draw(made) {
    const found = made ?? (await get("/admin/history", { hours }).catch(() => null));
    if (!found || found.hours !== hours) return;
    if (!eventPlace.contains(document.activeElement)) eventPlace.replaceChildren(eventChart(found));
    if (!dropPlace.contains(document.activeElement)) dropPlace.replaceChildren(dropChart(found));
  }
  fill(now);
  place.append(
    title("Overview", { mark: states }),
    said,
    figures,
    h("div", { class: "columns" }, panel("Events a second", { end: ranges }, eventPlace), panel("Drops a second, by reason", { end: "last hour" }, dropPlace)),
    h("div", { class: "columns" }, panel("Log window", log), panel("Drops since each host was first seen", dropped)),
    panel("Workers", { end: `version ${now.version}` }, crew),
  );
  await draw(history);
  const timer = setInterval(draw, EVERY_SECONDS * 1000);
  return { live: fill, close: () => clearInterval(timer) };
}
