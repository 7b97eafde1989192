// What the server says of tokens, laid over the text that they make. Nothing here touches the page.
//
// A part is a token as the server lists it. A group is what can be shown of it: a token, or the
// few tokens that make one character together. Places count UTF-16 units, as the editor does.
"use strict";

const BYTES = /^bytes:((?:\\x[0-9a-f]{2})+)$/; // a token that is a part of a character
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const ANY = new TextDecoder("utf-8", { ignoreBOM: true });

const bytesOf = (name) => {
  const found = BYTES.exec(name);
  return found && Uint8Array.from(found[1].match(/[0-9a-f]{2}/g), (pair) => parseInt(pair, 16));
};
const strictly = (bytes) => {
  try {
    return UTF8.decode(bytes);
  } catch {
    return null; // the bytes are no whole characters
  }
};
const after = (bytes, more) => Uint8Array.from([...bytes, ...more]);
// The text of a token's name after bytes of an unfinished character; null if it is none.
const textAfter = (bytes, name) => {
  const own = bytesOf(name);
  if (!own) return bytes.length ? null : name;
  return strictly(after(bytes, own));
};

const partsOf = (lists) => lists.tokens.map((name, place) => ({
  name,
  logprob: lists.token_logprobs[place],
  top: Object.entries(lists.top_logprobs?.[place] ?? {}).sort(([, a], [, b]) => b - a),
}));

// The parts in groups of whole characters. Of an unfinished one at the end, `more` may follow.
const groupsOf = (parts, more = false) => {
  const groups = [];
  let open = [];
  let bytes = new Uint8Array();
  const close = (text) => {
    groups.push({ parts: open, text, logprob: total(open) });
    open = [];
    bytes = new Uint8Array();
  };
  for (const part of parts) {
    const own = bytesOf(part.name);
    if (!own && open.length) close(ANY.decode(bytes)); // what it was stays a sign for it
    open.push(part);
    if (own) bytes = after(bytes, own);
    const text = own ? strictly(bytes) : part.name;
    if (text !== null) close(text);
  }
  if (open.length && !more) close(ANY.decode(bytes));
  return groups;
};
const total = (parts) => {
  const known = parts.map(({ logprob }) => logprob);
  return known.includes(null) ? null : known.reduce((sum, one) => sum + one, 0);
};

// The groups that lie in `text` from a place on, with their places. What a stop string has cut off
// does not; nor does what follows once a name is not what stands there.
const placed = (groups, text, from) => {
  const found = [];
  let at = from;
  for (const group of groups) {
    const shown = [group.text, group.text.trimStart()].find((one) => one && text.startsWith(one, at));
    if (shown === undefined && /^[\r\n]+$/.test(group.text)) continue; // line ends that became one
    if (shown === undefined) break;
    found.push({ ...group, start: at, end: at + shown.length });
    at += shown.length;
  }
  return found;
};

// Those that still say something after an edit: what follows it had another text before it.
const untouched = (groups, before, text) => {
  let same = 0;
  const most = Math.min(before.length, text.length);
  while (same < most && before[same] === text[same]) same += 1;
  return groups.filter(({ end }) => end <= same);
};

// The group that a caret is at: the one that begins there or goes on there, at the end the last.
const groupAt = (groups, place) =>
  groups.find(({ start, end }) => start <= place && place < end) ?? (groups.at(-1)?.end === place ? groups.at(-1) : undefined);

// What could stand in place of a group's tokens, for each of its parts: [{ name, text, logprob, own }].
const choicesOf = (group) => {
  let bytes = new Uint8Array();
  return group.parts.map((part) => {
    const listed = part.top.map(([name, logprob]) =>
      ({ name, logprob, text: textAfter(bytes, name), own: name === part.name }));
    bytes = after(bytes, bytesOf(part.name) ?? []);
    return listed;
  });
};

// A group for an alternative that the user took.
const groupOfChoice = (group, place, choice) => {
  const taken = { ...group.parts[place], name: choice.name, logprob: choice.logprob };
  const parts = [...group.parts.slice(0, place), taken];
  return { parts, text: choice.text, logprob: total(parts), start: group.start, end: group.start + choice.text.length };
};

const BANDS = [[0.5, "50 % or more"], [0.1, "10 to 50 %"], [0.01, "1 to 10 %"], [0, "below 1 %"]];
const band = (logprob) => 1 + BANDS.findIndex(([least]) => Math.exp(logprob) >= least);
const percent = (logprob) => {
  const share = 100 * Math.exp(logprob);
  return `${share < 0.01 ? "< 0.01" : share.toPrecision(share >= 99.95 ? 3 : 2)} %`;
};
const bitsEach = (groups) => {
  const known = groups.flatMap(({ parts }) => parts).map(({ logprob }) => logprob).filter((one) => one !== null);
  return known.length ? -known.reduce((sum, one) => sum + one, 0) / Math.LN2 / known.length : null;
};
