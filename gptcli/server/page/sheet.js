// The text: an editor over the same text in colours, and its steps, which can be undone.
"use strict";

const TYPING_PAUSE = 1500; // ms: what is typed without a longer one is undone together
const MOST_STEPS = 200;

class Sheet {
  constructor(changed) {
    this.editor = document.getElementById("editor");
    this.under = document.getElementById("under");
    this.changed = changed; // called after any change of the text
    this.text = "";
    this.groups = []; // in order, apart: what is known of tokens
    this.past = [];
    this.future = [];
    this.typed = -Infinity; // when a key last changed the text
    this.painted = []; // [text, group] of each node below
    this.chosen = null;
    this.editor.addEventListener("input", () => this.edited());
    this.editor.addEventListener("beforeinput", (event) => {
      if (!/^history(Undo|Redo)$/.test(event.inputType)) return;
      event.preventDefault(); // the browser's steps know nothing of ours
      if (event.inputType === "historyUndo") this.undo();
      else this.redo();
    });
  }

  get locked() {
    return this.editor.readOnly;
  }

  set locked(locked) {
    this.editor.readOnly = locked;
  }

  get state() {
    return { text: this.text, groups: this.groups };
  }

  edited() {
    const now = performance.now();
    const text = this.editor.value;
    if (text === this.text) return;
    if (now - this.typed > TYPING_PAUSE) this.step();
    this.typed = now;
    this.future = [];
    this.groups = untouched(this.groups, this.text, text);
    this.text = text;
    this.paint();
    this.changed();
  }

  // Keep what is there, to come back to.
  step() {
    this.past.push(this.state);
    if (this.past.length > MOST_STEPS) this.past.shift();
    this.future = [];
    this.typed = -Infinity;
  }

  // Show another text; the caret stays, or goes to its end.
  show({ text, groups }, atEnd = false) {
    this.text = text;
    this.groups = groups;
    const { selectionStart, selectionEnd, value } = this.editor;
    if (value !== text) {
      this.editor.value = text;
      const places = atEnd ? [text.length, text.length] : [selectionStart, selectionEnd];
      this.editor.setSelectionRange(...places);
    }
    this.paint();
    this.changed();
  }

  replace(state) {
    this.step();
    this.show(state, true);
  }

  undo() {
    this.move(this.past, this.future);
  }

  redo() {
    this.move(this.future, this.past);
  }

  move(from, to) {
    if (this.locked || !from.length) return;
    to.push(this.state);
    this.typed = -Infinity;
    this.show(from.pop(), true);
  }

  // The pieces of the text: plain ones, and those of groups.
  pieces() {
    const found = [];
    let at = 0;
    for (const group of this.groups) {
      if (group.start > at) found.push([this.text.slice(at, group.start), null]);
      found.push([this.text.slice(group.start, group.end), group]);
      at = group.end;
    }
    found.push([`${this.text.slice(at)}\n`, null]); // a last line end takes no room without another
    return found;
  }

  paint() {
    const pieces = this.pieces();
    let same = 0;
    const alike = ([text, group], [other, its]) => text === other && group?.logprob === its?.logprob && !group === !its;
    while (same < pieces.length && same < this.painted.length && alike(pieces[same], this.painted[same])) same += 1;
    while (this.under.childNodes.length > same) this.under.lastChild.remove();
    this.under.append(...pieces.slice(same).map(([text, group]) => (group ? inColour(group, text) : text)));
    this.painted = pieces;
    this.mark(this.chosen);
  }

  // Outline a group.
  mark(group) {
    this.under.querySelector(".chosen")?.classList.remove("chosen");
    const place = group ? this.painted.findIndex(([, its]) => its?.start === group.start) : -1;
    this.chosen = place < 0 ? null : this.painted[place][1];
    if (this.chosen) this.under.childNodes[place].classList.add("chosen");
  }

  get atCaret() {
    return groupAt(this.groups, this.editor.selectionStart);
  }

  // Whether the end of the text is in sight, as it is for who follows the writing.
  get endInSight() {
    return this.editor.getBoundingClientRect().bottom < innerHeight + 40;
  }

  followEnd() {
    const below = this.editor.getBoundingClientRect().bottom - innerHeight + 16;
    if (below > 0) scrollBy(0, below);
  }
}

const inColour = (group, text) =>
  el("span", { class: `chance ${group.logprob === null ? "first" : `chance-${band(group.logprob)}`}` }, text);
