// @ts-check
/** Lines over time. */

import { element, shape } from "./dom.js";
import { milliseconds, rate } from "./format.js";

const HEIGHT = 150;
const MARGIN = { left: 4, right: 4, top: 8, bottom: 18 };

/**
 * The charts of a model's history.
 * @param {any} load
 * @param {number} width the pixels that a chart has
 */
export function renderCharts(load, width) {
  const points = load.history;
  if (points.length < 2) return [element("p", { class: "empty", text: "Waiting for figures …" })];
  return [
    chart("mean latency in the server", points.map((point) => point.milliseconds), points, milliseconds, "latency-line", width),
    chart("requests", points.map((point) => point.requests_per_second), points, rate, "rate-line", width),
  ];
}

function chart(title, values, points, format, kind, width) {
  const known = values.filter((value) => value !== null);
  const most = niceLimit(Math.max(...known, 1e-9));
  const span = Math.max(60, points.at(-1).time - points[0].time);
  const end = points.at(-1).time;
  const x = (time) => width - MARGIN.right - ((end - time) / span) * (width - MARGIN.left - MARGIN.right);
  const y = (value) => HEIGHT - MARGIN.bottom - (value / most) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const last = [...known].at(-1);
  const summary = known.length ? `now ${format(values.at(-1))}, highest ${format(Math.max(...known))}` : "no requests";
  const node = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, class: `chart ${kind}`, role: "img", "aria-label": `${title} over the last ${Math.round(span)} seconds: ${summary}` });
  for (const share of [0, 0.5, 1]) {
    node.append(shape("line", { x1: 0, x2: width, y1: y(most * share), y2: y(most * share), class: "grid" }));
  }
  for (const share of [0.5, 1]) {
    node.append(shape("text", { x: 4, y: y(most * share) + 11, class: "tick", text: format(most * share) }));
  }
  node.append(shape("text", { x: 4, y: HEIGHT - 5, class: "tick", text: `${Math.round(span)} s ago` }));
  node.append(shape("text", { x: width - 4, y: HEIGHT - 5, class: "tick end", text: "now" }));
  for (const run of splitRuns(values)) {
    const path = run.map(([index, value], place) => `${place ? "L" : "M"}${x(points[index].time).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    if (run.length > 1) {
      const base = y(0).toFixed(1);
      node.append(shape("path", { d: `${path}L${x(points[run.at(-1)[0]].time).toFixed(1)} ${base}L${x(points[run[0][0]].time).toFixed(1)} ${base}Z`, class: "area" }));
      node.append(shape("path", { d: path, class: "line" }));
    } else {
      node.append(shape("circle", { cx: x(points[run[0][0]].time), cy: y(run[0][1]), r: 3, class: "dot" }));
    }
  }
  return element("figure", { class: "chart" }, element("figcaption", {}, element("strong", { text: title }), element("span", { class: "muted", text: last === undefined ? "no requests" : summary })), node);
}

/** The runs of values that follow one another without a gap. */
function splitRuns(values) {
  /** @type {[number, number][][]} */
  const runs = [];
  values.forEach((value, index) => {
    if (value === null) return;
    const run = runs.at(-1);
    if (run && run.at(-1)?.[0] === index - 1) run.push([index, value]);
    else runs.push([[index, value]]);
  });
  return runs;
}

/** The next number of 1, 2 or 5 times a power of ten. */
function niceLimit(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((limit) => limit >= value) ?? value;
}
