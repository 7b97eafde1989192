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
from gptcli.inspection.labels import BREAK, fitted, label, visible
from gptcli.inspection.plots import reading_rule
from gptcli.inspection.views import AttributionView, LensView, NextView, TextView, TokenView
from gptcli.protocol import Alternative
from gptcli.system.sanitizer import sanitize
from gptcli.system.text.characters import width
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
    legend = rank_legend(_tally(view.tokens)) if by_rank else _scale()
    return [flow, [], legend, [(reading_rule(view), DIM)]]


def measured(view: TextView) -> list[StyledLine]:
    """A line a token: rank, probability, entropy, and the likeliest in its place."""
    rows = []
    for token in view.tokens:
        alternatives = "  ".join(map(_alternative, token.top))
        cells = [str(token.index), fitted_label(token, LABEL), "-", "-", "-", alternatives]
        if token.logprob is not None:
            cells[2:5] = [
                str(token.rank),
                percent(math.exp(token.logprob)),
                _bits(token.entropy_bits),
            ]
        rows.append(cells)
    head = ["", "token", "rank", "prob", "entropy", "likeliest"]
    shown = table(head, rows, right=(0, 2, 3, 4))
    return [*shown, [], _counts(view.tokens), [(f"entropy in bits; {reading_rule(view)}", DIM)]]


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
    """What each layer would say after one row of tokens: a line a layer, the embeddings first."""
    ranks = [int(rank) for rank in view.ranks[:, position]]
    rows = [
        [name, str(rank), "  ".join(map(_alternative, places[position]))]
        for name, rank, places in zip(view.names, ranks, view.layers, strict=True)
    ]
    final = visible(view.layers[-1][position][0].token)
    token = view.tokens[position]
    after = label(token) if token.index < 0 else f"token {token.index}, {label(token)}"
    title = f"after {after}: rank of {final}, and what each layer finds likeliest"
    head, *shown = table(["layer", "rank", "likeliest"], rows, right=(0, 1))
    if canvas.styled:
        shown = [_ranked(line, rank) for line, rank in zip(shown, ranks, strict=True)]
    return [*prose(title, canvas), [], head, *shown, [], *prose(reading_rule(view), canvas, DIM)]


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
    rule = f"log-odds are log(p / (1 - p)), natural; {reading_rule(view)}"
    return [*lines, [], *prose(rule, canvas, DIM)]


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


def rank_legend(counts: Sequence[int] | None = None) -> StyledLine:
    """The colours of ranks, with how many tokens have them."""
    line: StyledLine = []
    for place, name in enumerate(NAMES):
        count = "  " if counts is None else f" {counts[place]}  "
        line += [(f" {name} ", CUES[place] + on(OF_BANDS[place])), (count, "")]
    return line


def _ranked(line: StyledLine, rank: int) -> StyledLine:
    """A line of the lens, with the colour of its rank on the rank."""
    [(text, style)] = line
    name, _, rest = text.partition(f" {rank}  ")
    colour = CUES[band(rank)] + on(OF_BANDS[band(rank)])
    return [(f"{name} ", style), (str(rank), colour), (f"  {rest}", style)]


def _bits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


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
    entropy = f"entropy {view.entropy_bits:.3f} bits, then {view.kept_entropy_bits:.3f}"
    return f"{named or 'no settings'}: {view.remaining:,} {tokens}; {entropy}; {reading_rule(view)}"


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
