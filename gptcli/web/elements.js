// What the views are made of. Text from a model or a user becomes text nodes and nothing else;
// numbers stand in <data value="..."> with all their digits, shown rounded.
"use strict";

const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const vary = (node, values) => { // the policy allows no style in attributes
  for (const [name, value] of Object.entries(values)) node.style.setProperty(name, value);
  return node;
};
const table = (caption, heads, rows) =>
  el("table", { class: "wide" }, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...heads.map((head, at) => {
      const kind = { class: rows[0]?.[at].className ?? "" }; // aligned as what is below
      return head ? el("th", { ...kind, scope: "col" }, head) : el("td");
    }))),
    el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells))));
const cell = (...children) => el("td", {}, ...children);
const figure = (...children) => el("td", { class: "number" }, ...children);
const bars = (...children) => el("td", { class: "bars" }, ...children);
const bar = (width, kind = "", from = 0) =>
  vary(el("span", { class: `bar ${kind}` }), { "--w": width, "--x": from });
const facts = (...entries) => el("dl", {}, ...entries.flatMap(([name, ...values]) => [el("dt", {}, name), el("dd", {}, ...values)]));
const legend = (...entries) => el("ul", { class: "legend" }, ...entries.map((entry) => el("li", {}, ...entry)));
const scroll = (name, ...children) =>
  el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, ...children);
// Closed until asked for; made when it is opened, and again when `node.make` is called.
const later = (title, make) => {
  const box = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title });
  const node = el("details", {}, el("summary", {}, title), box);
  node.make = () => box.replaceChildren(make());
  node.addEventListener("toggle", () => node.open && node.make());
  return node;
};

// ---- Numbers

const number = (value, show) =>
  (value === null ? "none" : el("data", { value: String(value) }, show(value)));
const chance = (value) => number(value, (p) => p.toPrecision(3));
const share = (logprob) => Math.exp(logprob ?? -Infinity);
const probability = (logprob) => chance(logprob === null ? null : share(logprob));
const nats = (value) => number(value, (x) => x.toFixed(4));
const bits = (value) => number(value, (x) => x.toFixed(2));
const surprisal = (logprob) => bits(logprob === null ? null : -logprob / Math.LN2);
const whole = (value) => number(value, String);
const signed = (value) => number(value, (x) => (x < 0 ? "" : "+") + x.toPrecision(4));

// ---- Text that nobody vouches for: what cannot be seen, or would move its neighbours, is named

const CONTROLS = ("NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 " +
  "NAK SYN ETB CAN EM SUB ESC FS GS RS US").split(" ");
const NAMES = {
  "\x7f": "DEL", "\xa0": "NBSP", "\xad": "SHY", "\u061c": "ALM", "\u200b": "ZWSP", "\u200c": "ZWNJ",
  "\u200d": "ZWJ", "\u200e": "LRM", "\u200f": "RLM", "\u2028": "LS", "\u2029": "PS", "\u202a": "LRE",
  "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO", "\u202e": "RLO", "\u2060": "WJ", "\u2066": "LRI",
  "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI", "\ufeff": "BOM",
};
const UNSEEN = /[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]/u;
const MARK = /\p{M}/u;
const named = (name) => el("span", { class: "sign named" }, name);
const sign = (char) => {
  if (char === " " || char === "\n") return el("span", { class: "sign" }, char === " " ? "·" : "↵");
  const code = char.codePointAt(0);
  return named(CONTROLS[code] ?? NAMES[char] ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`);
};
const spell = (node, text) => {
  let plain = "";
  let marks = 0;
  for (const char of text) {
    marks = MARK.test(char) ? marks + 1 : 0;
    if (UNSEEN.test(char) || marks > 3) { // more marks than that climb over other lines
      node.append(plain, sign(char));
      plain = "";
    } else plain += marks && !plain ? `\u25cc${char}` : char;
  }
  node.append(text ? plain : named("empty"));
  return node;
};
const label = (text) => spell(el("bdi", { class: "label" }), text);
// A token that is a part of a character is that character and which part; one that stands for what
// the vocabulary lacks is what that is, and its own name.
const spellToken = (node, token) => {
  if (token.unknown && token.surface.trim()) {
    spell(node, token.surface.trim());
    node.append(named(token.text));
  } else if (token.parts.some(([, , of]) => of > 1)) {
    for (const [text, place, of] of token.parts) {
      spell(node, text);
      if (of > 1) node.append(el("sub", { class: "nth" }, `${place}/${of}`));
    }
  } else if (token.part) node.append(named(token.bytes));
  else spell(node, token.text);
  return node;
};
const nth = (token) => (token.index < 0 ? "" : String(token.index)); // the begin token has no number
const called = (token) => (token.index < 0 ? "Begin token " : `Token ${token.index} `);
const tokenLabel = (token) => spellToken(el("bdi", { class: "label" }), token);

// ---- Choosing among the buttons of a box, with the pointer or the arrow keys

const middle = (node) => {
  const { left, top, width, height } = node.getBoundingClientRect();
  return { node, x: left + width / 2, y: top + height / 2, height };
};
const neighbour = (items, here, key) => {
  const place = items.indexOf(here);
  if (key === "Home") return items[0];
  if (key === "End") return items.at(-1);
  if (key === "ArrowLeft") return items[place - 1];
  if (key === "ArrowRight") return items[place + 1];
  const from = middle(here);
  const way = key === "ArrowDown" ? 1 : -1;
  const ahead = items.map(middle).filter((to) => way * (to.y - from.y) > from.height / 2);
  const line = Math.min(...ahead.map((to) => way * (to.y - from.y)));
  const near = ahead.filter((to) => way * (to.y - from.y) < line + from.height / 2);
  return near.sort((a, b) => Math.abs(a.x - from.x) - Math.abs(b.x - from.x))[0]?.node;
};
// `pick` gets the number of the button chosen; the function given back chooses one by its number.
const choosing = (box, pick, events = ["pointerover", "focusin", "click"]) => {
  const items = [...box.querySelectorAll("button")];
  let [here] = items; // the one that Tab comes to
  for (const item of items) item.tabIndex = item === here ? 0 : -1;
  const choose = (item) => {
    here.tabIndex = -1;
    here.classList.remove("chosen");
    here = item;
    here.tabIndex = 0;
    here.classList.add("chosen");
    pick(items.indexOf(here));
  };
  box.addEventListener("keydown", (event) => {
    if (!/^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(event.key)) return;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    neighbour(items, here, event.key)?.focus();
  });
  for (const kind of events) {
    box.addEventListener(kind, (event) => {
      const item = event.target.closest("button");
      if (item) choose(item);
    });
  }
  return (place) => choose(items[place]);
};
const tokenRow = (tokens) => {
  const name = "Tokens: the arrow keys go from one to the next";
  const row = el("div", { class: "tokens", role: "group", "aria-label": name });
  for (const token of tokens) {
    row.append(spellToken(el("button", { type: "button", class: "token" }), token));
    if (token.text.includes("\n")) row.append(el("br"));
  }
  return row;
};
// Something to choose from, beside what is known of the one chosen.
const pair = (...left) => {
  const panel = el("div", { class: "panel", role: "region", "aria-label": "The chosen one", tabindex: 0 });
  return { panel, both: el("div", { class: "pair" }, el("div", {}, ...left), panel) };
};
