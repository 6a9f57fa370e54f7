// @ts-check
/** A tensor as a figure: pictures as pictures, vectors as bars, text as text, otherwise statistics and values. */

import { element, shape } from "./dom.js";
import { number, size, source } from "./format.js";

/**
 * The figure of a tensor, with its name, type and statistics.
 * @param {string} name
 * @param {any} view
 */
export function renderTensor(name, view) {
  const shown = element("div", { class: "shown" }, ...renderForm(name, view).filter(Boolean));
  return element(
    "figure",
    { class: `tensor ${view.form}`, tabindex: "-1", "data-tensor": name },
    element(
      "figcaption",
      {},
      element("strong", { text: plainName(name) }),
      element("code", { text: `${view.datatype} [${view.shape.join(", ")}]` }),
      element("span", { class: "muted", text: size(view.bytes) }),
    ),
    shown,
    renderDetails(view),
  );
}

/**
 * A small picture of a tensor for its place in the graph.
 * @param {any} view
 */
export function renderThumbnail(view) {
  if (view.images?.length) return picture(view.images[0], "", view.form === "image");
  if (view.form === "scores") {
    const top = view.rows[0].slice(0, 4);
    const scale = Math.max(...top.map((bar) => magnitude(bar.value)), 1e-12);
    return element(
      "span",
      { class: "mini" },
      ...top.map((bar) => {
        const line = element("i", {});
        line.style.setProperty("--share", `${(100 * magnitude(bar.value)) / scale}%`);
        return element("span", {}, element("b", { text: bar.label || `[${bar.index}]` }), line);
      }),
    );
  }
  if (view.form === "text") return element("span", { class: "mini text", text: view.texts.filter(Boolean).slice(0, 3).join(", ") || "“”" });
  if (view.histogram) return histogram(view.histogram, 120, 40);
  return element("span", { class: "mini text", text: view.values.slice(0, 6).join(", ") });
}

/** @param {string} name */
export function plainName(name) {
  return name.replace(/^(input|output|call):/, "");
}

function renderForm(name, view) {
  if (view.form === "image" || view.form === "picture") {
    const scale = view.scale ? `black is ${number(view.scale[0])}, white is ${number(view.scale[1])}` : "";
    return [
      element("div", { class: "pictures" }, ...view.images.map((image) => {
        const label = view.form === "image" ? `encoded image ${plainName(name)}` : `tensor ${plainName(name)} as a picture`;
        return picture(image, label, view.form === "image");
      })),
      scale ? element("p", { class: "muted small", text: `${view.images[0].width} × ${view.images[0].height}; ${scale}` }) : null,
    ];
  }
  if (view.form === "scores") {
    return view.rows.flatMap((row, index) => [view.rows.length > 1 ? element("p", { class: "muted small", text: `entry ${index} of the batch` }) : null, bars(row, view)]);
  }
  if (view.form === "text") {
    const last = view.texts.findLastIndex(Boolean) + 1;
    const total = view.shape.reduce((product, length) => product * length, 1);
    const rest = last ? total - last : total;
    const note = rest > 0 ? element("p", { class: "muted small", text: last === view.texts.length ? `and ${rest} more` : `${rest === total ? "all" : "the other"} ${rest} are empty` }) : null;
    return [element("ul", { class: "texts" }, ...view.texts.slice(0, last).map((text) => element("li", { text: text || "“”" }))), note];
  }
  if (view.shape.includes(0)) return [element("p", { class: "muted", text: "no elements" })];
  if (view.histogram) {
    const { low, high } = view.histogram;
    return [
      histogram(view.histogram, 320, 64),
      element("p", { class: "axis muted small" }, element("span", { text: number(low) }), element("span", { text: number(high) })),
    ];
  }
  const total = view.shape.reduce((product, length) => product * length, 1);
  if (view.statistics && total > 1 && view.statistics.minimum !== null && view.statistics.minimum === view.statistics.maximum) {
    return [element("p", { text: `all ${total} values are ${number(view.statistics.minimum)}` })];
  }
  return [element("p", { class: "values" }, element("code", { text: view.values.join(", ") }))];
}

function picture(image, label, isEncoded) {
  const node = element("img", { src: source(image), alt: label, loading: "lazy", class: isEncoded ? "encoded" : "pixels" });
  node.addEventListener("load", () => node.classList.toggle("enlarged", node.naturalWidth <= 64));
  node.addEventListener("error", () => {
    node.replaceWith(element("span", { class: "broken", text: "not decodable" }));
  });
  return node;
}

function bars(row, view) {
  const largest = Math.max(...row.map((bar) => magnitude(bar.value)), 1e-12);
  const list = element("ol", { class: "bars", "aria-label": `the ${row.length} best of ${view.classes} classes` });
  for (const bar of row) {
    const track = element("i", { "aria-hidden": "true" });
    track.style.setProperty("--share", `${(100 * magnitude(bar.value)) / (view.is_probability ? 1 : largest)}%`);
    const value = view.is_probability && typeof bar.value === "number" ? `${(100 * bar.value).toFixed(bar.value > 0.0995 ? 1 : 2)} %` : number(bar.value);
    list.append(element("li", {}, element("span", { class: "label", title: bar.label || null, text: bar.label || `[${bar.index}]` }), track, element("span", { class: "value", text: value })));
  }
  return list;
}

function magnitude(value) {
  return typeof value === "number" ? Math.abs(value) : 0;
}

function histogram(data, width, height) {
  const most = Math.max(...data.counts, 1);
  const step = width / data.counts.length;
  const node = shape("svg", { viewBox: `0 0 ${width} ${height}`, class: "histogram", role: "img", "aria-label": `distribution of the values from ${number(data.low)} to ${number(data.high)}`, preserveAspectRatio: "none" });
  data.counts.forEach((count, index) => {
    const tall = count ? Math.max(1.5, (Math.sqrt(count / most)) * (height - 2)) : 0;
    node.append(shape("rect", { x: index * step + 0.5, y: height - tall, width: Math.max(step - 1, 0.5), height: tall }));
  });
  return node;
}

function renderDetails(view) {
  const statistics = view.statistics;
  const lines = [];
  if (statistics && statistics.minimum !== null) {
    lines.push(`from ${number(statistics.minimum)} to ${number(statistics.maximum)}, mean ${number(statistics.mean)} ± ${number(statistics.deviation)}`);
    if (statistics.not_finite) lines.push(`${statistics.not_finite} values are not finite`);
  }
  const total = view.shape.reduce((product, length) => product * length, 1);
  const values = view.form === "text" ? null : element("p", { class: "values" }, element("code", { text: `${view.values.join(", ")}${total > view.values.length ? ", …" : ""}` }));
  if (!lines.length && !values) return null;
  return element(
    "details",
    {},
    element("summary", { text: "values" }),
    ...lines.map((line) => element("p", { class: "small", text: line })),
    values,
  );
}
