"""Attention and the logit lens as heat maps made of characters.

A cell is a sign that is the denser the greater its number, in one colour that is seen on a light
and on a dark ground; the legend below a map gives the bounds of each sign. Every token is shown: a
map that is wider than the terminal is drawn in parts, one below the other. The grid of all heads
shows each map small, the greatest weight of a patch standing for the patch. Not here: maps as files
are in `gptcli.inspection.plots`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gptcli.cli.output.drawing import (
    DIM,
    SHADES,
    Canvas,
    StyledLine,
    StyledText,
    on,
    prose,
    shade,
)
from gptcli.cli.output.pictures import fitted_label, rank_legend
from gptcli.inspection.colours import FOR, OF_BANDS, band, code
from gptcli.inspection.labels import fitted, visible
from gptcli.inspection.plots import reading_rule
from gptcli.inspection.records import named
from gptcli.inspection.views import EMBEDDINGS, AttentionView, LensView, TokenView

LABEL, CELL = 14, 2  # columns
MAX_TILE = 16  # columns of a small map
GUESS = 10  # columns of a token in the grid of the lens
BOUNDS = "below 0.06", "to 0.25", "to 0.5", "to 0.75", "above"  # of `SHADES`


def heatmap(view: AttentionView, weights: Any, title: str, canvas: Canvas) -> list[StyledLine]:
    """One map of weights (T, T): a row for the token that looks, a column for what it looks at."""
    taken, count = LABEL + 6, len(view.tokens)
    cell = CELL if canvas.columns is None or taken + CELL * count <= canvas.columns else 1
    across = canvas.room(taken, cell * count) // cell or 1
    lines: list[StyledLine] = prose(title, canvas)
    for first in range(0, count, across):
        few = range(first, min(first + across, count))
        if first:
            lines.append([])
        numbers = column_numbers([view.tokens[place].index for place in few], cell)
        lines.append([(" " * taken + numbers, DIM)])
        for place in range(first, count):
            name = fitted(fitted_label(view.tokens[place], LABEL), LABEL)
            seen = weights[place, few.start : min(few.stop, place + 1)]
            cells = [_cell(float(share), cell, canvas) for share in seen]
            lines.append([(f"{_number(view.tokens[place]):>4} {name} ", ""), *cells])
    rule = "a row is the token that looks, a column the one that it looks at, by its number"
    return [*lines, *_legend(canvas), *prose(f"{rule}; {reading_rule(view)}", canvas, DIM)]


def grid(view: AttentionView, canvas: Canvas) -> list[StyledLine]:
    """A small map of every layer and head, a line of them for each layer, or several."""
    layers, heads = named(view)
    size = min(len(view.tokens), MAX_TILE)
    wide = max(size, len(f"L{layers[-1]} H{heads[-1]}")) + 2
    abreast = len(heads) if canvas.columns is None else max(canvas.columns // wide, 1)
    lines: list[StyledLine] = []
    for layer, of_layer in zip(layers, view.weights, strict=True):
        for start in range(0, len(heads), abreast):
            few = range(start, min(start + abreast, len(heads)))
            lines.append([(f"{f'L{layer} H{heads[place]}':{wide}}", DIM) for place in few])
            tiles = [list(_tile(_pooled(of_layer[place], size), canvas)) for place in few]
            for rows in zip(*tiles, strict=True):
                spans: StyledLine = []
                for row in rows:
                    spans += [row, (" " * (wide - size), "")]
                lines.append(spans)
            lines.append([])
    rule = "L is the layer, H the head; rows look at columns, the first token is at the left"
    return [*lines[:-1], *_legend(canvas), *prose(f"{rule}; {reading_rule(view)}", canvas, DIM)]


def lens_grid(view: LensView, canvas: Canvas) -> list[StyledLine]:
    """What every layer finds likeliest after every token, the last layer first.

    The colour is that of the rank which the layer gives to the last layer's choice.
    """
    left = len(EMBEDDINGS) + 1
    across = canvas.room(left, (GUESS + 1) * len(view.tokens)) // (GUESS + 1) or 1
    lines: list[StyledLine] = []
    for first in range(0, len(view.tokens), across):
        few = range(first, min(first + across, len(view.tokens)))
        heads = (fitted(fitted_label(view.tokens[place], GUESS), GUESS + 1) for place in few)
        lines.append([(" " * left + "".join(heads), DIM)])
        for depth in reversed(range(len(view.layers))):
            spans: StyledLine = [(f"{view.names[depth]:>{left - 1}} ", DIM)]
            for place in few:
                best = view.layers[depth][place][0]
                style = on(OF_BANDS[band(int(view.ranks[depth, place]))]) if canvas.styled else ""
                spans += [(fitted(visible(best.token), GUESS), style), (" ", "")]
            lines.append(spans)
        lines.append([])
    rule = "a column is what may follow its token, a row what that layer finds likeliest"
    lines += prose(f"{rule}; {reading_rule(view)}", canvas, DIM)
    if canvas.styled:
        lines += prose("colours: the rank of the last layer's choice in that layer", canvas, DIM)
        lines.append(rank_legend())
    return lines


def column_numbers(indices: Sequence[int], cell: int) -> str:
    """The numbers of columns, each ending with its column; as many as stay apart."""
    step = 10 if cell == 1 else 5 if max(indices) > 9 else 1
    line = ""
    for place, index in enumerate(indices, 1):
        room = place * cell - len(line)
        if index >= 0 and index % step == 0 and room > len(str(index)) - (not line):
            line += f"{index:>{room}}"
    return line


def _number(token: TokenView) -> str:
    """The number of a token; the begin token has none."""
    return "" if token.index < 0 else str(token.index)


def _cell(share: float, columns: int, canvas: Canvas) -> StyledText:
    return shade(share) * columns, _style(share, canvas)


def _style(share: float, canvas: Canvas) -> str:
    if not canvas.styled:
        return ""
    return DIM if shade(share) == SHADES[0] else code(FOR)


def _legend(canvas: Canvas) -> list[StyledLine]:
    """What each sign of a map stands for."""
    named = "  ".join(f"{sign} {bound}" for sign, bound in zip(SHADES, BOUNDS, strict=True))
    return [[], *prose(f"weights  {named}", canvas, DIM)]


def _tile(weights: Any, canvas: Canvas) -> Iterator[StyledText]:
    """A small map (S, S), two of its rows a line: the greater weight of the two."""
    rows: list[list[float]] = weights.tolist()
    if len(rows) % 2:
        rows.append([float("nan")] * len(rows[0]))
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        pairs = zip(upper, lower, strict=True)
        best = (max((one for one in pair if one == one), default=None) for pair in pairs)
        signs = "".join(" " if one is None else shade(one) for one in best)
        yield signs, code(FOR) if canvas.styled else ""


def _pooled(weights: Any, size: int) -> Any:
    """A map (T, T) as (size, size): each number the greatest of its patch, NaN for the future."""
    import numpy as np

    count = len(weights)
    past = np.where(np.tri(count, dtype=bool), weights, np.nan)
    starts = np.arange(size) * count // size
    return np.fmax.reduceat(np.fmax.reduceat(past, starts, axis=0), starts, axis=1)
