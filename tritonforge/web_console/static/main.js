// @ts-check
/** The page: one model at a time, its graph, the request that is shown, and live figures every second. */

import { ApiError, readJson, sendFile, sendSample, takeToken } from "./api.js";
import { renderBytes } from "./bytes.js";
import { renderCharts } from "./chart.js";
import { byId, element } from "./dom.js";
import { renderFindings } from "./findings.js";
import { milliseconds, rate } from "./format.js";
import { GraphPanel } from "./graph.js";
import { SampleStrip } from "./samples.js";
import { renderSteps, summarize } from "./steps.js";

/** Requests that can be shown again; each one holds its pictures. */
const MOST_REQUESTS = 8;
const INTERVAL = 1000;

class Page {
  constructor() {
    this.models = [];
    this.model = "";
    /** @type {{name: string, result: any, button: HTMLElement}[]} */
    this.requests = [];
    /** @type {{name: string, result: any, button: HTMLElement}|null} */
    this.shown = null;
    this.pending = Promise.resolve();
    this.graph = new GraphPanel(byId("graph"), (tensor) => this.focusOn("tensor", tensor), (step) => this.focusOn("step", step));
    this.samples = new SampleStrip(byId("samples"), byId("drop"), byId("file"), {
      onSample: (sample) => this.send(sample.name, () => sendSample(this.model, sample.number)),
      onFiles: (files) => files.forEach((file) => this.send(file.name, () => sendFile(this.model, file))),
    });
    byId("model").addEventListener("change", (event) => this.choose(event.target.value));
    document.addEventListener("visibilitychange", () => this.poll());
  }

  async start() {
    if (!takeToken()) {
      this.warn("This page needs its token: open the address that tritonforge serve --ui printed.");
      return;
    }
    const repository = await readJson("/api/repository");
    this.models = repository.models;
    document.title = `${repository.repository} · tritonforge console`;
    byId("live-server").textContent = `${repository.server.name} ${repository.server.version}`;
    const select = byId("model");
    select.replaceChildren(...this.models.map((model) => element("option", { value: model.name, text: model.name })));
    select.disabled = this.models.length < 2;
    await this.choose(this.models[0].name);
    this.poll();
  }

  /** @param {string} name */
  async choose(name) {
    this.model = name;
    const model = this.models.find((entry) => entry.name === name);
    this.requests = [];
    this.shown = null;
    byId("history").hidden = true;
    byId("drop-title").textContent = model.takes_image ? "Drop images" : "Drop a file";
    byId("drop-hint").textContent = model.inputs.length === 1 ? `for ${model.inputs[0].name}, ${model.inputs[0].datatype}` : "a .json object with all inputs";
    this.samples.show(model);
    byId("graph").setAttribute("aria-busy", "true");
    const graph = await readJson("/api/graph", { model: name });
    if (name !== this.model) return;
    this.graph.show(graph);
    if (this.shown) this.graph.showRequest(this.shown.result); // it was faster
    byId("findings").replaceChildren(renderFindings(graph.findings));
    byId("findings-count").textContent = graph.findings.length || "";
  }

  /** Requests are sent one after another, so that the times of one are not those of two. */
  send(name, ask) {
    this.pending = this.pending.then(async () => {
      this.samples.setBusy(true);
      this.report([element("span", { class: "spinner", "aria-hidden": "true" }), `Sending ${name} …`]);
      try {
        this.add(name, await ask());
      } catch (error) {
        this.report([element("strong", { class: "bad", text: "Not sent" }), element("span", { text: error.message })], "bad");
        if (error instanceof ApiError && error.status === 401) this.warn(error.message);
      } finally {
        this.samples.setBusy(false);
      }
    });
    return this.pending;
  }

  add(name, result) {
    const button = element("button", { type: "button", class: result.answer.error ? "bad" : "" }, element("span", { text: name }), element("small", { text: summarize(result) }));
    const request = { name, result, button };
    button.addEventListener("click", () => this.show(request));
    this.requests = [request, ...this.requests].slice(0, MOST_REQUESTS);
    const history = byId("history");
    history.replaceChildren(...this.requests.map((entry) => entry.button));
    history.hidden = this.requests.length < 2;
    this.show(request);
  }

  show(request) {
    const { name, result } = request;
    this.shown = request;
    for (const entry of this.requests) entry.button.setAttribute("aria-current", String(entry === request));
    const answer = result.answer;
    const facts = [`${milliseconds(answer.milliseconds)} for the whole request`, answer.agreement, answer.note].filter(Boolean).join("; ");
    this.report([element("strong", { text: `${name}: ${summarize(result)}` }), element("span", { class: "muted", text: facts }), answer.error ? element("p", { class: "refusal", text: answer.error }) : null], answer.error ? "bad" : "good");
    byId("steps").replaceChildren(renderSteps(result));
    byId("bytes").replaceChildren(renderBytes(result.request));
    this.graph.showRequest(result);
  }

  /** @param {(Node|string|null)[]} parts @param {string} [state] */
  report(parts, state = "") {
    const status = byId("status");
    status.className = `status ${state}`;
    status.replaceChildren(...parts.filter((part) => part !== null));
  }

  /** Move the focus to a step or a tensor of the list. */
  focusOn(kind, name) {
    const target = [...document.querySelectorAll(`#steps [data-${kind}]`)].find((node) => /** @type {any} */ (node).dataset[kind] === name);
    if (!(target instanceof HTMLElement)) return;
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    target.scrollIntoView({ block: "center", behavior: isCalm ? "auto" : "smooth" });
    target.focus({ preventScroll: true });
  }

  async poll() {
    clearTimeout(this.timer);
    if (document.hidden || !this.model) return;
    const model = this.model;
    try {
      const load = await readJson("/api/statistics", { model });
      if (model === this.model) this.showLoad(load);
      byId("banner").hidden = true;
    } catch (error) {
      this.warn(error.status === 502 ? "The server does not answer; it may be restarting." : error.message);
      if (error.status === 401) return;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.poll(), INTERVAL);
  }

  showLoad(load) {
    byId("live-rate").textContent = rate(load.requests_per_second);
    byId("live-latency").textContent = milliseconds(load.milliseconds);
    byId("charts").replaceChildren(...renderCharts(load, this.chartWidth()));
    this.graph.showLoad(load);
    const note = byId("bottleneck");
    const sentence = load.bottleneck?.sentence ?? "Times of every step appear here while the model gets requests.";
    if (note.dataset.sentence !== sentence) {
      note.dataset.sentence = sentence;
      note.replaceChildren(...(load.bottleneck ? [element("strong", { text: "Bottleneck: " }), sentence] : [sentence]));
    }
  }

  /** Charts are beside one another where two fit. */
  chartWidth() {
    const available = byId("charts").clientWidth;
    return available > 740 ? (available - 32) / 2 : available;
  }

  /** @param {string} sentence */
  warn(sentence) {
    const banner = byId("banner");
    if (banner.textContent !== sentence) banner.textContent = sentence;
    banner.hidden = false;
  }
}

const page = new Page();
page.start().catch((error) => page.warn(error.message));
