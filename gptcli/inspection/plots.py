"""The plot of a view, before it is drawn: bars, maps of cells, or curves.

`gptcli.inspection.svg` and `gptcli.inspection.png` draw it. Not here: drawings for a terminal are
in `gptcli.cli.output.pictures`.
"""

from __future__ import annotations

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
from gptcli.scoring.scores import BITS_PER_NAT

LABEL_COLUMNS = 24
WORD_COLUMNS = 12  # of a word in a cell


@dataclass(frozen=True)
class Bars:
    """A bar a row: its label, its number (None where there is none), and the number in words.

    note: a sentence below it; intervals: for each row the two ends of a thin line, or None.
    """

    title: str
    rows: tuple[tuple[str, float | None, str], ...]
    note: str = ""
    intervals: tuple[tuple[float, float] | None, ...] = ()


@dataclass(frozen=True)
class Maps:
    """Maps of numbers from 0 to 1, numpy (R, T), laid out in lines of `abreast`, NaN for no cell.

    rows and columns: labels; names: one a map, shown where there are several; words: for the cells
    of a single map; unit: what the numbers are; note: a sentence below the maps.
    """

    title: str
    maps: tuple[Any, ...]
    names: tuple[str, ...]
    abreast: int
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    words: tuple[tuple[str, ...], ...] = ()
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """Points (x, y) in the order of x, joined; `strong` ones are thick."""

    name: str
    points: tuple[tuple[float, float], ...]
    strong: bool = False


@dataclass(frozen=True)
class Curves:
    """Curves over one pair of axes, which `across` and `upwards` name.

    note: a sentence below them.
    """

    title: str
    curves: tuple[Curve, ...]
    across: str
    upwards: str
    note: str = ""


Plot = Bars | Maps | Curves


def plot(view: View) -> Plot:
    """The plot of a view: surprisal, probabilities, scores, attention, or the lens."""
    if isinstance(view, TextView):
        return _surprisal(view)
    if isinstance(view, NextView):
        rows = ((_cut(one.text), one.kept, f"{one.kept:.4f}") for one in view.candidates)
        heading = f"{title(view.model)}: probability of the next token, after the settings"
        return Bars(heading, tuple(rows), _rule(view))
    if isinstance(view, AttributionView):
        pairs = zip(_labels(view.tokens), view.scores, strict=True)
        heading = f"{title(view.model)}: {view.method}, log-odds of {visible(view.target.token)}"
        return Bars(
            heading, tuple((text, score, f"{score:+.3f}") for text, score in pairs), _rule(view)
        )
    if isinstance(view, LensView):
        return _lens(view)
    return _attention(view)


def _surprisal(view: TextView) -> Bars:
    rows = []
    for token, text in zip(view.tokens, _labels(view.tokens), strict=True):
        bits = None if token.logprob is None else max(-token.logprob * BITS_PER_NAT, 0.0)
        rows.append((text, bits, "" if bits is None else f"{bits:.2f}"))
    return Bars(f"{title(view.model)}: surprisal in bits", tuple(rows), _rule(view))


def _lens(view: LensView) -> Maps:
    import numpy as np

    places = list(zip(*view.layers, strict=True))  # of each token: one for each layer
    likeliest = np.exp([[of_layer[0].logprob for of_layer in place] for place in places])
    words = tuple(
        tuple(fitted(visible(of_layer[0].token), WORD_COLUMNS).rstrip() for of_layer in place)
        for place in places
    )
    return Maps(
        f"{title(view.model)}: what each layer finds likeliest after each token",
        (likeliest,),
        ("",),
        1,
        _labels(view.tokens),
        tuple(f"layer {name}" if name.isdigit() else name for name in view.names),
        words,
        "probability",
        _rule(view),
    )


def _attention(view: AttentionView) -> Maps:
    import numpy as np

    layers, heads = named(view)
    count = len(view.tokens)
    past = np.tril(np.ones((count, count), dtype=bool))
    maps = tuple(np.where(past, one, np.nan) for of_layer in view.weights for one in of_layer)
    names = tuple(f"L{layer} H{head}" for layer in layers for head in heads)
    labels = _labels(view.tokens)
    which = f" of layer {layers[0]}, head {heads[0]}" if len(maps) == 1 else ""
    heading = f"{title(view.model)}: attention{which}, the row's token looks at the column's"
    rule = _rule(view)
    return Maps(heading, maps, names, len(heads), labels, labels, (), "weight", rule)


def reading_rule(view: View) -> str:
    """What the model read before the text: named in every view."""
    if view.bos is None:
        return "the text was read alone, without a begin token before it"
    return f"the text was read after {visible(view.bos)}; --no-bos reads it alone"


def _rule(view: View) -> str:
    rule = reading_rule(view)
    return rule[0].upper() + rule[1:] + "."


def _labels(tokens: Sequence[TokenView]) -> tuple[str, ...]:
    return tuple(fitted(label(token), LABEL_COLUMNS).rstrip() for token in tokens)


def _cut(text: str) -> str:
    return fitted(visible(text), LABEL_COLUMNS).rstrip()
