"""The views of `gptcli inspect` as lines for a terminal or a pipe.

With styles, colours say how likely, how strong or for which side; without, the same is said by
numbers, signs and the length of bars, since a coloured text without colours says nothing. Whatever
does not fit the canvas is cut, and what is left out is said in the drawing. Heat maps are in
`gptcli.cli.output.heatmaps`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gptcli.cli.output.drawing import DIM, PLAIN_BAR, Canvas, StyledLine, bar, on, prose, table
from gptcli.inspection.colours import AGAINST, BANDS, FOR, NAMES, OF_BANDS, Colour, band, code, ramp
from gptcli.inspection.labels import BREAK, fitted, label, visible, width
from gptcli.inspection.views import AttributionView, LensView, NextView, TextView, TokenView
from gptcli.protocol import Alternative
from gptcli.system.sanitizer import sanitize
from gptcli.system.units import percent

LABEL = 20  # columns that a token's label takes at most
CUES = "", "", "bold ", "bold underline "  # of the bands, for who sees no colours


def coloured(view: TextView, by_rank: bool) -> list[StyledLine]:
    """The text itself, each token on the colour of its rank or probability, and a legend.

    Tokens that share a character are shown as one, the least expected of them.
    """
    flow: StyledLine = []
    for group in _groups(view.tokens):
        text = view.text[group[0].start : group[-1].end]
        flow.append((sanitize(text).replace("\n", BREAK + "\n"), _style(group, by_rank)))
    return [flow, [], _legend(view.tokens) if by_rank else _scale()]


def measured(view: TextView) -> list[StyledLine]:
    """A line a token: rank, probability, entropy, and the likeliest in its place."""
    rows = []
    for token in view.tokens:
        alternatives = "  ".join(map(_alternative, token.top))
        cells = [str(token.index), fitted_label(token, LABEL), "-", "-", "-", alternatives]
        if token.logprob is not None:
            cells[2:5] = [str(token.rank), percent(math.exp(token.logprob)), f"{token.entropy:.2f}"]
        rows.append(cells)
    head = ["", "token", "rank", "prob", "entropy", "likeliest"]
    return [*table(head, rows, right=(0, 2, 3, 4)), [], _counts(view.tokens)]


def tokens(view: TextView) -> list[StyledLine]:
    """A line a token: its id, its place in the text, its bytes."""
    rows = [
        [
            str(token.index),
            str(token.id),
            f"{token.start}-{token.end}",
            fitted_label(token, LABEL),
            token.raw.hex(" "),
        ]
        for token in view.tokens
    ]
    return table(["", "id", "place", "token", "bytes"], rows, right=(0, 1))


def following(view: NextView, canvas: Canvas) -> list[StyledLine]:
    """Two bars a token: how likely it is, and what the settings make of that."""
    shown = [fitted(visible(one.text), LABEL).rstrip() for one in view.candidates]
    wide = max(map(width, ["token", *shown]))
    room = canvas.room(wide + 24, 2 * PLAIN_BAR) // 2
    lines = [*prose(_settings(view), canvas), []]
    blank = " " * (room + 2)
    lines.append([(f"{'token':{wide}}  {'model':>7}{blank}{'settings':>9}", DIM)])
    for one, text in zip(view.candidates, shown, strict=True):
        line: StyledLine = [(text + " " * (wide - width(text)), "" if one.kept else DIM)]
        line.append((f"  {percent(one.probability):>7} ", "" if one.kept else DIM))
        line.append((f"{bar(one.probability, room):{room}}", code(ramp(0.5))))
        line.append((f"  {percent(one.kept) if one.kept else '-':>8} ", "" if one.kept else DIM))
        line.append((bar(one.kept, room), code(ramp(0.85))))
        lines.append(line)
    return lines


def lens(view: LensView, position: int, canvas: Canvas) -> list[StyledLine]:
    """What each layer would say after one token: a line a layer, 0 being the embeddings."""
    rows = []
    for layer, places in enumerate(view.layers):
        rank = str(view.ranks[layer, position])
        rows.append([str(layer), rank, "  ".join(map(_alternative, places[position]))])
    final = visible(view.layers[-1][position][0].token)
    after = label(view.tokens[position])
    title = f"after token {position}, {after}: rank of {final}, and what each layer finds likeliest"
    return [*prose(title, canvas), [], *table(["layer", "rank", "likeliest"], rows, right=(0, 1))]


def attribution(view: AttributionView, canvas: Canvas) -> list[StyledLine]:
    """A bar a token, as long as its score: full where it speaks for the target, grey against."""
    labels = [fitted_label(token, LABEL) for token in view.tokens]
    wide = max(map(width, labels))
    room = canvas.room(wide + 12, 2 * PLAIN_BAR)
    largest = max(map(abs, view.scores)) or 1.0
    lines: list[StyledLine] = [*prose(_explained(view), canvas), []]
    for text, score in zip(labels, view.scores, strict=True):
        sign = "█" if score >= 0 else "▒"
        drawn = bar(abs(score) / largest, room, sign)
        style = code(FOR if score >= 0 else AGAINST)
        lines.append([(f"{text}{' ' * (wide - width(text))} {score:+9.3f} ", ""), (drawn, style)])
    return lines


def fitted_label(token: TokenView, columns: int) -> str:
    """A token's label, cut to so many columns at most."""
    return fitted(label(token), columns).rstrip()


