// How texts are continued: the fields, what they are kept as, presets.
"use strict";

const STORE = `gptcli ${location.pathname}`;
const stored = (name, otherwise) => {
  try {
    return JSON.parse(localStorage.getItem(`${STORE} ${name}`)) ?? otherwise;
  } catch {
    return otherwise; // storage is off, or holds what we did not write
  }
};
const store = (name, value) => {
  try {
    localStorage.setItem(`${STORE} ${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false; // full, or off
  }
};

// name, label, from, to, step, at first, what it does
const FIELDS = [
  ["temperature", "Temperature", 0, 2, 0.05, 0.8, "0 always takes the likeliest token"],
  ["top_p", "Top p", 0.01, 1, 0.01, 0.95, "1 is off"],
  ["top_k", "Top k", 0, 200, 1, 50, "0 is off"],
  ["min_p", "Min p", 0, 1, 0.01, 0, "0 is off"],
  ["repetition_penalty", "Repetition penalty", 0.5, 2, 0.01, 1, "1 is off"],
  ["max_tokens", "Tokens to write", 1, 1024, 1, 100, "at most"],
  ["logprobs", "Alternatives", 1, 20, 1, 8, "listed for each token"],
];
const FIRST = Object.fromEntries(FIELDS.map(([name, , , , , first]) => [name, first]));
const PRESETS = {
  "as gptcli generate": {},
  "the model alone": { temperature: 1, top_p: 1, top_k: 0 },
  careful: { temperature: 0.6, top_p: 0.9, top_k: 50, repetition_penalty: 1.1 },
  "always the likeliest": { temperature: 0, top_p: 1, top_k: 0 },
};
const SEEDS = 2 ** 31;
const newSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % SEEDS;

// One string a line; \n, \t and \\ stand for what cannot be typed there.
const stopsIn = (lines) => lines.split("\n").filter(Boolean).map((line) =>
  line.replace(/\\([nt\\])/g, (_, char) => ({ n: "\n", t: "\t", "\\": "\\" })[char]));

class Settings {
  constructor(box) {
    this.inputs = {};
    for (const field of FIELDS) box.append(this.row(field));
    this.stop = document.getElementById("stop-strings");
    this.seed = document.getElementById("seed");
    this.fresh = document.getElementById("fresh-seed");
    this.ownPresets = stored("presets", {});
    this.take(stored("settings", {}));
    for (const node of [this.stop, this.seed, this.fresh]) node.addEventListener("change", () => this.keep());
    this.seed.addEventListener("input", () => { this.fresh.checked = false; });
    document.getElementById("dice").addEventListener("click", () => {
      this.seed.value = newSeed();
      this.fresh.checked = false;
      this.keep();
    });
    this.listPresets();
  }

  // The number is for the keyboard; the slider beside it is for the pointer, and says nothing else.
  row([name, label, low, high, step, first, hint]) {
    const exact = el("input", { type: "number", id: name, min: low, step, inputmode: "decimal", "aria-describedby": `${name}-hint` });
    const slider = el("input", { type: "range", min: low, max: high, step, tabindex: -1, "aria-hidden": "true" });
    const copy = () => { slider.value = exact.value; };
    exact.addEventListener("input", copy);
    slider.addEventListener("input", () => { exact.value = slider.value; });
    for (const node of [exact, slider]) node.addEventListener("change", () => this.keep());
    this.inputs[name] = { exact, copy, first, slider };
    return el("div", { class: "field" }, el("label", { for: name }, label), exact, slider,
      el("span", { class: "note", id: `${name}-hint` }, hint));
  }

  // The most tokens that the model can write.
  bound(context) {
    this.inputs.max_tokens.slider.max = context;
    this.inputs.max_tokens.copy();
  }

  get values() {
    const entries = Object.entries(this.inputs).map(([name, { exact, first }]) =>
      [name, exact.value.trim() === "" || !Number.isFinite(exact.valueAsNumber) ? first : exact.valueAsNumber]);
    return { ...Object.fromEntries(entries), stop: this.stop.value };
  }

  take(values) {
    for (const [name, { exact, copy, first }] of Object.entries(this.inputs)) {
      exact.value = Number.isFinite(values[name]) ? values[name] : first;
      copy();
    }
    if (typeof values.stop === "string") this.stop.value = values.stop;
    if (Number.isInteger(values.seed)) this.seed.value = values.seed;
    if (typeof values.fresh === "boolean") this.fresh.checked = values.fresh;
  }

  keep() {
    store("settings", { ...this.values, seed: this.seed.valueAsNumber, fresh: this.fresh.checked });
  }

  // The fields of a request. The seed that is taken stays in its field.
  request(again = false) {
    const { stop, ...values } = this.values;
    if (again || this.fresh.checked || !Number.isInteger(this.seed.valueAsNumber)) this.seed.value = newSeed();
    this.keep();
    return { ...values, stop: stopsIn(stop), seed: this.seed.valueAsNumber };
  }

  listPresets() {
    const box = document.getElementById("presets");
    const names = [...Object.keys(PRESETS), ...Object.keys(this.ownPresets)];
    box.replaceChildren(el("option", { value: "" }, "choose \u2026"), ...names.map((name) => el("option", { value: name }, name)));
    this.presets = box;
  }

  takePreset(name) {
    const found = Object.hasOwn(this.ownPresets, name) ? this.ownPresets[name] : { ...FIRST, ...PRESETS[name] };
    this.take({ ...found, max_tokens: found.max_tokens ?? FIRST.max_tokens });
    this.keep();
  }

  savePreset(name) {
    if (!name || Object.hasOwn(PRESETS, name)) return false;
    this.ownPresets = { ...this.ownPresets, [name]: this.values };
    store("presets", this.ownPresets);
    this.listPresets();
    return true;
  }

  dropPreset(name) {
    if (!Object.hasOwn(this.ownPresets, name)) return false;
    const { [name]: _, ...rest } = this.ownPresets;
    this.ownPresets = rest;
    store("presets", rest);
    this.listPresets();
    return true;
  }
}
