"""Attention and the logit lens as heat maps made of characters.

A cell is two columns wide, about a square. A map that is wider than the terminal shows the last
tokens, and says so; the grid of all heads shows each map small, the greatest weight of a patch
standing for the patch. Not here: maps as files are in `gptcli.inspection.plots`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from gptcli.cli.output.drawing import DIM, Canvas, StyledLine, StyledText, on, prose, shade
from gptcli.cli.output.pictures import fitted_label
from gptcli.inspection.colours import code, ramp
from gptcli.inspection.labels import fitted, visible
from gptcli.inspection.records import named
from gptcli.inspection.views import AttentionView, LensView

LABEL, CELL = 14, 2
TILE = 16  # columns of a small map at most
GUESS = 10  # columns of a token in the grid of the lens


def heatmap(view: AttentionView, weights: Any, title: str, canvas: Canvas) -> list[StyledLine]:
    """One map of weights (T, T): a row for the token that looks, a column for what it looks at."""
    labels = [fitted_label(token, LABEL) for token in view.tokens]
    count = canvas.room(LABEL + 6, CELL * len(labels)) // CELL or 1
    first = len(labels) - count
    heads = "".join(f"{place % 100:>{CELL}}" for place in range(first, len(labels)))
    lines: list[StyledLine] = [*prose(title, canvas), [(" " * (LABEL + 6) + heads, DIM)]]
    for place in range(first, len(labels)):
        name = fitted(labels[place], LABEL)
        cells = [_cell(float(share), canvas) for share in weights[place, first : place + 1]]
        lines.append([(f"{place:4} {name} ", ""), *cells])
    if first:
        lines += prose(_hidden(count, len(labels)), canvas)
    return lines


def grid(view: AttentionView, canvas: Canvas) -> list[StyledLine]:
    """A small map of every layer and head, a line of them for each layer, or several."""
    layers, heads = named(view)
    size = min(len(view.tokens), TILE)
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
                    spans += [*row, (" " * (wide - size), "")]
                lines.append(spans)
            lines.append([])
    return lines[:-1]


def lens_grid(view: LensView, canvas: Canvas) -> list[StyledLine]:
    """What every layer finds likeliest after every token, the last layer first."""
    count = canvas.room(4, (GUESS + 1) * len(view.tokens)) // (GUESS + 1) or 1
    first = len(view.tokens) - count
    heads = (fitted(fitted_label(token, GUESS), GUESS + 1) for token in view.tokens[first:])
    lines: list[StyledLine] = [[("    " + "".join(heads), DIM)]]
    for layer in reversed(range(len(view.layers))):
        spans: StyledLine = [(f"{layer:3} ", DIM)]
        for likeliest in view.layers[layer][first:]:
            best = likeliest[0]
            style = on(ramp(math.exp(best.logprob))) if canvas.styled else ""
            spans += [(fitted(visible(best.token), GUESS), style), (" ", "")]
        lines.append(spans)
    if first:
        lines += prose(_hidden(count, len(view.tokens)), canvas)
    return lines


def _cell(share: float, canvas: Canvas) -> StyledText:
    return (" " * CELL, on(ramp(share))) if canvas.styled else (shade(share) * CELL, "")


def _tile(weights: Any, canvas: Canvas) -> Iterator[StyledLine]:
    """A small map (S, S), two of its rows a line: half blocks, or the greater of the two."""
    rows: list[list[float]] = weights.tolist()
    if len(rows) % 2:
        rows.append([math.nan] * len(rows[0]))
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        pairs = list(zip(upper, lower, strict=True))
        if canvas.styled:
            yield [_half_blocks(*pair) for pair in pairs]
        else:
            best = (max((one for one in pair if one == one), default=None) for pair in pairs)
            yield [("".join(" " if one is None else shade(one) for one in best), "")]


def _half_blocks(upper: float, lower: float) -> StyledText:
    """Two cells, one above the other; NaN is no cell."""
    if math.isnan(upper):
        return (" ", "") if math.isnan(lower) else ("▄", code(ramp(lower)))
    ground = "" if math.isnan(lower) else f" on {code(ramp(lower))}"
    return "▀", code(ramp(upper)) + ground


def _pooled(weights: Any, size: int) -> Any:
    """A map (T, T) as (size, size): each number the greatest of its patch, NaN for the future."""
    import numpy as np

    count = len(weights)
    past = np.where(np.tri(count, dtype=bool), weights, np.nan)
    starts = np.arange(size) * count // size
    return np.fmax.reduceat(np.fmax.reduceat(past, starts, axis=0), starts, axis=1)


def _hidden(shown: int, count: int) -> str:
    return f"the last {shown} of {count} tokens; --html FILE or --svg FILE shows all"