def _groups(tokens: Sequence[TokenView]) -> Iterator[list[TokenView]]:
    """Tokens that share no character with others; those that do, together."""
    group: list[TokenView] = []
    for token in tokens:
        if group and token.start >= max(one.end for one in group):
            yield group
            group = []
        group.append(token)
    if group:
        yield group


def _style(group: Sequence[TokenView], by_rank: bool) -> str:
    ranks = [token.rank for token in group if token.rank is not None]
    logprobs = [token.logprob for token in group if token.logprob is not None]
    if by_rank:
        return CUES[band(max(ranks))] + on(OF_BANDS[band(max(ranks))]) if ranks else DIM
    return on(ramp(math.exp(min(logprobs)))) if logprobs else DIM


def _legend(tokens: Sequence[TokenView]) -> StyledLine:
    line: StyledLine = []
    for place, (name, count) in enumerate(zip(NAMES, _tally(tokens), strict=True)):
        line += [(f" {name} ", CUES[place] + on(OF_BANDS[place])), (f" {count}  ", "")]
    return line


def _scale() -> StyledLine:
    shown: Iterator[Colour] = (ramp(step / 20) for step in range(21))
    return [("probability 0 ", ""), *((" ", on(colour)) for colour in shown), (" 1", "")]


def _counts(tokens: Sequence[TokenView]) -> StyledLine:
    named = (f"{name}: {count}" for name, count in zip(NAMES, _tally(tokens), strict=True))
    return [("ranks  " + "  ".join(named), DIM)]


def _tally(tokens: Sequence[TokenView]) -> list[int]:
    """How many tokens are in each band of ranks."""
    bands = [band(token.rank) for token in tokens if token.rank is not None]
    return [bands.count(place) for place in range(len(BANDS) + 1)]


def _alternative(one: Alternative) -> str:
    return f"{visible(one.token)} {percent(math.exp(one.logprob))}"


def _settings(view: NextView) -> str:
    named = ", ".join(f"{name} {value:g}" for name, value in view.settings)
    tokens = "token remains" if view.remaining == 1 else "tokens remain"
    entropy = f"entropy {view.entropy:.3f} nats, then {view.kept_entropy:.3f}"
    return f"{named or 'no settings'}: {view.remaining:,} {tokens}; {entropy}"


def _explained(view: AttributionView) -> str:
    target = visible(view.target.token)
    probability = percent(math.exp(view.target.logprob))
    what = f"what speaks for {target} as the next token, whose probability is {probability}"
    total = sum(view.scores)
    if view.log_odds is None or view.baseline is None:
        return f"{what}; {view.method} of its log-odds, sum {total:.3f}"
    gained = view.log_odds - view.baseline
    return (
        f"{what}; {view.method}: sum {total:.3f}; log-odds {view.log_odds:.3f}"
        f" less {view.baseline:.3f} of the baseline are {gained:.3f}"
    )
