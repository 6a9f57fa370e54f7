// @ts-check
/** Boxes of a detector, drawn on the image. */

import { element, shape } from "./dom.js";
import { source } from "./format.js";

/** Boxes below this score are drawn thin, and not listed first. */
const STRONG = 0.5;

/**
 * The image with the boxes on it, and a list of them.
 * @param {any} detections
 * @param {any} image the view of an encoded image or a picture
 */
export function renderDetections(detections, image) {
  const figures = detections.images.slice(0, image?.images?.length ?? 0).map((boxes, index) => {
    const picture = element("img", { src: source(image.images[index]), alt: `${boxes.length} boxes on the image` });
    const layer = shape("svg", { class: "boxes", "aria-hidden": "true", preserveAspectRatio: "none" });
    const holder = element("div", { class: "boxed" }, picture, layer);
    picture.addEventListener("load", () => draw(layer, boxes, detections.is_normalised, picture.naturalWidth, picture.naturalHeight));
    return holder;
  });
  const first = detections.images[0] ?? [];
  const list = element("ol", { class: "bars", "aria-label": `${first.length} boxes` });
  for (const box of first.slice(0, 8)) {
    const track = element("i", { "aria-hidden": "true" });
    track.style.setProperty("--share", `${100 * Math.min(1, Math.max(0, box.score))}%`);
    list.append(element("li", {}, element("span", { class: "label", text: box.label || "box" }), track, element("span", { class: "value", text: box.score.toFixed(3) })));
  }
  const unit = detections.is_normalised ? "parts of the image" : "pixels";
  const more = first.length > 8 ? `the first 8 of ${first.length} boxes; ` : "";
  return element(
    "figure",
    { class: "tensor detections" },
    element("figcaption", {}, element("strong", { text: "boxes on the image" }), element("span", { class: "muted small", text: `${more}${detections.tensor} read as ${detections.order}, ${unit}` })),
    element("div", { class: "shown" }, ...figures, first.length ? list : element("p", { class: "empty", text: "No boxes." })),
  );
}

function draw(layer, boxes, isNormalised, width, height) {
  layer.setAttribute("viewBox", `0 0 ${width} ${height}`);
  layer.replaceChildren();
  const unit = Math.max(width, height) / 100;
  [...boxes].reverse().forEach((box) => {
    const [left, top, right, bottom] = box.corners.map((value, index) => (isNormalised ? value * (index % 2 ? height : width) : value));
    const hue = hueOf(box.label);
    const strong = box.score >= STRONG;
    const colour = `hsl(${hue} 90% 45%)`;
    layer.append(shape("rect", { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top), fill: "none", stroke: "#fff", "stroke-width": unit * (strong ? 1.1 : 0.5), "stroke-opacity": 0.8 }));
    layer.append(shape("rect", { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top), fill: "none", stroke: colour, "stroke-width": unit * (strong ? 0.7 : 0.3) }));
    if (!strong && boxes.length > 8) return;
    const text = `${box.label || "box"} ${Math.round(100 * box.score)} %`;
    const high = unit * 4.2;
    const y = Math.max(0, top - high);
    layer.append(shape("rect", { x: left, y, width: text.length * unit * 2 + unit, height: high, fill: `hsl(${hue} 90% 28%)` }));
    layer.append(shape("text", { x: left + unit * 0.6, y: y + high * 0.74, "font-size": unit * 3.2, fill: "#fff", "font-family": "ui-monospace, monospace", text }));
  });
}

/** @param {string} label */
function hueOf(label) {
  let hash = 7;
  for (const letter of label) hash = (hash * 31 + letter.charCodeAt(0)) % 360;
  return hash;
}
