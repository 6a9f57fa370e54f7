// @ts-check
/** The graph of a model, with live times in the boxes of steps and small pictures in the boxes of tensors. */

import { element } from "./dom.js";
import { milliseconds, rate } from "./format.js";
import { plainName, renderThumbnail } from "./tensor.js";

/** The smallest scale at which the text of the graph can be read, and the one to which it shrinks for its height. */
const SMALLEST_SCALE = 0.66;
const SMALLEST_FOR_HEIGHT = 0.8;

/** Markup of this console's own renderer, which escapes every name, is the only markup that the page parses. */
const policy = /** @type {any} */ (window).trustedTypes?.createPolicy("console-graph", { createHTML: (text) => text });

export class GraphPanel {
  /**
   * @param {HTMLElement} container
   * @param {(tensor: string) => void} onTensor called with a tensor that is chosen
   * @param {(step: string) => void} onStep called with a step that is chosen
   */
  constructor(container, onTensor, onStep) {
    this.container = container;
    this.onTensor = onTensor;
    this.onStep = onStep;
    this.stepPlaces = new Map();
    this.tensorPlaces = new Map();
    this.calledPlaces = new Map();
    this.live = new Map();
    this.sent = new Map();
    this.bottleneck = null;
    new ResizeObserver(() => this.fit()).observe(container);
  }

  /** @param {any} graph */
  show(graph) {
    const parsed = new DOMParser().parseFromString(policy ? policy.createHTML(graph.svg) : graph.svg, "image/svg+xml");
    const picture = document.importNode(parsed.documentElement, true);
    this.width = graph.width;
    this.height = graph.height;
    this.canvas = element("div", { class: "canvas" }, picture);
    this.canvas.style.width = `${graph.width}px`;
    this.canvas.style.height = `${graph.height}px`;
    this.frame = element("div", { class: "frame" }, this.canvas);
    this.stepPlaces.clear();
    this.tensorPlaces.clear();
    this.calledPlaces.clear();
    this.live.clear();
    this.sent.clear();
    const steps = invert(graph.steps);
    for (const space of graph.spaces) {
      const isModel = space.key in graph.models;
      const step = steps.get(space.key);
      const tensor = graph.tensors[space.key];
      const place = element(isModel && !step ? "div" : "button", { class: isModel ? "place timing" : "place value", type: isModel && !step ? null : "button" });
      Object.assign(place.style, { left: `${space.x}px`, top: `${space.y}px`, width: `${space.width}px`, height: `${space.height}px` });
      const called = graph.calls[space.key];
      if (called) {
        this.calledPlaces.set(called, [...(this.calledPlaces.get(called) ?? []), place]);
        this.drawCalled(called);
      } else if (isModel) {
        if (step) {
          this.stepPlaces.set(step, place);
          place.addEventListener("click", () => this.onStep(step));
          this.drawStep(step);
        }
      } else {
        this.tensorPlaces.set(tensor, [...(this.tensorPlaces.get(tensor) ?? []), place]);
        place.addEventListener("click", () => this.onTensor(place.dataset.shown ?? tensor));
        this.drawTensor(place, tensor, null);
      }
      this.canvas.append(place);
    }
    this.container.replaceChildren(this.frame);
    this.container.setAttribute("aria-busy", "false");
    requestAnimationFrame(() => { this.container.scrollLeft = (this.container.scrollWidth - this.container.clientWidth) / 2; });
    document.documentElement.style.setProperty("--graph", `${graph.width + 60}px`);
    this.fit();
  }

  /** Scale the picture to the width that there is, as long as it can be read. */
  fit() {
    if (!this.canvas) return;
    const style = getComputedStyle(this.container);
    const available = this.container.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const high = matchMedia("(min-width: 1000px)").matches ? innerHeight - this.container.getBoundingClientRect().top - 40 : Infinity;
    const forHeight = Math.max(SMALLEST_FOR_HEIGHT, Math.max(high, 400) / this.height);
    const scale = Math.min(1, Math.max(SMALLEST_SCALE, Math.min(available / this.width, forHeight)));
    this.canvas.style.transform = `scale(${scale})`;
    this.frame.style.width = `${this.width * scale}px`;
    this.frame.style.height = `${this.height * scale}px`;
  }

  /** @param {any} load the live figures */
  showLoad(load) {
    this.live = new Map([...load.steps.map((step) => [step.name, step]), ...load.called.map((called) => [`call:${called.name}`, called])]);
    this.bottleneck = load.bottleneck?.step ?? null;
    this.drawModels();
  }

