"""Views with seeded random numbers for tests of what shows them: no model is run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gptcli.inspection.page import View
from gptcli.inspection.views import (
    AttentionView,
    AttributionView,
    Candidate,
    LensView,
    NextView,
    TextView,
    TokenView,
)
from gptcli.protocol import Alternative

WORDS = ["Once", " upon", " a", " time", " an", " old", " king", " had", " sons", ",", "\n"]


def alternatives(
    rng: np.random.Generator, count: int, here: Alternative
) -> tuple[Alternative, ...]:
    """`count` tokens with falling probabilities, `here` among them."""
    shares = sorted(rng.dirichlet(np.ones(count + 2))[:count], reverse=True)
    others = [
        Alternative(900 + place, WORDS[int(rng.integers(len(WORDS)))], math.log(share))
        for place, share in enumerate(shares)
    ]
    others[int(rng.integers(count))] = here
    return tuple(sorted(others, key=lambda one: -one.logprob))


def tokens(pieces: Sequence[str], seed: int = 0) -> tuple[TokenView, ...]:
    """A token a piece, the first with nothing expected; ranks in all bands."""
    rng, found, start = np.random.default_rng(seed), [], 0
    for index, piece in enumerate(pieces):
        place = {
            "index": index,
            "id": 100 + index,
            "text": piece,
            "raw": piece.encode("utf-8", "surrogatepass"),
            "start": start,
            "end": start + len(piece),
        }
        start += len(piece)
        if index == 0:
            found.append(TokenView(**place))
            continue
        here = Alternative(100 + index, piece, math.log(float(rng.uniform(1e-6, 0.6))))
        rank = int(10 ** rng.uniform(0, 4.4))
        found.append(
            TokenView(
                **place,
                logprob=here.logprob,
                rank=rank,
                entropy_bits=float(rng.uniform(0.1, 9)),
                top=alternatives(rng, 10, here),
            )
        )
    return tuple(found)


def text_view(pieces: Sequence[str]) -> TextView:
    return TextView("tiny-tales", "abc123", "".join(pieces), tokens(pieces))


def next_view(pieces: Sequence[str] = WORDS) -> NextView:
    rng = np.random.default_rng(1)
    shares = sorted(rng.dirichlet(np.full(len(pieces) + 20, 0.3)), reverse=True)[: len(pieces)]
    kept = [share if place < 5 else 0.0 for place, share in enumerate(shares)]
    candidates = tuple(
        Candidate(place, piece, float(share), float(left / sum(kept)))
        for place, (piece, share, left) in enumerate(zip(pieces, shares, kept, strict=True))
    )
    settings = (("temperature", 0.7), ("top_k", 5.0))
    return NextView("tiny-tales", None, pieces[0], settings, candidates, 5, 2.5, 1.25)


def attention_view(pieces: Sequence[str], layers: int = 2, heads: int = 4) -> AttentionView:
    count = len(pieces)
    scores = 3 * np.random.default_rng(2).standard_normal((layers, heads, count, count))
    weights = np.tril(np.exp(scores))
    weights /= weights.sum(-1, keepdims=True)
    text = "".join(pieces)
    return AttentionView("tiny-tales", None, text, tokens(pieces), weights.astype(np.float32))


def lens_view(pieces: Sequence[str], layers: int = 4) -> LensView:
    rng, count = np.random.default_rng(3), len(pieces)
    here = Alternative(7, " x", math.log(0.05))
    rows = [tuple(alternatives(rng, 5, here) for _ in pieces) for _ in range(layers + 1)]
    ranks = rng.integers(1, 500, (layers + 1, count))
    states = np.zeros((layers + 1, count, 8), np.float32)
    text = "".join(pieces)
    return LensView("tiny-tales", None, text, tokens(pieces), tuple(rows), ranks, states)


def attribution_view(pieces: Sequence[str]) -> AttributionView:
    scores = tuple(float(score) for score in np.random.default_rng(4).normal(size=len(pieces)))
    target = Alternative(42, " kingdom", math.log(0.125))
    text, method = "".join(pieces), "integrated-gradients"
    return AttributionView("tiny-tales", None, text, tokens(pieces), target, method, scores)


def every_view(pieces: Sequence[str] = WORDS) -> list[View]:
    """One of each kind."""
    return [
        text_view(pieces),
        next_view(pieces),
        attention_view(pieces),
        lens_view(pieces),
        attribution_view(pieces),
    ]


# Strings that try to become markup, to run, to leave their place or to hide.
PAYLOADS = [
    "<script>window.hit = 1</script>",
    "</script><script>window.hit = 1</script>",
    "</ScRiPt ><img src=x onerror=window.hit=1>",
    "<!--<script>",
    "--><script>window.hit = 1</script>",
    "]]><script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "<svg onload=window.hit=1>",
    "<svg><script>window.hit = 1</script></svg>",
    "<iframe srcdoc='<script>parent.hit = 1</script>'>",
    "<body onload=window.hit=1>",
    "<details open ontoggle=window.hit=1>",
    "<input autofocus onfocus=window.hit=1>",
    "<a href='javascript:window.hit=1'>x</a>",
    "<style>body { display: none }</style>",
    "</style><script>window.hit = 1</script>",
    "</title><script>window.hit = 1</script>",
    "<base href='https://example.org/'>",
    "<meta http-equiv=refresh content='0; url=https://example.org/'>",
    "<link rel=stylesheet href='https://example.org/x.css'>",
    "<template><script>window.hit = 1</script></template>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=window.hit=1>",
    '"><script>window.hit = 1</script>',
    "'; window.hit = 1; //",
    "\\u003cscript>window.hit = 1\\u003c/script>",
    "${window.hit = 1}$script$views$$",
    "&lt;script&gt;window.hit = 1&lt;/script&gt;",
    "{{constructor.constructor('window.hit = 1')()}}",
    "\u2028window.hit = 1\u2029",
    "\x00\x1b]0;hit\x07\x1b[31m\x9b31m",
    "\u202egnp.exe\u2066\u2069\u200f",
    "\ufeff\u200b\U000e0041\u3164\u2800 ",
    "e\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308\u0309\u030a",
    "\udfff__proto__\ud800",
]
