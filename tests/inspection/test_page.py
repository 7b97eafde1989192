"""The page of gptcli inspect as text: what it holds, and what it never lets in."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.example_views import PAYLOADS, WORDS, attention_view, every_view, next_view, text_view

from gptcli.inspection import page as module
from gptcli.inspection.page import notes, page
from gptcli.inspection.views import TokenView, View
from gptcli.web.assets import shared

ASSETS = Path(module.__file__).parent
STYLE = shared("base.css") + "\n" + (ASSETS / "page.css").read_text(encoding="utf-8")
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in ASSETS.glob("*.js")}
SCRIPTS["elements.js"] = shared("elements.js")


class Elements(html.parser.HTMLParser):
    """The tags of a page with their attributes, and the text right after each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.texts.append("")
        self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data

    def of(self, tag: str) -> list[str]:
        return [text for (name, _), text in zip(self.tags, self.texts, strict=True) if name == tag]


def embedded(views: list[View], title: str = "a page") -> list[dict[str, object]]:
    """What the page's script gets to see."""
    return json.loads(Elements(page(title, views)).of("script")[0])["views"]


def policy(text: str) -> str:
    [found] = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    return found


def hashed(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_policy_allows_the_page_its_own_style_and_script_and_nothing_else() -> None:
    text = page("a page", every_view())
    elements = Elements(text)
    [style], [_, script] = elements.of("style"), elements.of("script")
    rules = dict(rule.split(" ", 1) for rule in policy(text).split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == f"'{hashed(style)}'"
    assert rules["script-src"] == f"'{hashed(script)}'"
    assert rules["img-src"] == "data:"
    assert rules["require-trusted-types-for"] == "'script'"


def test_the_page_names_nothing_outside_itself() -> None:
    text = page("a page", every_view())
    assert not re.search(r"https?:|\bsrc=|@import|url\(|//[a-z]+\.", text)
    links = [value for _, given in Elements(text).tags if (value := given.get("href"))]
    assert links == ["data:,"]


@pytest.mark.parametrize(
    "sink",
    [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "srcdoc",
    ],
)
def test_no_script_makes_markup_or_code_from_a_string(sink: str) -> None:
    assert not [name for name, script in SCRIPTS.items() if sink in script]


def test_every_asset_is_on_the_page() -> None:
    text = page("a page", [])
    assert len(SCRIPTS) == 3
    for asset in [STYLE, *SCRIPTS.values()]:
        assert asset in text


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_a_string_of_a_view_stays_a_string(payload: str) -> None:
    views = every_view([payload] * 3)
    hostile = [replace(view, model=payload, revision=payload) for view in views]
    text = page("a page", hostile)
    assert Elements(text).tags == Elements(page("a page", every_view(["x"] * 3))).tags
    shown = embedded(hostile)
    assert {view["model"] for view in shown} == {payload}
    assert {token["text"] for token in shown[0]["tokens"]} == {payload}  # type: ignore[attr-defined]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_a_title_stays_a_title(payload: str) -> None:
    harmless, hostile = Elements(page("x", [])), Elements(page(payload, []))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    page(payload, []).encode()  # no surrogate is left


def test_a_title_with_controls_shows_them() -> None:
    assert "<h1>a \\u202e^[b &amp; c</h1>" in page("a \u202e\x1bb & c", [])


def test_the_page_is_the_same_for_the_same_views() -> None:
    assert page("a page", every_view()) == page("a page", every_view())


def test_a_number_that_json_lacks_is_none() -> None:
    token = replace(
        text_view(["a", "b"]).tokens[1], logprob=float("-inf"), entropy_bits=float("nan")
    )
    [view] = embedded([replace(text_view(["a", "b"]), tokens=(token,))])
    [shown] = view["tokens"]  # type: ignore[misc]
    assert (shown["logprob"], shown["entropy"]) == (None, None)


@pytest.mark.parametrize(
    ("text", "raw", "part"),
    [("\ufffd", b"\xe2\x82", True), ("\ufffd", b"\xef\xbf\xbd", False), ("é", b"\xc3\xa9", False)],
)
def test_a_part_of_a_character_is_told_from_the_sign_for_it(
    text: str, raw: bytes, part: bool
) -> None:
    view = replace(text_view(["x"]), tokens=(TokenView(0, 5, text, raw, 0, 1),))
    [shown] = embedded([view])[0]["tokens"]  # type: ignore[misc]
    assert (shown["part"], shown["bytes"]) == (part, raw.hex(" "))


def test_settings_keep_their_order() -> None:
    assert embedded([next_view()])[0]["settings"] == [["temperature", 0.7], ["top_k", 5.0]]


def unpacked(shown: dict[str, object]) -> np.ndarray:
    """The weights that a page holds: (L, H, T (T + 1) / 2)."""
    raw = np.frombuffer(base64.b64decode(str(shown["weights"])), "<u2")
    return raw.reshape(len(shown["layers"]), len(shown["heads"]), -1)  # type: ignore[arg-type]


def test_weights_are_held_with_four_decimals() -> None:
    view = attention_view(WORDS)
    rows, columns = np.tril_indices(len(WORDS))
    expected = [[f"{weight:.4f}" for weight in head] for head in view.weights[1][:, rows, columns]]
    [shown] = embedded([view])
    assert [[f"{whole / 10_000:.4f}" for whole in head] for head in unpacked(shown)[1]] == expected


def test_heads_keep_their_numbers() -> None:
    view = replace(attention_view(WORDS, layers=1, heads=2), layers=(5,), heads=(3, 7))
    [shown] = embedded([view])
    assert (shown["layers"], shown["heads"]) == ([5], [3, 7])


def test_attention_of_a_long_text_is_cut_to_its_first_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view = attention_view(WORDS, layers=2, heads=4)
    monkeypatch.setattr(module, "MAX_WEIGHT_BYTES", 2 * 2 * 4 * 15)  # 15 weights a head: 5 tokens
    [shown] = embedded([view])
    assert [token["text"] for token in shown["tokens"]] == WORDS[:5]  # type: ignore[attr-defined]
    whole = view.weights[:, :, :5, :5].sum(-1)
    assert np.allclose(whole, 1, atol=1e-5)
    assert unpacked(shown).shape == (2, 4, 15)


def test_what_is_cut_is_said_on_the_page_and_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    view = attention_view(WORDS)
    assert notes([view]) == ()
    monkeypatch.setattr(module, "MAX_WEIGHT_BYTES", 2 * 2 * 4 * 15)
    [note] = notes([text_view(WORDS), view])
    assert f"the first 5 of {len(WORDS)} tokens" in note
    assert embedded([view])[0]["note"] == note


def test_what_is_held_stays_below_the_limit() -> None:
    view = replace(attention_view(["x"]), weights=np.zeros((12, 12, 1, 1), np.float32))
    long = replace(view, tokens=view.tokens * 2000)
    held = module._held(long)
    assert 144 * held * (held + 1) <= module.MAX_WEIGHT_BYTES < 144 * (held + 1) * (held + 2)


# ---- Colours


def palette(scheme: int) -> dict[str, str]:
    """The colours by name, in light (0) or in dark (1)."""
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", STYLE)
    return {name: colours[scheme] for name, *colours in found}


def luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.2, "relative luminance"."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def contrast(one: str, other: str) -> float:
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


TEXTS = [
    ("ink", "paper"),
    ("ink", "panel"),
    ("muted", "paper"),
    ("muted", "panel"),
    ("accent", "paper"),
    ("ink", "shade"),
    ("ink", "plus"),
    ("ink", "minus"),
    *[(f"on-band-{number}", f"band-{number}") for number in (1, 2, 3, 4)],
]
SHAPES = [("line", "paper"), ("bar", "paper"), ("bar-after", "paper"), ("bar", "panel")]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "back"), TEXTS)
def test_text_is_legible(front: str, back: str, scheme: int) -> None:
    colours = palette(scheme)
    assert contrast(colours[front], colours[back]) >= 4.5


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "back"), SHAPES)
def test_lines_and_bars_stand_out(front: str, back: str, scheme: int) -> None:
    colours = palette(scheme)
    assert contrast(colours[front], colours[back]) >= 3


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_bands_go_one_way_in_lightness(scheme: int) -> None:
    colours = palette(scheme)
    bands = [colours[f"band-{number}"] for number in (1, 2, 3, 4)]
    assert [luminance(band) for band in bands] == sorted(map(luminance, bands), reverse=not scheme)
    assert min(contrast(*pair) for pair in pairwise(bands)) > 1.25


def test_bands_differ_without_colour() -> None:
    styles = re.findall(r"\.band-\d \{[^}]*border-bottom-style: (\w+)", STYLE)
    assert styles == ["none", "dotted", "dashed", "double"]
