"""The plot of a view, before it is drawn: bars, or maps of cells.

`gptcli.inspection.svg` and `gptcli.inspection.png` draw it. Not here: drawings for a terminal are
in `gptcli.cli.output.pictures`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gptcli.inspection.labels import fitted, label, title, visible
from gptcli.inspection.records import named
from gptcli.inspection.views import (
    AttentionView,
    AttributionView,
    LensView,
    NextView,
    TextView,
    TokenView,
    View,
)

LABEL_COLUMNS = 24
BITS_PER_NAT = 1 / math.log(2)


@dataclass(frozen=True)
class Bars:
    """A bar a row: its label, its number (None where there is none), and the number in words."""

    title: str
    rows: tuple[tuple[str, float | None, str], ...]


@dataclass(frozen=True)
class Maps:
    """Maps of numbers from 0 to 1, numpy (R, T), laid out in lines of `abreast`, NaN for no cell.

    rows and columns: labels; names: one a map.
    """

    title: str
    maps: tuple[Any, ...]
    names: tuple[str, ...]
    abreast: int
    rows: tuple[str, ...]
    columns: tuple[str, ...]


Plot = Bars | Maps


def plot(view: View) -> Plot:
    """The plot of a view: surprisal, probabilities, scores, attention, or the lens."""
    if isinstance(view, TextView):
        return _surprisal(view)
    if isinstance(view, NextView):
        rows = ((_cut(one.text), one.kept, f"{one.kept:.4f}") for one in view.candidates)
        return Bars(f"{title(view.model)}: next token, after the settings", tuple(rows))
    if isinstance(view, AttributionView):
        pairs = zip(_labels(view.tokens), view.scores, strict=True)
        heading = f"{title(view.model)}: {view.method} for {visible(view.target.token)}"
        return Bars(heading, tuple((text, score, f"{score:+.3f}") for text, score in pairs))
    if isinstance(view, LensView):
        return _lens(view)
    return _attention(view)


def _surprisal(view: TextView) -> Bars:
    rows = []
    for token, text in zip(view.tokens, _labels(view.tokens), strict=True):
        bits = None if token.logprob is None else max(-token.logprob * BITS_PER_NAT, 0.0)
        rows.append((text, bits, "" if bits is None else f"{bits:.2f}"))
    return Bars(f"{title(view.model)}: surprisal in bits", tuple(rows))


def _lens(view: LensView) -> Maps:
    import numpy as np

    likeliest = [[place[0].logprob for place in layer] for layer in reversed(view.layers)]
    depths = tuple(str(layer) for layer in reversed(range(len(view.layers))))
    heading = f"{title(view.model)}: probability of each layer's likeliest token"
    return Maps(heading, (np.exp(likeliest),), ("",), 1, depths, _labels(view.tokens))


def _attention(view: AttentionView) -> Maps:
    import numpy as np

    layers, heads = named(view)
    count = len(view.tokens)
    past = np.tril(np.ones((count, count), dtype=bool))
    maps = tuple(np.where(past, one, np.nan) for of_layer in view.weights for one in of_layer)
    names = tuple(f"L{layer} H{head}" for layer in layers for head in heads)
    labels = _labels(view.tokens)
    heading = f"{title(view.model)}: attention, the row's token looks at the column's"
    return Maps(heading, maps, names, len(heads), labels, labels)


def _labels(tokens: Sequence[TokenView]) -> tuple[str, ...]:
    return tuple(fitted(label(token), LABEL_COLUMNS).rstrip() for token in tokens)


def _cut(text: str) -> str:
    return fitted(visible(text), LABEL_COLUMNS).rstrip()
