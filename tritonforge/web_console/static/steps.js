// @ts-check
/** A request as a list: its inputs, every step with its time and the tensors that it makes. */

import { element } from "./dom.js";
import { milliseconds } from "./format.js";
import { renderDetections } from "./detections.js";
import { plainName, renderTensor } from "./tensor.js";

const STATES = { answered: "answered", failed: "refused", skipped: "not reached" };

/**
 * The list of a request's steps.
 * @param {any} result
 */
export function renderSteps(result) {
  const list = element("ol", { class: "steps" });
  const inputs = Object.keys(result.tensors).filter((name) => !result.steps.some((step) => Object.values(step.outputs).includes(name)));
  list.append(
    element("li", { class: "step input" }, element("h3", { text: inputs.length === 1 ? "input" : "inputs" }), tensors(inputs, result)),
  );
  const longest = Math.max(...result.steps.map((step) => duration(step)), 1e-9);
  const image = Object.values(result.tensors).find((view) => view.form === "image") ?? Object.values(result.tensors).find((view) => view.form === "picture");
  for (const [index, step] of result.steps.entries()) {
    const made = Object.values(step.outputs).filter((name) => name in result.tensors);
    const item = element(
      "li",
      { class: `step ${step.status}`, "data-step": step.name, tabindex: "-1" },
      element(
        "h3",
        {},
        element("span", { class: "number", "aria-hidden": "true", text: index + 1 }),
        element("span", { text: step.name }),
        element("span", { class: "state", text: STATES[step.status] }),
        element("span", { class: "time", text: step.status === "skipped" ? "" : milliseconds(duration(step)) }),
      ),
    );
    if (step.status !== "skipped") item.append(timeBar(step, longest));
    if (step.called.length) item.append(calledModels(step, longest));
    const takes = Object.entries(step.inputs).map(([port, name]) => (port === plainName(name) ? port : `${plainName(name)} as ${port}`)).join(", ");
    item.append(element("p", { class: "muted small", text: `${step.model === step.name ? "" : `model ${step.model}; `}takes ${takes || "nothing"}` }));
    if (step.error) item.append(element("p", { class: "refusal", text: step.error }));
    for (const detections of result.detections.filter((entry) => entry.step === step.name)) {
      if (image) item.append(renderDetections(detections, image));
    }
    if (made.length) item.append(tensors(made, result));
    list.append(item);
  }
  return list;
}

/**
 * What a request comes to, in a line.
 * @param {any} result
 */
export function summarize(result) {
  const answer = result.answer;
  if (answer.error) {
    return answer.step ? `${answer.step} refused the request` : "the model refused the request";
  }
  if (answer.responses !== null) return `${answer.responses} response${answer.responses === 1 ? "" : "s"}`;
  const last = [...result.steps].reverse().find((step) => step.status === "answered");
  const boxes = result.detections.at(-1)?.images[0];
  if (boxes) return boxes.length ? `${boxes.length} boxes, the first is ${boxes[0].label || "a box"} (${Math.round(100 * boxes[0].score)} %)` : "no boxes";
  for (const name of Object.values(last?.outputs ?? {})) {
    const view = result.tensors[name];
    if (view?.form === "scores" && (view.is_probability || view.rows[0][0].label)) {
      const more = view.shape.length > 1 && view.shape[0] > view.rows.length ? ", …" : "";
      return view.rows.map(([best]) => `${best.label || `[${best.index}]`}${view.is_probability ? ` ${(100 * best.value).toFixed(1)} %` : ""}`).join(", ") + more;
    }
    if (view?.form === "text" && view.texts[0]) return view.texts[0].slice(0, 60);
  }
  return "answered";
}

function tensors(names, result) {
  return element("div", { class: "tensors" }, ...names.map((name) => renderTensor(name, result.tensors[name])));
}

function duration(step) {
  return step.server?.total ?? step.milliseconds ?? 0;
}

/** The time of a step as a bar of its parts; without the server's figures it is the time that the console waited. */
function timeBar(step, longest) {
  const parts = step.server ? [...splitTime(step.server, step.calls)] : [["waited", step.milliseconds]];
  const text = element("p", { class: "parts small" }, ...parts.map(([name, value]) => element("span", {}, element("i", { class: `key ${name.replace(" ", "-")}`, "aria-hidden": "true" }), `${name} ${milliseconds(value)}`)));
  if (step.server?.requests > 1) text.append(element("span", { text: `mean of ${step.server.requests} requests that the model got meanwhile` }));
  return element("div", {}, drawBar(parts, longest), text);
}

/** The parts of a request's time; `calls` is the part of the computation that waits for other models. */
function* splitTime(server, calls) {
  yield ["queue", server.queue];
  yield ["copy in", server.compute_input];
  yield ["compute", server.compute_infer - calls];
  if (calls) yield ["in calls", calls];
  yield ["copy out", server.compute_output];
}

function drawBar(parts, longest) {
  const bar = element("div", { class: "timebar", "aria-hidden": "true" });
  for (const [name, value] of parts) {
    const part = element("i", { class: name.replace(" ", "-") });
    part.style.width = `${(100 * value) / longest}%`;
    bar.append(part);
  }
  return bar;
}

/** The models that the code of a step requested: their times are parts of the step's own. */
function calledModels(step, longest) {
  const items = step.called.map((called) => {
    const { requests, total } = called.server;
    const parts = [...splitTime(called.server, 0)];
    const figures = parts.map(([name, value]) => `${name} ${milliseconds(value)}`).join(", ");
    const count = requests === 1 ? milliseconds(total) : `${requests} requests of ${milliseconds(total)}`;
    return element(
      "li",
      {},
      element("p", { class: "called-head" }, element("strong", { text: called.name }), element("span", { class: "time", text: count })),
      drawBar(parts.map(([name, value]) => [name, value * requests]), longest),
      element("p", { class: "parts small", text: figures }),
    );
  });
  return element("div", { class: "called-models" }, element("p", { class: "muted small", text: "Its code requested these models (BLS); their time is part of the time above." }), element("ul", {}, ...items));
}
