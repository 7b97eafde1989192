"""Views for programs: dictionaries for JSON, and numpy arrays for an .npz file.

JSON holds every number of a view except the hidden states of the lens, which only the arrays hold.
A float32 number is written with the fewest digits that are read back as the same float32.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import Any

from gptcli.checkpoints.tokenization.parts import numbers_of
from gptcli.inspection.views import (
    AttentionView,
    AttributionView,
    LensView,
    NextView,
    TextView,
    TokenView,
    View,
)


@singledispatch
def record(view: View) -> dict[str, object]:
    """A view as a JSON object; a test pins its keys. Raises TypeError for what is no view."""
    raise TypeError(f"{type(view).__name__} is no view")


@record.register
def _(view: TextView) -> dict[str, object]:
    return {**_head(view), "tokens": [_token(token, True) for token in view.tokens]}


@record.register
def _(view: NextView) -> dict[str, object]:
    return {
        **_head(view),
        "settings": dict(view.settings),
        "candidates": [
            {"id": one.id, "text": one.text, "probability": one.probability, "kept": one.kept}
            for one in view.candidates
        ],
        "remaining": view.remaining,
        "entropy_bits": view.entropy_bits,
        "kept_entropy_bits": view.kept_entropy_bits,
    }


@record.register
def _(view: AttentionView) -> dict[str, object]:
    layers, heads = named(view)
    return {
        **_head(view),
        "tokens": _tokens(view.tokens),
        "layers": layers,
        "heads": heads,
        "weights": _short(view.weights),
    }


@record.register
def _(view: LensView) -> dict[str, object]:
    return {
        **_head(view),
        "tokens": _tokens(view.tokens),
        "layer_names": list(view.names),
        "layers": [
            [[one.to_dict() for one in likeliest] for likeliest in layer] for layer in view.layers
        ],
        "ranks": view.ranks.tolist(),
    }


@record.register
def _(view: AttributionView) -> dict[str, object]:
    return {
        **_head(view),
        "tokens": _tokens(view.tokens),
        "target": view.target.to_dict(),
        "method": view.method,
        "log_odds": view.log_odds,
        "baseline": view.baseline,
        "scores": list(view.scores),
    }


def arrays(view: View) -> dict[str, Any]:
    """The numbers of a view as numpy arrays, by name; NaN (0 for a rank) where there is none.

    A token's place has the same index in all of them.
    """
    import numpy as np

    if isinstance(view, NextView):
        rows = [(one.probability, one.kept) for one in view.candidates]
        probability, kept = np.array(rows, dtype=np.float64).reshape(-1, 2).T
        ids = np.array([one.id for one in view.candidates], dtype=np.int64)
        return {"ids": ids, "probability": probability, "kept": kept}
    found: dict[str, Any] = {"ids": np.array([token.id for token in view.tokens], dtype=np.int64)}
    if isinstance(view, TextView):
        tokens = view.tokens
        found["logprob"] = _column([token.logprob for token in tokens])
        found["entropy_bits"] = _column([token.entropy_bits for token in tokens])
        found["rank"] = np.array([token.rank or 0 for token in tokens], dtype=np.int64)
    elif isinstance(view, AttentionView):
        layers, heads = named(view)
        found |= {"layers": np.array(layers), "heads": np.array(heads), "weights": view.weights}
    elif isinstance(view, LensView):
        shape = (len(view.layers), len(view.tokens), -1)
        likeliest = [one for layer in view.layers for place in layer for one in place]
        found["top_ids"] = np.array([one.id for one in likeliest]).reshape(shape)
        found["top_logprobs"] = np.array([one.logprob for one in likeliest]).reshape(shape)
        found |= {"ranks": view.ranks, "states": view.states}
    else:
        found["scores"] = np.array(view.scores)
        found["target"] = np.array(view.target.id)
    return found


def columns(view: View) -> list[str]:
    """The columns of `rows`; those of probabilities only where a model was asked for them."""
    if isinstance(view, TextView) and all(token.rank is None for token in view.tokens):
        return list(_TOKEN)
    return list(_COLUMNS[type(view)])


@singledispatch
def rows(view: View) -> Iterator[dict[str, object]]:
    """A view in long format, for CSV and data frames: a row for each number or token.

    Raises TypeError for what is no view.
    """
    raise TypeError(f"{type(view).__name__} is no view")


@rows.register
def _(view: TextView) -> Iterator[dict[str, object]]:
    return (_token(token, True) for token in view.tokens)


@rows.register
def _(view: NextView) -> Iterator[dict[str, object]]:
    for place, one in enumerate(view.candidates, 1):
        yield {
            "place": place,
            "id": one.id,
            "text": one.text,
            "probability": one.probability,
            "kept": one.kept,
        }


@rows.register
def _(view: AttentionView) -> Iterator[dict[str, object]]:
    layers, heads = named(view)
    for layer, of_layer in zip(layers, view.weights, strict=True):
        for head, weights in zip(heads, of_layer, strict=True):
            for token, row in zip(view.tokens, _short(weights), strict=True):
                for seen, weight in zip(view.tokens[: token.index + 2], row, strict=False):
                    if seen.index <= token.index:
                        yield {
                            "layer": layer,
                            "head": head,
                            "index": token.index,
                            "text": token.text,
                            "looks_at": seen.index,
                            "looks_at_text": seen.text,
                            "weight": weight,
                        }


@rows.register
def _(view: LensView) -> Iterator[dict[str, object]]:
    for name, places, ranks in zip(view.names, view.layers, view.ranks.tolist(), strict=True):
        for token, likeliest, rank in zip(view.tokens, places, ranks, strict=True):
            for place, one in enumerate(likeliest, 1):
                yield {
                    "layer": name,
                    "index": token.index,
                    "text": token.text,
                    "final_rank": rank,
                    "place": place,
                    **one.to_dict(),
                }


@rows.register
def _(view: AttributionView) -> Iterator[dict[str, object]]:
    for token, score in zip(view.tokens, view.scores, strict=True):
        yield {**_token(token, False), "score": score}


_TOKEN = ("index", "id", "text", "bytes", "start", "end", "surface", "part")
_COLUMNS: dict[type, tuple[str, ...]] = {
    TextView: (*_TOKEN, "logprob", "rank", "entropy_bits", "top"),
    NextView: ("place", "id", "text", "probability", "kept"),
    AttentionView: ("layer", "head", "index", "text", "looks_at", "looks_at_text", "weight"),
    LensView: ("layer", "index", "text", "final_rank", "place", "id", "token", "logprob"),
    AttributionView: (*_TOKEN, "score"),
}


def npz(view: View) -> bytes:
    """`arrays` as the contents of an .npz file, to be read with numpy.load."""
    import numpy as np

    file = io.BytesIO()
    np.savez_compressed(file, **arrays(view))
    return file.getvalue()


def named(view: AttentionView) -> tuple[list[int], list[int]]:
    """Which layers and heads the weights are of."""
    layers, heads = view.weights.shape[:2]
    return list(view.layers or range(layers)), list(view.heads or range(heads))


def _head(view: View) -> dict[str, object]:
    return {"model": view.model, "revision": view.revision, "text": view.text, "bos": view.bos}


def _tokens(tokens: Sequence[TokenView]) -> list[dict[str, object]]:
    return [_token(token, False) for token in tokens]


def _token(token: TokenView, measured: bool) -> dict[str, object]:
    shown: dict[str, object] = {
        "index": token.index,
        "id": token.id,
        "text": token.text,
        "bytes": token.raw.hex(),
        "start": token.start,
        "end": token.end,
        "surface": token.surface,
        "part": numbers_of(token.parts),
    }
    if measured:
        shown |= {"logprob": token.logprob, "rank": token.rank}
        shown["entropy_bits"] = token.entropy_bits
        shown["top"] = [one.to_dict() for one in token.top]
    return shown


def _column(values: Sequence[float | None]) -> Any:
    import numpy as np

    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _short(numbers: Any) -> Any:
    """Nested lists of float32 numbers, each the shortest that is read as the same float32."""
    return numbers.astype(str).astype(float).tolist()
