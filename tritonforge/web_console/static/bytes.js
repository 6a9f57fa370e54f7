// @ts-check
/** The bytes of a request: offset, bytes and meaning of every part. */

import { element } from "./dom.js";
import { size } from "./format.js";

/**
 * The tables of a request.
 * @param {any} request
 */
export function renderBytes(request) {
  const isBinary = request.header_length < request.size;
  const heads = element(
    "div",
    { class: "heads" },
    element("p", { class: "small", text: `${size(request.size)} in all: ${request.header_length} bytes of JSON${isBinary ? `, then ${size(request.size - request.header_length)} of tensors without any separator` : ""}.` }),
    ratio(request),
    element("h3", { text: "Content type on SageMaker" }),
    element("p", { class: "content-type" }, ...request.sagemaker_parts.map((part, index) => element("code", { class: `part part-${index % 3}`, text: part.text }))),
    element("ul", { class: "meanings small" }, ...request.sagemaker_parts.map((part, index) => element("li", {}, element("i", { class: `key part-${index % 3}`, "aria-hidden": "true" }), element("code", { text: part.text }), ` ${part.meaning}`))),
    element("h3", { text: "Headers on Triton's own HTTP port" }),
    element("p", { class: "content-type" }, ...Object.entries(request.triton_headers).map(([name, value]) => element("code", { class: "line", text: `${name}: ${value}` }))),
  );
  return element("div", { class: "explained" }, heads, table(request.segments));
}

/** The share of header and tensors as one bar. */
function ratio(request) {
  const bar = element("div", { class: "ratio", "aria-hidden": "true" }, element("i", { class: "json" }), element("i", { class: "binary" }));
  bar.children[0].style.width = `${Math.max(2, (100 * request.header_length) / request.size)}%`;
  return bar;
}

function table(segments) {
  const body = element("tbody", {});
  for (const segment of segments) {
    const isHeader = segment.part === "header";
    const text = element("code", { text: `${segment.text}${segment.is_cut ? " …" : ""}` });
    text.style.paddingInlineStart = `${segment.depth * 0.8}em`;
    body.append(
      element(
        "tr",
        { class: isHeader ? "json" : "binary" },
        element("td", { class: "offset", text: segment.offset }),
        element("td", { class: "length", text: segment.length }),
        element("td", { class: "hexadecimal" }, element("code", { text: `${segment.hexadecimal}${segment.is_cut ? " …" : ""}` })),
        element("td", { class: "text" }, text),
        element("td", { class: "meaning", text: segment.meaning }),
      ),
    );
  }
  const heads = ["offset", "bytes", "hexadecimal", "text", "meaning"].map((name) => element("th", { scope: "col", text: name }));
  return element(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "The body of the request" },
    element("table", { class: "segments" }, element("thead", {}, element("tr", {}, ...heads)), body),
  );
}
