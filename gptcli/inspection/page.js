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

const drawText = (view, body, id) => {
  const { tokens } = view;
  const count = (number) => tokens.filter(({ rank }) => rank !== null && band(rank) === number).length;
  const keys = {
    rank: legend(...BANDS.map(([, name], place) => [el("span", { class: `band-${place + 1}` }, `rank ${name}`), " ", whole(count(place + 1))])),
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
  const choices = el("fieldset", {}, el("legend", {}, "Colour tokens by"));
  for (const by of Object.keys(keys)) {
    const input = el("input", { type: "radio", name: `${id}-by`, value: by });
    input.checked = by === "rank";
    input.addEventListener("change", () => colour(by));
    choices.append(el("label", {}, input, ` ${by}`));
  }
  const { panel, both } = pair(choices, ...Object.values(keys), row);
  const show = choosing(row, (place) => {
    const token = tokens[place];
    const expected = token.rank === null ? [["expected", "nothing: no token comes before it"]]
      : [["rank", whole(token.rank)], ["probability", probability(token.logprob)],
        ["log-probability", nats(token.logprob), " nats"], ["surprisal", bits(token.logprob), " bits"],
        ["entropy", nats(token.entropy), " nats"]];
    panel.replaceChildren(el("h3", {}, `Token ${place} `, tokenLabel(token)),
      facts(["id", whole(token.id)], ["bytes", token.bytes], ["characters", `${token.start} to ${token.end}`], ...expected),
      ...(token.top.length ? [alternatives(token.top, token.id)] : []));
  });
  body.append(both, later("All tokens as a table", () => table("Logarithms are natural; entropy in nats.",
    ["", "token", "id", "bytes", "rank", "probability", "log-probability", "entropy", "likeliest"],
    tokens.map((token, place) => [figure(String(place)), cell(tokenLabel(token)), figure(whole(token.id)), cell(token.bytes),
      figure(whole(token.rank)), figure(probability(token.logprob)), figure(nats(token.logprob)),
      figure(nats(token.entropy)), listed(token.top.slice(0, 3))]))));
  colour("rank");
  show(0);
};

const drawNext = (view, body) => {
  const most = Math.max(...view.candidates.flatMap((one) => [one.probability, one.kept]), 1e-30);
  body.append(el("p", { class: "note" }, "After: ", label(view.text)),
    facts(...view.settings.map(([name, value]) => [name, whole(value)]), ["tokens kept", whole(view.remaining)],
      ["entropy before", nats(view.entropy), " nats"], ["entropy after", nats(view.kept_entropy), " nats"]),
    legend([bar(1), " before the settings"], [bar(1, "after"), " after them"]),
    scroll("What may come next", table("What may come next, likeliest first", ["token", "id", "", "before", "after"],
      view.candidates.map((one) => [cell(label(one.text)), figure(whole(one.id)),
        bars(bar(one.probability / most), ...(one.kept ? [bar(one.kept / most, "after")] : [])),
        figure(chance(one.probability)), figure(one.kept ? chance(one.kept) : "dropped")]))));
};

const drawLens = (view, body) => {
  const { tokens, layers, ranks } = view;
  const titles = layers.map((_, l) => (l ? `layer ${l}` : "embed\u00addings"));
  const choice = ([, text, logprob]) => cell(vary(
    el("button", { type: "button", class: "cell shaded" }, label(text), el("small", {}, probability(logprob))), { "--s": share(logprob) }));
  const grid = table("What each layer would say next, and how probable it finds it", ["after", ...titles],
    tokens.map((token, place) => [el("th", { scope: "row" }, `${place} `, tokenLabel(token)), ...layers.map((layer) => choice(layer[place][0]))]));
  const { panel, both } = pair(scroll("What each layer would say", grid));
  const show = choosing(grid, (at) => {
    const [place, layer] = [Math.floor(at / layers.length), at % layers.length];
    panel.replaceChildren(el("h3", {}, `After token ${place} `, tokenLabel(tokens[place]), `, ${titles[layer]}`),
      facts(["rank of the last layer's choice", whole(ranks[layer][place])]), alternatives(layers[layer][place], null));
  });
  body.append(both);
  show(0);
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
  const show = choosing(row, (place) => panel.replaceChildren(el("h3", {}, `Token ${place} `, tokenLabel(tokens[place])),
    facts(["id", whole(tokens[place].id)], ["score", signed(scores[place])], ["speaks", scores[place] < 0 ? "against the target" : "for the target"])));
  body.append(facts(["target", label(text)], ["probability", probability(logprob)], ["method", view.method],
    ...[["log-odds", view.log_odds], ["of the baseline", view.baseline]].filter(([, odds]) => odds !== null).map(([name, odds]) => [name, nats(odds)]),
    ["sum of scores", signed(scores.reduce((sum, score) => sum + score, 0))]),
  legend(...[["plus", "for the target"], ["minus", "against it"]].map(([name, said]) => [vary(el("span", { class: `shaded ${name}` }, said), { "--s": 1 })])), both,
  scroll("Scores", table("Score of each token", ["", "token", "", "score"], tokens.map((token, place) => {
    const width = Math.abs(scores[place]) / most / 2;
    const one = bar(width, kind(scores[place]), scores[place] < 0 ? 0.5 - width : 0.5);
    return [figure(String(place)), cell(tokenLabel(token)), el("td", { class: "bars signed" }, one), figure(signed(scores[place]))];
  }))));
  show(0);
};

// ---- The page

const DRAWN = {
  text: ["Tokens and their probabilities", drawText], next: ["What may come next", drawNext],
  attention: ["Attention", drawAttention], lens: ["What each layer would say", drawLens],
  attribution: ["What speaks for the next token", drawAttribution],
};
const { views } = JSON.parse(document.getElementById("views").textContent);
const contents = el("ol");
readColours();
views.forEach((view, place) => {
  const [title, draw] = DRAWN[view.kind];
  const id = `view-${place + 1}`;
  const about = ["Model ", label(view.model), ...(view.revision === null ? [] : [", revision ", label(view.revision)]),
    view.tokens ? `, ${view.tokens.length} tokens` : ""];
  const body = el("section", { id, class: view.kind, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, title), el("p", { class: "about" }, ...about));
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