  /** @param {any|null} result a request; null removes the one that is shown */
  showRequest(result) {
    const tensors = result?.tensors ?? {};
    this.sent = new Map((result?.steps ?? []).map((step) => [step.name, step]));
    for (const called of (result?.steps ?? []).flatMap((step) => step.called)) this.sent.set(`call:${called.name}`, called);
    this.drawModels();
    for (const [tensor, places] of this.tensorPlaces) {
      // Of a decoupled model the first response is shown.
      const name = tensor in tensors ? tensor : tensor.replace(/^output:/, "output:0/");
      for (const place of places) {
        place.dataset.shown = name;
        this.drawTensor(place, tensor, tensors[name] ?? null);
      }
    }
  }

  drawModels() {
    for (const step of this.stepPlaces.keys()) this.drawStep(step);
    for (const called of this.calledPlaces.keys()) this.drawCalled(called);
  }

  drawTensor(place, tensor, view) {
    place.classList.toggle("filled", Boolean(view));
    place.disabled = !view;
    const name = element("span", { class: "hidden", text: `tensor ${plainName(tensor)}${view ? "" : ", no value yet"} ` });
    place.replaceChildren(name, view ? renderThumbnail(view) : "");
  }

  drawStep(name) {
    const place = this.stepPlaces.get(name);
    const sent = this.sent.get(name);
    const live = this.live.get(name);
    const state = sent?.status ?? "";
    place.className = `place timing ${state} ${this.bottleneck === name ? "bottleneck" : ""}`;
    const lines = [];
    if (sent) {
      const text = { answered: milliseconds(sent.server?.total ?? sent.milliseconds), failed: "refused the request", skipped: "not reached" }[state];
      lines.push(element("span", { class: "sent", text: `${state === "failed" ? "✕ " : ""}${text}` }));
    }
    const isBottleneck = this.bottleneck === name;
    lines.push(...renderLive(live, !sent, isBottleneck));
    if (isBottleneck) lines.at(sent ? 0 : -1).prepend(element("span", { class: "flag", text: "bottleneck" }), " ");
    place.disabled = !sent;
    place.replaceChildren(element("span", { class: "hidden", text: `step ${name} ` }), ...lines);
  }

  /** A model that code requests; its time is a part of the step that requests it, and so it is no step itself. */
  drawCalled(name) {
    const sent = this.sent.get(`call:${name}`);
    const lines = [];
    if (sent) {
      const count = sent.server.requests;
      lines.push(element("span", { class: "sent", text: `${count === 1 ? "" : `${count} × `}${milliseconds(sent.server.total)}` }));
    }
    lines.push(...renderLive(this.live.get(`call:${name}`), !sent));
    for (const place of this.calledPlaces.get(name)) {
      place.className = `place timing called ${sent ? "answered" : ""}`;
      place.title = "Its time is part of the step that requests it.";
      place.replaceChildren(element("span", { class: "hidden", text: `model ${name}, requested by code; its time is part of the step that requests it ` }), ...lines.map((line) => line.cloneNode(true)));
    }
  }
}

/** The live figures of a model: queue and compute, as numbers and as a bar, and its load where there is space. */
function renderLive(live, hasSpace, isBottleneck = false) {
  if (!live || live.requests_per_second <= 0) return hasSpace ? [element("span", { class: "figures muted", text: "no requests" })] : [];
  const bar = element("span", { class: "split", "aria-hidden": "true" }, element("i", { class: "queue" }), element("i", { class: "compute" }), element("i", { class: "in-calls" }));
  const total = live.queue + live.compute || 1;
  bar.children[0].style.width = `${(100 * live.queue) / total}%`;
  bar.children[1].style.width = `${(100 * (live.compute - live.calls)) / total}%`;
  bar.children[2].style.width = `${(100 * live.calls) / total}%`;
  const lines = [element("span", { class: "figures", text: `queue ${milliseconds(live.queue)} · compute ${milliseconds(live.compute)}` }), bar];
  const part = live.calls ? `calls ${milliseconds(live.calls)}` : `batch ${live.batch_size.toFixed(1)}`;
  const load = [rate(live.requests_per_second), isBottleneck ? null : part, `busy ${Math.round(100 * live.utilization)} %`];
  if (hasSpace) lines.push(element("span", { class: "figures muted", text: load.filter(Boolean).join(" · ") }));
  return lines;
}

function invert(record) {
  return new Map(Object.entries(record).map(([name, key]) => [key, name]));
}
