// Attention: one head as a heat map and as a text that looks at itself, and all heads small.

const repaint = []; // what to draw again when the colours change
let colours = []; // of weight 0 and 1 in this light: only an element can tell them, and slowly
const readColours = () => {
  colours = ["--paper", "--map"].map((name) => {
    const probe = vary(el("i"), { color: `var(${name})` });
    document.body.append(probe);
    const found = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
    probe.remove();
    return found;
  });
};
const redraw = () => {
  readColours();
  for (const draw of repaint) draw();
};
// Ten-thousandths, row after row of the lower triangle, head after head.
const decoded = (text) => {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let place = 0; place < packed.length; place += 1) bytes[place] = packed.charCodeAt(place);
  return new Uint16Array(bytes.buffer);
};
// A square of at most `side` points: each the greatest weight under it, by its square root.
const paint = (canvas, weight, count, side) => {
  const size = Math.min(count, side);
  const points = new Float32Array(size * size);
  for (let i = 0; i < count; i += 1) {
    const line = Math.floor((i * size) / count) * size;
    for (let j = 0; j <= i; j += 1) {
      const at = line + Math.floor((j * size) / count);
      points[at] = Math.max(points[at], weight(i, j));
    }
  }
  const [none, all] = colours;
  const image = new ImageData(size, size);
  points.forEach((value, at) => {
    const depth = Math.sqrt(value / 10000);
    for (let k = 0; k < 3; k += 1) image.data[4 * at + k] = none[k] + (all[k] - none[k]) * depth;
    image.data[4 * at + 3] = 255;
  });
  canvas.width = canvas.height = size;
  // A context that is read stays in memory: a graphics card's would take longer for 144 of them.
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
};

// The tokens twice, and a line from each to those that it looks at: the wider, the greater the weight.
const LINE_HEIGHT = 22;
const drawLines = (tokens, weightNow, fromNow, look) => {
  const column = (name) => el("div", { class: "column" }, el("b", {}, name), ...tokens.map((token) => el("span", {}, tokenLabel(token))));
  const [left, right] = [column("looks"), column("is looked at")];
  const canvas = el("canvas", { role: "img", "aria-label": "Lines from each token to those that it looks at; the tables have the weights" });
  const node = el("div", { class: "lines" }, left, canvas, right);
  [...left.children].slice(1).forEach((span, place) => span.addEventListener("pointerover", () => look(place)));
  const draw = () => {
    const [width, height] = [canvas.clientWidth, LINE_HEIGHT * (tokens.length + 1)];
    if (!width) return; // hidden
    const scale = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [width * scale, height * scale];
    vary(canvas, { "--h": `${height}px` });
    const pen = canvas.getContext("2d");
    const [, all] = colours;
    const weight = weightNow();
    const from = fromNow();
    pen.scale(scale, scale);
    pen.clearRect(0, 0, width, height);
    const y = (place) => LINE_HEIGHT * (place + 1.5);
    const stroke = (i, strength) => {
      for (let j = 0; j <= i; j += 1) {
        const share = weight(i, j) / 10000;
        if (share < 0.01) continue;
        pen.strokeStyle = `rgba(${all.slice(0, 3).join(", ")}, ${Math.min(1, strength * Math.sqrt(share))})`;
        pen.lineWidth = 1 + 5 * share;
        pen.beginPath();
        pen.moveTo(2, y(i));
        pen.bezierCurveTo(width / 3, y(i), (2 * width) / 3, y(j), width - 2, y(j));
        pen.stroke();
      }
    };
    tokens.forEach((_, i) => i !== from && stroke(i, 0.25));
    stroke(from, 1);
    [left, right].forEach((side, which) => [...side.children].slice(1).forEach((span, place) =>
      vary(span, { "--s": which ? (place <= from ? weight(from, place) / 10000 : 0) : Number(place === from) })));
  };
  return { node, draw };
};

