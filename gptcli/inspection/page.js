// The other views, and the page around all of them.

const alternatives = (list, here) =>
  table(here === null ? "The likeliest" : "The likeliest here; \u2713 the text's own", ["token", "", "probability"],
    list.map(([id, text, logprob]) => [
      el("td", { class: id === here ? "same" : "" }, id === here ? "\u2713 " : "", label(text)),
      bars(bar(share(logprob))), figure(probability(logprob))]));
const listed = (list) => el("td", { class: "several" }, ...list.flatMap(([, text, logprob], place) =>
  [place ? ", " : "", label(text), " ", probability(logprob)]));

const BANDS = [[10, "1 to 10"], [100, "11 to 100"], [1000, "101 to 1000"], [Infinity, "beyond 1000"]];
const band = (rank) => 1 + BANDS.findIndex(([last]) => rank <= last);

// Radio buttons under a name; `choose` gets the value of the one chosen.
const options = (id, name, values, choose) => {
  const choices = el("fieldset", {}, el("legend", {}, name));
  values.forEach((value, place) => {
    const input = el("input", { type: "radio", name: id, value });
    input.checked = place === 0;
    input.addEventListener("change", () => choose(value));
    choices.append(el("label", {}, input, ` ${value}`));
  });
  return choices;
};

// A text whose tokens are not measured: where they begin and end, and what they are.
const drawTokens = (view, body) => {
  const { tokens } = view;
  const row = tokenRow(tokens);
  row.querySelectorAll("button").forEach((button, place) => button.classList.add(place % 2 ? "odd" : "even"));
  const { panel, both } = pair(row);
  const show = choosing(row, (place) => panel.replaceChildren(el("h3", {}, called(tokens[place]), tokenLabel(tokens[place])), identity(tokens[place])));
  body.append(both, scroll("Tokens", table("Tokens; of a part of a character, which part it is", ["", "token", "id", "bytes", "characters"],
    tokens.map((token) => [figure(nth(token)), cell(tokenLabel(token)), figure(whole(token.id)), cell(token.bytes), figure(`${token.start} to ${token.end}`)]))));
  show(0);
};
const identity = (token, ...more) => facts(["id", whole(token.id)], ["bytes", token.bytes], ["characters", `${token.start} to ${token.end}`],
  ...(token.surface && token.surface !== token.text ? [["stands for", label(token.surface)]] : []), ...more);

const drawText = (view, body, id) => {
  const { tokens } = view;
  if (tokens.every(({ rank }) => rank === null)) return drawTokens(view, body);
  const measured = tokens.filter(({ rank }) => rank !== null).length;
  const count = (number) => tokens.filter(({ rank }) => rank !== null && band(rank) === number).length;
  const keys = {
    rank: el("ul", { class: "histogram" }, ...BANDS.map(([, name], place) => el("li", {},
      el("span", { class: `band-${place + 1}` }, `rank ${name}`), bar(count(place + 1) / measured), whole(count(place + 1))))),
    probability: legend(...[0, 0.25, 0.5, 1].map((p) => [vary(el("span", { class: "shaded" }, `probability ${p}`), { "--s": p })])),
  };
  const row = tokenRow(tokens);
  const buttons = [...row.querySelectorAll("button")];
  const colour = (by) => {
    for (const [name, key] of Object.entries(keys)) key.hidden = name !== by;
    buttons.forEach((button, place) => {
      const { rank, logprob } = tokens[place];
      const kind = rank === null ? "unexpected" : by === "rank" ? `band-${band(rank)}` : "shaded";
      const chosen = button.classList.contains("chosen") ? "chosen" : "";
      vary(button, { "--s": share(logprob) }).className = `token ${kind} ${chosen}`;
    });
  };
  const choices = options(`${id}-by`, "Colour tokens by", Object.keys(keys), colour);
  const { panel, both } = pair(choices, ...Object.values(keys), row);
  const show = choosing(row, (place) => {
    const token = tokens[place];
    const expected = token.rank === null ? [["expected", "nothing: no token comes before it"]]
      : [["rank", whole(token.rank)], ["probability", probability(token.logprob)],
        ["log-probability", nats(token.logprob), " nats"], ["surprisal", surprisal(token.logprob), " bits"],
        ["entropy", bits(token.entropy), " bits"]];
    panel.replaceChildren(el("h3", {}, called(token), tokenLabel(token)), identity(token, ...expected),
      ...(token.top.length ? [alternatives(token.top, token.id)] : []));
  });
  body.append(both, later("All tokens as a table", () => table("Log-probabilities are natural logarithms; entropy is in bits",
    ["", "token", "id", "bytes", "rank", "probability", "log-probability", "entropy", "likeliest"],
    tokens.map((token) => [figure(nth(token)), cell(tokenLabel(token)), figure(whole(token.id)), cell(token.bytes),
      figure(whole(token.rank)), figure(probability(token.logprob)), figure(nats(token.logprob)),
      figure(bits(token.entropy)), listed(token.top.slice(0, 3))]))));
  colour("rank");
  show(0);
};

