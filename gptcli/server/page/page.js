// What the buttons do.
"use strict";

const byId = (id) => document.getElementById(id);
const MOST_BRANCHES = 50;
const KEPT_CHARACTERS = 500_000; // of the branches, in the browser's storage
const MOST_TRIES = 20; // while the queue is full

const settings = new Settings(byId("fields"));
const sheet = new Sheet(() => changed());
let context = null; // of the model, in tokens
let running = null; // { controller, wake } while the server works for us
let failed = null; // what "Try again" does
let lastRun = null; // the state before the last continuation, and the one after it
let used = null; // tokens of the text, when the server last counted them
let branches = [];

// ---- What is told

const tell = (text) => { byId("status").textContent = text; };
const trouble = (text, again = null) => {
  failed = again;
  byId("reason").textContent = text;
  byId("trouble").hidden = !text;
  byId("again").hidden = !again;
};
const plural = (count, name) => `${count.toLocaleString("en")} ${name}${count === 1 ? "" : "s"}`;
const tellCount = () => {
  const exact = used?.text === sheet.text;
  const tokens = used && `${exact ? "" : "about "}${exact ? used.tokens : Math.round(used.tokens * sheet.text.length / Math.max(used.text.length, 1))}`;
  byId("count").textContent = [tokens && `${tokens}${context ? ` of ${context}` : ""} tokens`, plural([...sheet.text].length, "character"),
    /\S $/.test(sheet.text) && "a space at the end: most tokens bring their own"].filter(Boolean).join(", ");
};

// A button that cannot be pressed now stays in the order of focus, so that focus is not lost.
const enable = (id, yes) => byId(id).setAttribute("aria-disabled", String(!yes));
const onPress = (id, act) => byId(id).addEventListener("click", () => {
  if (byId(id).getAttribute("aria-disabled") !== "true") act();
});
const enableAll = () => {
  for (const id of ["continue", "next", "new", "upload"]) enable(id, !running);
  enable("stop", running);
  enable("undo", !running && sheet.past.length);
  enable("redo", !running && sheet.future.length);
  enable("regenerate", !running && lastRun && lastRun.after === sheet.text);
  enable("score", !running && sheet.text);
};

let saving = 0;
const save = () => {
  clearTimeout(saving);
  saving = 0;
  store("text", sheet.text);
  let left = KEPT_CHARACTERS;
  const kept = branches.filter(({ text }) => (left -= text.length) > 0);
  store("branches", kept.map(({ text, about }) => ({ text, about })));
};
const changed = () => {
  saving ||= setTimeout(save, 500);
  tellCount();
  enableAll();
  if (!running) showPlace();
};

// ---- Asking the server; one thing at a time

// Do `work` with a signal that Stop gives. Tells what went wrong; true if nothing did.
const working = async (work, again) => {
  if (running) return false;
  running = { controller: new AbortController(), wake: null };
  trouble("");
  sheet.locked = true;
  enableAll();
  const { signal } = running.controller;
  try {
    await inTurn(() => work(signal), signal);
    return true;
  } catch (error) {
    if (!signal.aborted) refused(error, again);
    else {
      trouble("");
      tell("Stopped.");
    }
    return false;
  } finally {
    running = null;
    sheet.locked = false;
    changed();
  }
};
// Try again while the queue is full, when the server says so.
const inTurn = async (work, signal) => {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (error.status !== 429 || attempt === MOST_TRIES) throw error;
      await waited(error, signal);
    }
  }
};
const waited = async ({ message, wait }, signal) => {
  trouble(`The server is busy: ${message}.`, () => running?.wake?.());
  tell(`Trying again in ${wait} s; Stop gives up.`);
  await new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * wait);
    running.wake = () => { clearTimeout(timer); resolve(); };
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
  trouble("");
};
const refused = (error, again) => {
  tell("");
  if (error.status === 401 || error.status === 403) return askForKey(error.message, again);
  const hint = error.code === "context_length_exceeded" ? ". Shorten it, or let the page send its end only (see Settings)" : "";
  return trouble(`${error.message}${hint}`, again);
};
const askForKey = (message, again) => {
  trouble(message, again);
  byId("again").hidden = true;
  byId("key-form").hidden = false;
  byId("key").focus();
};

// ---- Writing

