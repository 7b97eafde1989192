"""The views as one HTML page that needs nothing else: no network, no other file.

The page is a frame, a style sheet and scripts that lie beside this module and in `gptcli.web`, with
the views as JSON between them. Nothing of a view becomes markup: the JSON is ASCII without `<`, `>`
and `&`, and the script puts it on the page as text nodes alone. The page's own policy allows that
style and that script, by their hashes, forbids any request, and forbids making markup from strings.
Numbers stand on the page as `<data value="...">` with all their digits. Attention weights are
large, so they are rounded to four decimals before they are embedded. The page has no hidden states.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import string
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

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
from gptcli.protocol import Alternative
from gptcli.system.sanitizer import one_line
from gptcli.web.assets import ELEMENTS, STYLE, shared

MAX_WEIGHT_BYTES = 16 * 2**20  # of attention weights in a page: 340 tokens of GPT-2
_SCALE = 10_000  # attention weights are embedded as ten-thousandths
_SCRIPTS = ("attention.js", "page.js")  # in the order of use, after the shared elements
_POLICY = (
    "default-src 'none'; style-src '{style}'; script-src '{script}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
)


def page(title: str, views: Sequence[View]) -> str:
    """The text of an HTML file that shows `views`, in their order, under `title`.

    It is ASCII apart from the title and the page's own signs, and the same for the same views. What
    it leaves out of them is said on it, and by `notes`.
    """
    style = "\n".join((shared(STYLE), _asset("page.css")))
    script = "\n".join((shared(ELEMENTS), *map(_asset, _SCRIPTS)))
    return string.Template(_asset("page.html")).substitute(
        policy=_POLICY.format(style=_hash(style), script=_hash(script)),
        title=html.escape(one_line(title)),
        style=style,
        views=_json({"views": [_SHAPES[type(view)](view) for view in views]}),
        script=script,
    )


def notes(views: Iterable[View]) -> tuple[str, ...]:
    """What a page of these views leaves out, a sentence each: for standard error."""
    return tuple(filter(None, (_note(view) for view in views)))


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names the text of an inline element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: object) -> str:
    """JSON in ASCII that cannot end or open an element or a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char in "<>&":  # they occur in strings only
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _number(value: float | None) -> float | None:
    """`value`, or None where JSON has no number for it."""
    return None if value is None or not math.isfinite(value) else float(value)


def _alternatives(given: Iterable[Alternative]) -> list[list[object]]:
    """Short, since the logit lens holds thousands: id, text, log-probability."""
    return [[one.id, one.token, _number(one.logprob)] for one in given]


def _tokens(tokens: Iterable[TokenView]) -> list[dict[str, object]]:
    return [
        {
            "index": token.index,
            "id": token.id,
            "text": token.text,
            "bytes": token.raw.hex(" "),
            "part": "\ufffd" in token.text and token.text.encode("utf-8", "replace") != token.raw,
            "parts": [[part.text, part.number, part.of] for part in token.parts],
            "surface": token.surface,
            "unknown": token.unknown,
            "start": token.start,
            "end": token.end,
            "logprob": _number(token.logprob),
            "rank": token.rank,
            "entropy": _number(token.entropy_bits),
            "top": _alternatives(token.top),
        }
        for token in tokens
    ]


def _about(kind: str, view: View) -> dict[str, object]:
    about: dict[str, object] = {"kind": kind, "model": view.model, "revision": view.revision}
    return {**about, "bos": view.bos, "note": _note(view)}


def _text(view: TextView) -> dict[str, object]:
    return {**_about("text", view), "tokens": _tokens(view.tokens)}


def _next(view: NextView) -> dict[str, object]:
    candidates = [
        {
            "id": one.id,
            "text": one.text,
            "probability": _number(one.probability),
            "kept": _number(one.kept),
        }
        for one in view.candidates
    ]
    return {
        **_about("next", view),
        "text": view.text,
        "settings": [[name, _number(value)] for name, value in view.settings],
        "candidates": candidates,
        "remaining": view.remaining,
        "entropy": _number(view.entropy_bits),
        "kept_entropy": _number(view.kept_entropy_bits),
        "temperatures": [
            [point.temperature, _number(point.log_partition), _number(point.entropy_bits)]
            for point in view.temperatures
        ],
    }


def _attention(view: AttentionView) -> dict[str, object]:
    layers, heads = named(view)
    held = _held(view)
    return {
        **_about("attention", view),
        "tokens": _tokens(view.tokens[:held]),
        "layers": layers,
        "heads": heads,
        "weights": _packed(view, held),
    }


def _packed(view: AttentionView, held: int) -> str:
    """The weights (L, H, T, T) as base64 of little-endian uint16 (L, H, T (T + 1) / 2).

    They are ten-thousandths, the rows of each head's lower triangle one after another: no token
    looks ahead. A layer at a time, since doubles, which round as the JSON's digits do, are large.
    """
    import numpy as np

    rows, columns = np.tril_indices(held)
    layers = (np.asarray(layer)[:, rows, columns].astype(np.float64) for layer in view.weights)
    whole = [np.rint(np.nan_to_num(layer) * _SCALE).astype("<u2").tobytes() for layer in layers]
    return base64.b64encode(b"".join(whole)).decode()


def _held(view: AttentionView) -> int:
    """How many tokens' attention the page holds. Those left out are the last, at which none of the
    others look: the rows that stay are whole."""
    layers, heads = view.weights.shape[:2]
    entries = MAX_WEIGHT_BYTES // (2 * max(1, layers * heads))  # held (held + 1) / 2 of a head
    return min(len(view.tokens), max(1, (math.isqrt(8 * entries + 1) - 1) // 2))


def _note(view: View) -> str | None:
    if not isinstance(view, AttentionView) or _held(view) == len(view.tokens):
        return None
    return (
        f"the page shows attention among the first {_held(view)} of {len(view.tokens)} tokens, "
        f"at most {MAX_WEIGHT_BYTES // 2**20} MiB; --json holds all of it"
    )


def _lens(view: LensView) -> dict[str, object]:
    return {
        **_about("lens", view),
        "tokens": _tokens(view.tokens),
        "names": list(view.names),
        "layers": [[_alternatives(top) for top in layer] for layer in view.layers],
        "ranks": view.ranks.tolist(),
    }


def _attribution(view: AttributionView) -> dict[str, object]:
    [target] = _alternatives([view.target])
    return {
        **_about("attribution", view),
        "tokens": _tokens(view.tokens),
        "target": target,
        "method": view.method,
        "log_odds": _number(view.log_odds),
        "baseline": _number(view.baseline),
        "scores": [_number(score) for score in view.scores],
    }


_SHAPES: dict[type, Callable[..., dict[str, object]]] = {
    TextView: _text,
    NextView: _next,
    AttentionView: _attention,
    LensView: _lens,
    AttributionView: _attribution,
}