const drawAttention = (view, body, id) => {
  const { tokens, layers, heads } = view; // the numbers of those that are here
  const n = tokens.length;
  const size = (n * (n + 1)) / 2;
  const packed = decoded(view.weights);
  const weightOf = (l, h) => (i, j) => packed[(l * heads.length + h) * size + (i * (i + 1)) / 2 + j];
  const four = (value) => number(value / 10000, (w) => w.toFixed(4));
  let [layer, head, from] = [0, 0, n - 1];
  // How much a head looks at single tokens that are neither the first nor the one that looks.
  const focus = (l, h) => {
    let sum = 0;
    for (let i = 2; i < n; i += 1) {
      let most = 0;
      for (let j = 1; j < i; j += 1) most = Math.max(most, weightOf(l, h)(i, j));
      sum += most;
    }
    return sum;
  };
  const foci = layers.flatMap((_, l) => heads.map((__, h) => focus(l, h)));
  const first = foci.indexOf(Math.max(...foci));
  const title = (l = layer, h = head) => `layer ${layers[l]}, head ${heads[h]}`;
  // What token i looks at, most first: [token, weight].
  const seen = (i) => {
    const weight = weightOf(layer, head);
    return Array.from({ length: i + 1 }, (_, j) => [j, weight(i, j)]).sort((a, b) => b[1] - a[1]);
  };

  const row = tokenRow(tokens);
  const buttons = [...row.querySelectorAll("button")];
  const side = (kind) => el("div", { class: kind, "aria-hidden": "true" }, ...tokens.map((token) => el("span", {}, tokenLabel(token))));
  const canvas = el("canvas", { role: "img" });
  const mark = el("div", { class: "mark" });
  const lines = drawLines(tokens, () => weightOf(layer, head), () => from, (place) => look(place));
  const map = vary(el("div", { class: "map" }, side("across"), side("down"), canvas, mark), { "--n": n });
  const shown = { "heat map": scroll("Heat map", map), "lines between tokens": scroll("Lines between tokens", lines.node) };
  const showAs = (name) => {
    for (const [one, node] of Object.entries(shown)) node.hidden = one !== name;
    lines.draw();
  };
  const { panel, both } = pair(row, options(`${id}-as`, "Show as", Object.keys(shown), showAs), ...Object.values(shown));
  const values = later("Where each token looks most, as a table", () => table(
    `The five greatest weights of each token, ${title()}`, ["", "token", "looks at"], tokens.map((token, i) => [
      figure(nth(token)), cell(tokenLabel(token)),
      cell(...seen(i).slice(0, 5).flatMap(([j, weight], place) => [place ? ", " : "", `${nth(tokens[j])} `, tokenLabel(tokens[j]), " ", four(weight)]))])));
  const showToken = () => {
    const found = seen(from);
    for (const button of buttons) button.classList.remove("shaded");
    for (const [j, weight] of found) vary(buttons[j], { "--s": weight / 10000 }).classList.add("shaded");
    vary(mark, { "--i": from });
    lines.draw();
    panel.replaceChildren(el("h3", {}, called(tokens[from]), tokenLabel(tokens[from]), ` in ${title()}`),
      table("looks at, most first", ["", "token", "", "weight"], found.map(([j, weight]) =>
        [figure(nth(tokens[j])), cell(tokenLabel(tokens[j])), bars(bar(weight / 10000)), figure(four(weight))])));
  };
  const showHead = () => {
    canvas.setAttribute("aria-label", `Heat map of ${n} by ${n} tokens, ${title()}; the tables have its values`);
    paint(canvas, weightOf(layer, head), n, n);
    if (values.open) values.make();
  };

  const grid = vary(el("div", { class: "heads", role: "group", "aria-label": "All heads: the arrow keys go from one to the next" }, el("span")), { "--n": heads.length });
  grid.append(...heads.map((one) => el("span", {}, `head ${one}`)));
  layers.forEach((one, l) => {
    grid.append(el("span", {}, `layer ${one}`));
    heads.forEach((_, h) => {
      const small = el("canvas");
      grid.append(el("button", { type: "button", "aria-label": title(l, h) }, small));
      repaint.push(() => paint(small, weightOf(l, h), n, 48));
    });
  });
  const picker = (name, numbers) => {
    const select = el("select", { id: `${id}-${name}` }, ...numbers.map((one) => el("option", {}, String(one))));
    select.addEventListener("change", () => chooseHead(layerOf.selectedIndex * heads.length + headOf.selectedIndex));
    return select;
  };
  const [layerOf, headOf] = [picker("layer", layers), picker("head", heads)];
  const chooseHead = choosing(grid, (place) => {
    [layer, head] = [Math.floor(place / heads.length), place % heads.length];
    [layerOf.selectedIndex, headOf.selectedIndex] = [layer, head];
    showHead();
    showToken();
  }, ["focusin", "click"]);
  const look = choosing(row, (place) => {
    from = place;
    showToken();
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = Math.floor((event.offsetY / canvas.clientHeight) * n);
    if (at !== from && at >= 0 && at < n) look(at);
  });
  body.append(el("div", { class: "controls" }, el("label", { for: layerOf.id }, "Layer"), layerOf, el("label", { for: headOf.id }, "Head"), headOf), both,
    el("p", { class: "note" }, "A row of the map is a token that looks, a column one that is looked at. The shade goes by the square root of the weight. The head shown first is the one that looks most at single tokens, other than the first and itself."),
    values, el("h3", {}, "All heads"), scroll("All heads", grid));
  showAs("heat map");
  chooseHead(first);
  look(n - 1);
  repaint.push(showHead, lines.draw);
};