// The text to send: all of it, or the end that has room, as far as that can be told by characters.
const sent = async (work, text, room) => {
  try {
    return await work(text);
  } catch (error) {
    if (error.code !== "context_length_exceeded" || !byId("cut").checked) throw error;
    const tokens = Number(/(\d+) tokens/.exec(error.message)?.[1]);
    if (!tokens || !context || text.length < 2) throw error;
    const most = Math.max(Math.floor(0.9 * text.length * Math.max(context - room, context / 2) / tokens), 1);
    const end = text.slice(Math.max(text.length - most, 1));
    const whole = end.slice(Math.max(end.search(/\s/), 0));
    tell(`The text is longer than the context: its last ${plural(whole.length, "character")} are sent.`);
    return sent(work, whole.trim() ? whole : end, room);
  }
};

const write = async ({ about = "continued", fresh = false } = {}) => {
  if (running) return;
  const begun = sheet.state;
  const request = settings.request(fresh);
  if (about !== "branch") keepBranch("edited"); // where it branches off is kept already
  const run = { written: "", parts: [], finish: null, seed: request.seed };
  sheet.step();
  tell("Writing \u2026");
  const done = await working((signal) => sent((prompt) => writeOn(begun, run, { ...request, prompt }, signal), begun.text, request.max_tokens), () => write({ about }));
  if (!run.written && !run.parts.length) {
    if (sheet.past.at(-1)?.text === begun.text) sheet.past.pop();
    if (done) tell("The model ended the text here.");
    enableAll();
    return;
  }
  lastRun = { before: begun, after: sheet.text, seed: run.seed };
  keepBranch(`${about}, seed ${run.seed}`);
  const why = { stop: ": the text has come to an end", length: "" }[run.finish] ?? ": stopped";
  tell(`Wrote ${plural(run.parts.length, "token")} with seed ${run.seed}${why}.`);
  enableAll();
};
const writeOn = async (begun, run, request, signal) => {
  let drawn = 0;
  const draw = (more) => {
    drawn = 0;
    const text = begun.text + run.written;
    const follow = sheet.endInSight;
    const groups = placed(groupsOf(run.parts, more), text, begun.text.length);
    sheet.show({ text, groups: [...begun.groups, ...groups] }, true);
    if (follow) sheet.followEnd();
  };
  try {
    for await (const piece of stream(request, signal)) {
      const [choice] = piece.choices;
      if (choice) {
        run.written += choice.text.replace(/\r\n?/g, "\n"); // as the editor has it
        run.parts.push(...(choice.logprobs ? partsOf(choice.logprobs) : []));
        run.finish = choice.finish_reason ?? run.finish;
        drawn ||= requestAnimationFrame(() => draw(true));
      }
      if (piece.usage) run.usage = piece.usage;
    }
  } finally {
    cancelAnimationFrame(drawn);
    if (run.usage && request.prompt === begun.text) used = { text: begun.text + run.written, tokens: run.usage.total_tokens };
    if (run.written || run.parts.length) draw(false);
  }
};

const regenerate = () => {
  const { before } = lastRun;
  sheet.replace(before);
  return write({ about: "written anew", fresh: true });
};

const score = async () => {
  const { text } = sheet;
  tell("Scoring \u2026");
  const { logprobs } = settings.values;
  const work = async (signal) => {
    const answer = await complete({ prompt: text, echo: true, max_tokens: 0, logprobs }, signal);
    const groups = placed(groupsOf(partsOf(answer.choices[0].logprobs)), text, 0);
    used = { text, tokens: answer.usage.prompt_tokens };
    sheet.show({ text, groups });
    const each = bitsEach(groups);
    tell(`Scored ${plural(answer.usage.prompt_tokens, "token")}${each === null ? "" : `: ${each.toFixed(2)} bits a token`}.`);
  };
  await working(work, score);
};

// What may follow the text: a place without a token.
const whatFollows = async () => {
  const { text } = sheet;
  const { logprobs } = settings.values;
  await working((signal) => sent(async (prompt) => {
    const answer = await complete({ prompt, max_tokens: 1, temperature: 0, logprobs }, signal);
    const [part] = partsOf(answer.choices[0].logprobs);
    if (part) following = { text, group: { parts: [{ ...part, name: null }], start: text.length, end: text.length, logprob: null, text: "" } };
    tell(part ? "What may follow is listed." : "Nothing may follow but the end.");
  }, text, 1), whatFollows);
  if (following?.text === text) byId("alternatives").querySelector("button")?.focus();
};
let following = null;

