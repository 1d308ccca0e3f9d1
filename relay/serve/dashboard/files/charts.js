// Lines over time as SVG. A chart can be read with a pointer, with the arrow keys, and as a table by who sees neither.

import { h, rate } from "/dash/view.js";

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 640, HEIGHT = 210, LEFT = 46, BOTTOM = 22, TOP = 10, RIGHT = 8;

function s(tag, attributes, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value);
}

const tick = (value) => new Intl.NumberFormat("en", { maximumFractionDigits: 2 }).format(value);

function clock(time, range) {
  const date = new Date(time);
  const seconds = range < 600e3 ? { second: "2-digit" } : {};
  const hour = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false, ...seconds });
  return range > 20 * 3600e3 ? `${date.toLocaleDateString([], { month: "short", day: "numeric" })} ${hour}` : hour;
}

// series: [{ name, values }], as long as `times`; the n-th has the n-th colour from `first` on. `note` replaces a chart without points.
export function lineChart({ label, times, series, note, first = 1, legend = false }) {
  const figure = h("figure", {});
  if (times.length < 2) {
    figure.append(h("p", { class: "empty" }, note));
    return figure;
  }
  const from = times[0], to = times[times.length - 1], range = to - from;
  const top = ceiling(Math.max(...series.flatMap((each) => each.values), 0));
  const svg = s("svg", { class: "chart", role: "img", tabindex: "0", "aria-label": `${label}. Arrow keys read single values.` });
  const x = (time, width) => LEFT + ((time - from) / (to - from)) * (width - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
  const tip = h("div", { class: "tip", hidden: true, "aria-live": "polite" });
  const cross = s("g", { visibility: "hidden" });
  const colour = (at) => ((at + first - 1) % 6) + 1;
  let width = WIDTH;

  function draw() {
    width = svg.clientWidth || WIDTH;
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.replaceChildren();
    for (const part of [0, 0.5, 1]) {
      const at = y(top * part);
      svg.append(s("line", { class: part ? "rule" : "base", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
      svg.append(s("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, tick(top * part)));
    }
    const marks = width > 480 ? 5 : 3;
    for (let mark = 0; mark < marks; mark += 1) {
      const time = from + ((to - from) * mark) / (marks - 1);
      const anchor = mark === 0 ? "start" : mark === marks - 1 ? "end" : "middle";
      svg.append(s("text", { x: x(time, width), y: HEIGHT - 5, "text-anchor": anchor }, clock(time, range)));
    }
    series.forEach((each, at) => {
      const points = times.map((time, index) => `${x(time, width).toFixed(1)},${y(each.values[index]).toFixed(1)}`);
      if (series.length === 1) svg.append(s("polygon", { class: `fill f${colour(at)}`, points: `${x(from, width)},${y(0)} ${points.join(" ")} ${x(to, width)},${y(0)}` }));
      svg.append(s("polyline", { class: `stroke s${colour(at)}`, points: points.join(" ") }));
    });
    svg.append(cross);
  }

  let chosen = null;
  function choose(index) {
    chosen = index;
    tip.hidden = index === null;
    cross.setAttribute("visibility", index === null ? "hidden" : "visible");
    if (index === null) return;
    const at = x(times[index], width);
    cross.replaceChildren(
      s("line", { class: "cross", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }),
      ...series.map((each, number) => s("circle", { class: `dot f${colour(number)}`, cx: at, cy: y(each.values[index]), r: 4 })));
    const lines = series.filter((each) => series.length === 1 || each.values[index] > 0).map((each) => h("div", {}, series.length > 1 ? `${each.name} ` : "", h("strong", {}, `${rate(each.values[index])}/s`)));
    tip.replaceChildren(h("div", { class: "soft" }, clock(times[index], range)), ...lines);
    const scale = svg.clientWidth / width;
    tip.style.left = `${Math.min(Math.max(0, at * scale + 12), Math.max(0, figure.clientWidth - tip.offsetWidth))}px`;
  }
  svg.addEventListener("pointermove", (event) => {
    const inside = event.clientX - svg.getBoundingClientRect().left;
    const time = from + ((inside - LEFT) / (width - LEFT - RIGHT)) * (to - from);
    let nearest = 0;
    times.forEach((each, index) => { if (Math.abs(each - time) < Math.abs(times[nearest] - time)) nearest = index; });
    choose(nearest);
  });
  svg.addEventListener("pointerleave", () => choose(null));
  svg.addEventListener("blur", () => choose(null));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(Math.min(times.length - 1, Math.max(0, (chosen ?? (step > 0 ? -1 : times.length)) + step)));
  });
  new ResizeObserver(() => { draw(); choose(null); }).observe(svg);
  draw();
  figure.append(svg, tip);
  if (legend) figure.append(h("ul", { class: "legend" }, series.map((each, at) => h("li", {}, h("span", { class: `key k${colour(at)}` }), each.name))));
  return figure;
}

export function sparkline(values, label, big = false) {
  const svg = s("svg", { class: `spark${big ? " big" : ""}`, viewBox: "0 0 100 22", preserveAspectRatio: "none", role: "img", "aria-label": label });
  const top = Math.max(...values, 0) || 1;
  const step = values.length > 1 ? 100 / (values.length - 1) : 0;
  const points = values.map((value, at) => `${(at * step).toFixed(1)},${(20.5 - (value / top) * 19).toFixed(1)}`);
  if (points.length > 1) {
    svg.append(s("polygon", { class: "fill f1", points: `0,21 ${points.join(" ")} 100,21` }));
    svg.append(s("polyline", { class: "stroke s1", points: points.join(" "), "vector-effect": "non-scaling-stroke" }));
  } else {
    svg.append(s("line", { class: "base", x1: 0, x2: 100, y1: 21, y2: 21 }));
  }
  return svg;
}