const drawNext = (view, body, id) => {
  const most = Math.max(...view.candidates.flatMap((one) => [one.probability, one.kept]), 1e-30);
  body.append(el("p", { class: "note" }, "After: ", label(view.text)),
    facts(...view.settings.map(([name, value]) => [name, whole(value)]), ["tokens kept", whole(view.remaining)],
      ["entropy before", bits(view.entropy), " bits"], ["entropy after", bits(view.kept_entropy), " bits"]),
    legend([bar(1), " before the settings"], [bar(1, "after"), " after them"]),
    scroll("What may come next", table("What may come next, likeliest first", ["token", "id", "", "before", "after"],
      view.candidates.map((one) => [cell(label(one.text)), figure(whole(one.id)),
        bars(bar(one.probability / most), ...(one.kept ? [bar(one.kept / most, "after")] : [])),
        figure(chance(one.probability)), figure(one.kept ? chance(one.kept) : "dropped")]))));
  if (view.temperatures.length) body.append(...temperature(view, id));
};
// The same tokens at any temperature, without other settings. The sums over the vocabulary are in the page.
const temperature = (view, id) => {
  const { candidates, temperatures } = view;
  const slider = el("input", { type: "range", id: `${id}-temperature`, min: 0, max: temperatures.length - 1, step: 1 });
  const told = el("output", { for: slider.id });
  const at = (one, place) => Math.exp(Math.log(one.probability) / temperatures[place][0] - temperatures[place][1]);
  const rows = candidates.slice(0, 10).map((one) => [cell(label(one.text)), bars(bar(0)), figure()]);
  const show = (place) => {
    const [heat, , entropy] = temperatures[place];
    told.replaceChildren(number(heat, (x) => x.toFixed(1)), ": entropy ", bits(entropy), " bits");
    slider.setAttribute("aria-valuetext", `temperature ${heat}`);
    rows.forEach(([, drawn, shown], row) => {
      const p = at(candidates[row], place);
      vary(drawn.firstChild, { "--w": p });
      shown.replaceChildren(chance(p));
    });
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  slider.value = Math.max(temperatures.findIndex(([heat]) => heat === 1), 0);
  const grid = table("Temperature alone: below 1 the likeliest gain, above 1 the others do", ["token", "", "probability"], rows);
  show(Number(slider.value));
  return [el("h3", {}, "Another temperature"),
    el("div", { class: "controls" }, el("label", { for: slider.id }, "Temperature"), slider, told), scroll("Another temperature", grid)];
};

const drawLens = (view, body, id) => {
  const { tokens, layers, ranks, names } = view;
  const titles = names.map((name) => (/^\d/.test(name) ? `layer ${name}` : "embed\u00addings"));
  const choice = ([, text, logprob]) => cell(vary(
    el("button", { type: "button", class: "cell" }, label(text), el("small", {}, probability(logprob))), { "--s": share(logprob) }));
  const grid = table("What each layer would say next, and how probable it finds it", ["after", ...titles],
    tokens.map((token, place) => [el("th", { scope: "row" }, `${nth(token)} `, tokenLabel(token)), ...layers.map((layer) => choice(layer[place][0]))]));
  const keys = {
    "rank of the last layer's choice": legend(...BANDS.map(([, name], place) => [el("span", { class: `band-${place + 1}` }, `rank ${name}`)])),
    probability: legend(...[0, 0.25, 0.5, 1].map((p) => [vary(el("span", { class: "shaded" }, `probability ${p}`), { "--s": p })])),
  };
  const buttons = [...grid.querySelectorAll("button")];
  const colour = (by) => {
    for (const [name, key] of Object.entries(keys)) key.hidden = name !== by;
    buttons.forEach((button, at) => {
      const kind = by === "probability" ? "shaded" : `band-${band(ranks[at % layers.length][Math.floor(at / layers.length)])}`;
      button.className = `cell ${kind} ${button.classList.contains("chosen") ? "chosen" : ""}`;
    });
  };
  const choices = options(`${id}-by`, "Colour by", Object.keys(keys), colour);
  const { panel, both } = pair(choices, ...Object.values(keys), scroll("What each layer would say", grid));
  const show = choosing(grid, (at) => {
    const [place, layer] = [Math.floor(at / layers.length), at % layers.length];
    panel.replaceChildren(el("h3", {}, `After ${called(tokens[place]).toLowerCase()}`, tokenLabel(tokens[place]), `, ${titles[layer]}`),
      facts(["rank of the last layer's choice", whole(ranks[layer][place])]), alternatives(layers[layer][place], null));
  });
  body.append(both);
  colour("rank of the last layer's choice");
  show(buttons.length - 1);
};

const drawAttribution = (view, body) => {
  const { tokens, scores } = view;
  const most = Math.max(...scores.map(Math.abs), 1e-30);
  const kind = (score) => (score < 0 ? "minus" : "plus");
  const [, text, logprob] = view.target;
  const row = tokenRow(tokens);
  row.querySelectorAll("button").forEach((button, place) =>
    vary(button, { "--s": Math.abs(scores[place]) / most }).classList.add("shaded", kind(scores[place])));
  const { panel, both } = pair(row);
  const show = choosing(row, (place) => panel.replaceChildren(el("h3", {}, called(tokens[place]), tokenLabel(tokens[place])),
    facts(["id", whole(tokens[place].id)], ["score", signed(scores[place])], ["speaks", scores[place] < 0 ? "against the target" : "for the target"])));
  body.append(facts(["target", label(text)], ["probability", probability(logprob)], ["method", view.method],
    ...[["log-odds", view.log_odds], ["of the baseline", view.baseline]].filter(([, odds]) => odds !== null).map(([name, odds]) => [name, nats(odds)]),
    ["sum of scores", signed(scores.reduce((sum, score) => sum + score, 0))]),
  legend(...[["plus", "for the target"], ["minus", "against it"]].map(([name, said]) => [vary(el("span", { class: `shaded ${name}` }, said), { "--s": 1 })])), both,
  scroll("Scores", table("Score of each token", ["", "token", "", "score"], tokens.map((token, place) => {
    const width = Math.abs(scores[place]) / most / 2;
    const one = bar(width, kind(scores[place]), scores[place] < 0 ? 0.5 - width : 0.5);
    return [figure(nth(token)), cell(tokenLabel(token)), el("td", { class: "bars signed" }, one), figure(signed(scores[place]))];
  }))));
  show(0);
};

// ---- The page

const DRAWN = {
  text: ["Tokens and their probabilities", drawText], tokens: ["Tokens", drawText], next: ["What may come next", drawNext],
  attention: ["Attention", drawAttention], lens: ["What each layer would say", drawLens],
  attribution: ["What speaks for the next token", drawAttribution],
};
// What the figures mean, a sentence each.
const EXPLAINED = {
  text: ["Rank: 1 for the token that the model found likeliest in this place, 2 for the next one, and so on.",
    "Surprisal: how unexpected the token was, \u2212log\u2082 of its probability, in bits; each bit halves the probability.",
    "Entropy: the surprisal to be expected in this place, in bits; near 0 the model was sure, high where much could follow."],
  tokens: ["Token: the unit that the model reads, a word, a part of one, or a few bytes; it has an id in the vocabulary."],
  next: ["Probability: the share of one token among all that may follow; over the vocabulary they sum to 1.",
    "Temperature divides the logits before they become probabilities; top-k, top-p and the like then drop the unlikely ones.",
    "Entropy: how open the choice is, in bits."],
  attention: ["Head: one of several parts of a layer, each of which mixes what it takes from the tokens so far.",
    "Weight: how much of that mix comes from one token; the weights of a token sum to 1.",
    "Many heads rest on the first token when they have nothing to do. Layers and heads count from 0."],
  lens: ["Logit lens: the state after a layer is read as if that layer were the last, which gives a guess of the next token.",
    "Embeddings are what goes into layer 0; layers count from 0.",
    "Rank: how many tokens that layer finds likelier than what the last layer will choose, plus one."],
  attribution: ["Log-odds: log(p / (1 \u2212 p)) of the target's probability p; 0 means one in two.",
    "Score: how much a token raises (+) or lowers (\u2212) the target's log-odds, by the gradient of what was read."],
};
const { views } = JSON.parse(document.getElementById("views").textContent);
const unmeasured = (view) => view.kind === "text" && view.tokens.every(({ rank }) => rank === null);
const rule = (view) => {
  if (unmeasured(view)) return [""];
  if (view.bos === null) return ["; the text was read alone, without a begin token before it"];
  return ["; the text was read after ", label(view.bos), " (--no-bos reads it alone)"];
};
const contents = el("ol");
readColours();
views.forEach((view, place) => {
  const [title, draw] = DRAWN[unmeasured(view) ? "tokens" : view.kind];
  const id = `view-${place + 1}`;
  const about = ["Model ", label(view.model), ...(view.revision === null ? [] : [", revision ", label(view.revision)]),
    view.tokens ? `, ${view.tokens.filter(({ index }) => index >= 0).length} tokens` : "", ...rule(view)];
  const body = el("section", { id, class: view.kind, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, title), el("p", { class: "about" }, ...about),
    el("ul", { class: "explained" }, ...EXPLAINED[unmeasured(view) ? "tokens" : view.kind].map((said) => el("li", {}, said))));
  if (view.note) body.append(el("p", { class: "note", role: "note" }, view.note));
  if (view.tokens && !view.tokens.length) body.append(el("p", {}, "The text is empty."));
  else draw(view, body, id);
  document.getElementById("main").append(body);
  contents.append(el("li", {}, el("a", { href: `#${id}` }, title)));
});
if (views.length > 1) document.getElementById("contents").append(contents);
redraw();

const dark = matchMedia("(prefers-color-scheme: dark)");
document.getElementById("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  redraw();
});
dark.addEventListener("change", redraw);
// On paper nothing can be hovered: the tables are opened, and closed again afterwards.
const closed = new Set();
const onPaper = (printed) => {
  document.documentElement.classList.toggle("paper", printed);
  for (const node of document.querySelectorAll("details")) {
    if (printed && !node.open) closed.add(node);
    if (printed) node.make();
    node.open = printed || (node.open && !closed.has(node));
  }
  if (!printed) closed.clear();
  redraw();
};
matchMedia("print").addEventListener("change", ({ matches }) => onPaper(matches));
addEventListener("beforeprint", () => onPaper(true));
addEventListener("afterprint", () => onPaper(false));