// ---- The place of the caret

let shownPlace = null;
const showPlace = () => {
  const atEnd = following?.text === sheet.text && sheet.editor.selectionStart === sheet.text.length;
  const group = atEnd ? following.group : sheet.atCaret;
  const listed = `${group?.start} ${group?.end} ${group?.logprob} ${atEnd} ${sheet.text.slice(0, group?.end)}`;
  if (listed === shownPlace) return;
  shownPlace = listed;
  sheet.mark(atEnd ? null : group);
  byId("token").replaceChildren(...(atEnd ? ["The end of the text"] : group ? tokenFacts(group) : [sheet.text ? "No token is known here. Score shows those of the text." : "The text is empty."]));
  byId("alternatives").replaceChildren(...(group ? choiceLists(group) : []));
};
const tokenFacts = (group) => {
  const bytes = group.parts.length > 1 ? [["tokens", String(group.parts.length)]] : [];
  const known = group.logprob === null ? [["probability", "none: no token comes before it"]]
    : [["probability", percent(group.logprob)], ["surprisal", `${(-group.logprob / Math.LN2).toFixed(2)} bits`]];
  return [facts(["token", label(group.text)], ...bytes, ...known)];
};
const choiceLists = (group) => choicesOf(group).flatMap((choices, place) => {
  const title = group.parts.length > 1 ? [el("h3", {}, `Part ${place + 1} of ${group.parts.length}`)] : [];
  if (!choices.length) return title;
  const list = el("ul", { class: "choices", "aria-label": "What could stand here" }, ...choices.map((choice) => choiceRow(group, place, choice)));
  if (list.querySelector("button")) choosing(list, () => {}, ["focusin"]);
  return [...title, list];
});
const choiceRow = (group, place, choice) => {
  const shown = label(choice.text ?? choice.name.replace("bytes:", "").replaceAll("\\x", " ").trim());
  const chance = el("data", { value: String(choice.logprob) }, percent(choice.logprob));
  if (choice.own || choice.text === null) { // a part of a character is no text to go on from
    return el("li", {}, el("span", { class: choice.own ? "fixed own" : "fixed" }, ...(choice.own ? ["\u2713 "] : []), shown), chance);
  }
  const button = vary(el("button", { type: "button" }, shown), { "--w": Math.exp(choice.logprob) });
  button.setAttribute("aria-label", `Branch to ${choice.text.replaceAll("\n", " line end ")}, ${percent(choice.logprob)}`);
  button.addEventListener("click", () => branch(group, place, choice));
  return el("li", {}, button, chance);
};
const branch = (group, place, choice) => {
  if (running) return;
  keepBranch("edited");
  const kept = sheet.groups.filter(({ end }) => end <= group.start);
  const taken = groupOfChoice(group, place, choice);
  sheet.replace({ text: sheet.text.slice(0, group.start) + choice.text, groups: [...kept, taken] });
  sheet.editor.focus({ preventScroll: true });
  if (byId("go-on").checked) write({ about: "branch" });
  else {
    keepBranch("branch");
    tell("The text ends at the choice.");
  }
};

// ---- Branches

// Keep the text as it is, unless it is kept.
const keepBranch = (about) => {
  if (!sheet.text) return;
  const { text, groups } = sheet.state;
  const known = branches.find((one) => one.text === text);
  if (known) known.groups = groups;
  else branches = [{ text, groups, about }, ...branches].slice(0, MOST_BRANCHES);
  listBranches();
};
const listBranches = () => {
  byId("branch-count").textContent = branches.length ? `(${branches.length})` : "";
  byId("history").replaceChildren(...branches.map((one) => {
    const end = one.text.trimEnd().slice(-60);
    const button = el("button", { type: "button" }, `${one.about}: `, el("bdi", {}, `\u2026${end}`));
    button.addEventListener("click", () => {
      if (running) return;
      keepBranch("edited");
      sheet.replace({ text: one.text, groups: one.groups ?? [] });
      listBranches();
      tell("Another branch is shown.");
    });
    if (one.text === sheet.text) button.setAttribute("aria-current", "true");
    return el("li", {}, button);
  }));
};

// ---- Files

