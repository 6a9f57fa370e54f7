// @ts-check
/** The samples of a model as buttons, and the place to drop files. */

import { readBlob } from "./api.js";
import { element } from "./dom.js";

export class SampleStrip {
  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} drop
   * @param {HTMLInputElement} file
   * @param {{onSample: (sample: any) => void, onFiles: (files: File[]) => void}} events
   */
  constructor(list, drop, file, events) {
    this.list = list;
    this.drop = drop;
    this.events = events;
    /** @type {string[]} */
    this.addresses = [];
    file.addEventListener("change", () => {
      events.onFiles([...(file.files ?? [])]);
      file.value = "";
    });
    this.listenForDrops();
  }

  /** @param {any} model */
  show(model) {
    this.addresses.splice(0).forEach((address) => URL.revokeObjectURL(address));
    this.list.replaceChildren(...model.samples.map((sample) => this.button(model.name, sample)));
  }

  /** @param {boolean} isBusy */
  setBusy(isBusy) {
    this.drop.classList.toggle("busy", isBusy);
  }

  button(model, sample) {
    const picture = element("span", { class: "thumb", "aria-hidden": "true" });
    if (sample.has_picture) this.loadPicture(model, sample, picture);
    else picture.append(element("span", { class: "glyph", text: sample.name.startsWith("corrupt") ? "✕" : "{ }" }));
    return element(
      "li",
      {},
      element(
        "button",
        { type: "button", title: sample.description || null, on: { click: () => this.events.onSample(sample) } },
        picture,
        element("span", { class: "name", text: sample.name }),
        element("small", { text: sample.origin }),
      ),
    );
  }

  async loadPicture(model, sample, holder) {
    try {
      const address = URL.createObjectURL(await readBlob("/api/pictures", { model, sample: sample.number }));
      this.addresses.push(address);
      const picture = element("img", { src: address, alt: "" });
      picture.addEventListener("error", () => picture.replaceWith(element("span", { class: "glyph", text: "?" })));
      holder.append(picture);
    } catch {
      holder.append(element("span", { class: "glyph", text: "?" }));
    }
  }

  /** The whole page takes files; the place for them shows it. */
  listenForDrops() {
    const isFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!isFiles(event)) return;
      event.preventDefault();
      this.drop.classList.add("over");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) this.drop.classList.remove("over");
    });
    document.addEventListener("drop", (event) => {
      if (!isFiles(event)) return;
      event.preventDefault();
      this.drop.classList.remove("over");
      this.events.onFiles([...(event.dataTransfer?.files ?? [])]);
    });
  }
}