const fresh = (text) => {
  keepBranch("edited");
  sheet.replace({ text: text.replace(/\r\n?/g, "\n"), groups: [] });
  sheet.editor.focus();
};
const download = () => {
  const link = el("a", { href: URL.createObjectURL(new Blob([sheet.text], { type: "text/plain;charset=utf-8" })), download: "text.txt" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};
const copy = async () => {
  try {
    await navigator.clipboard.writeText(sheet.text);
  } catch { // no permission, or no https
    sheet.editor.select();
    document.execCommand("copy");
  }
  tell("The text is copied.");
};
const upload = async ({ target }) => {
  const [file] = target.files;
  if (!file || running) return;
  if (file.size > 5_000_000) return trouble(`${file.name} is larger than 5 MB.`);
  try {
    fresh(new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()));
    tell("The file is open.");
  } catch {
    trouble(`${file.name} is no text in UTF-8.`);
  }
  target.value = "";
};

// ---- The page

const meet = async () => {
  try {
    const [model] = await models();
    context = model.max_model_len ?? null;
    document.title = `${model.id} \u2013 gptcli`;
    byId("model").replaceChildren(label(model.id), el("small", { class: "note" }, context ? ` context ${context} tokens` : ""));
    if (context) settings.bound(context);
    tellCount();
  } catch (error) {
    refused(error, meet);
  }
};
const stop = () => running?.controller.abort();

onPress("continue", () => write());
onPress("stop", stop);
onPress("undo", () => { sheet.undo(); tell("Undone."); });
onPress("redo", () => { sheet.redo(); tell("Done again."); });
onPress("regenerate", regenerate);
onPress("score", score);
onPress("next", whatFollows);
onPress("again", () => { const act = failed; trouble(""); act?.(); });
onPress("dismiss", () => trouble(""));
onPress("copy", copy);
onPress("download", download);
onPress("new", () => { fresh(""); tell("A new text. The last one is among the branches."); });
onPress("forget", () => { branches = []; listBranches(); save(); });
onPress("save-preset", () => {
  const name = byId("preset-name").value.trim();
  tell(settings.savePreset(name) ? `The preset ${name} is kept.` : "A preset needs a name of its own.");
});
onPress("drop-preset", () => {
  const { value } = settings.presets;
  tell(settings.dropPreset(value) ? `The preset ${value} is deleted.` : "Choose one of your own presets.");
});
byId("presets").addEventListener("change", ({ target }) => {
  if (!target.value) return;
  settings.takePreset(target.value);
  byId("preset-name").value = target.value;
});
byId("upload").addEventListener("change", upload);
byId("colours").addEventListener("change", ({ target }) => colour(target.checked));
const colour = (shown) => {
  byId("under").classList.toggle("plain", !shown);
  byId("legend").hidden = !shown;
  store("colours", shown);
};
byId("cut").addEventListener("change", ({ target }) => store("cut", target.checked));
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value.trim());
  byId("key").value = "";
  byId("key-form").hidden = true;
  const act = failed;
  trouble("");
  sheet.editor.focus();
  meet().then(() => act !== meet && byId("key-form").hidden && act?.());
});

addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const chord = event.ctrlKey || event.metaKey;
  if (chord && event.key === "Enter") write();
  else if (event.key === "Escape" && running) stop();
  else if (event.key === "Escape" && byId("place").contains(event.target)) sheet.editor.focus();
  else if (chord && event.target === sheet.editor && /^[zZyY]$/.test(event.key)) {
    if (event.key === "z") sheet.undo();
    else sheet.redo();
  } else return;
  event.preventDefault();
});
const caretMoved = () => {
  if (!running && document.activeElement === sheet.editor) showPlace();
};
document.addEventListener("selectionchange", caretMoved);
for (const kind of ["keyup", "click"]) sheet.editor.addEventListener(kind, caretMoved); // older browsers
const dark = matchMedia("(prefers-color-scheme: dark)");
byId("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  store("theme", document.documentElement.dataset.theme);
});
addEventListener("pagehide", save);

const theme = stored("theme", null);
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
byId("legend").replaceChildren(...BANDS.map(([, name], place) => el("li", {}, el("span", { class: `chance chance-${place + 1}` }, name))));
byId("colours").checked = stored("colours", true);
colour(byId("colours").checked);
byId("cut").checked = stored("cut", false);
if (matchMedia("(max-width: 56rem)").matches) byId("settings-box").open = false;
branches = stored("branches", []).filter((one) => typeof one?.text === "string");
const text = stored("text", "");
sheet.show({ text: typeof text === "string" ? text : "", groups: [] }, true);
listBranches();
meet();
