"""The page of gptcli inspect in a real browser: its numbers, its keys, its looks, its silence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.chromium import chromium
from support.example_views import (
    PAYLOADS,
    WORDS,
    attention_view,
    attribution_view,
    every_view,
    lens_view,
    next_view,
    text_view,
)

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.engines import open_engine
from gptcli.inspection import reading
from gptcli.inspection.colours import band
from gptcli.inspection.page import page
from gptcli.inspection.plots import plot
from gptcli.inspection.records import record
from gptcli.inspection.svg import drawn
from gptcli.inspection.views import View
from gptcli.options import Filters, Load

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = pytest.mark.browser

# The numbers of each row of a table, or of each entry of a list, as they are written and shown.
NUMBERS = """
root => [...root.querySelectorAll("data")].map((node) => [Number(node.value), node.textContent])
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as running:
        yield running


@pytest.fixture
def shown(browser, tmp_path: Path) -> Iterator[Callable]:
    """A function that opens a page of views (or a file); any request or error fails the test."""
    troubles: list[str] = []
    contexts = []

    def show(views: Sequence[View] | Path, width: int = 1280, scheme: str = "light"):
        file = views if isinstance(views, Path) else tmp_path / "page.html"
        if not isinstance(views, Path):
            file.write_text(page("Once upon a time", views), encoding="utf-8")
        viewport = {"width": width, "height": 900}
        context = browser.new_context(viewport=viewport, color_scheme=scheme)
        contexts.append(context)
        context.set_offline(True)
        context.set_default_timeout(10_000)
        opened = context.new_page()
        opened.on("request", lambda request: troubles.append(request.url))
        opened.on("pageerror", lambda error: troubles.append(str(error)))
        opened.on("console", lambda message: troubles.append(message.text))
        opened.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        opened.goto(file.as_uri())
        troubles.remove(file.as_uri())
        return opened

    yield show
    for context in contexts:
        context.close()
    assert troubles == []


def numbers(place) -> list[tuple[float, str]]:
    """The numbers below a place of the page: all digits, and as shown."""
    return [(value, text) for value, text in place.evaluate(NUMBERS)]


def values(place) -> list[float]:
    return [value for value, _ in numbers(place)]


def close(expected: Sequence[float]) -> object:
    """Equal but for the last bit of an exponential."""
    return pytest.approx(list(expected), rel=1e-12, abs=0)


def test_the_panel_of_a_token_has_the_numbers_of_the_json(shown) -> None:
    view = text_view(WORDS)
    opened = shown([view])
    for place, token in enumerate(record(view)["tokens"]):
        opened.locator(".token").nth(place).focus()
        logprob, tops = token["logprob"], [one["logprob"] for one in token["top"]]
        measured = (
            [
                *(token["rank"], math.exp(logprob), logprob),
                *(-logprob / math.log(2), token["entropy_bits"]),
            ]
            if logprob is not None
            else []
        )
        assert values(opened.locator(".panel dl")) == close([token["id"], *measured])
        if tops:
            assert values(opened.locator(".panel table")) == close(map(math.exp, tops))


def test_numbers_are_shown_rounded(shown) -> None:
    opened = shown([text_view(WORDS)])
    opened.locator(".token").nth(4).focus()
    expected = ["{:.0f}", "{:.0f}", "{:#.3g}", "{:.4f}", "{:.2f}", "{:.2f}"]
    found = numbers(opened.locator(".panel dl"))
    assert [text for _, text in found] == [
        form.format(value) for form, (value, _) in zip(expected, found, strict=True)
    ]


def test_the_table_of_tokens_has_the_numbers_of_the_json(shown) -> None:
    view = text_view(WORDS)
    opened = shown([view])
    opened.get_by_text("All tokens as a table").click()
    token = record(view)["tokens"][3]
    row = opened.locator("details tbody tr").nth(3)
    expected = [token["id"], token["rank"], math.exp(token["logprob"]), token["logprob"]]
    tops = [math.exp(one["logprob"]) for one in token["top"][:3]]
    assert values(row) == close([*expected, token["entropy_bits"], *tops])


def test_the_next_tokens_have_the_numbers_of_the_json(shown) -> None:
    view = next_view()
    opened = shown([view])
    told = record(view)
    facts = [*told["settings"].values(), told["remaining"]]
    facts += [told["entropy_bits"], told["kept_entropy_bits"]]
    assert values(opened.locator("dl")) == close(facts)
    rows = [
        [one["id"], one["probability"], *([one["kept"]] if one["kept"] else [])]
        for one in told["candidates"]
    ]
    assert values(opened.locator("tbody")) == close(number for row in rows for number in row)


@pytest.mark.parametrize(("layer", "head", "token"), [(0, 0, 10), (1, 3, 7), (0, 2, 0)])
def test_attention_has_the_numbers_of_the_json(shown, layer: int, head: int, token: int) -> None:
    view = attention_view(WORDS)
    opened = shown([view])
    opened.get_by_label("Layer", exact=True).select_option(str(layer))
    opened.get_by_label("Head", exact=True).select_option(str(head))
    opened.locator(".token").nth(token).focus()
    weights = record(view)["weights"][layer][head][token][: token + 1]
    expected = sorted((f"{weight:.4f}" for weight in weights), reverse=True)
    assert [text for _, text in numbers(opened.locator(".panel"))] == expected


def test_the_table_of_a_head_has_the_greatest_weights(shown) -> None:
    view = attention_view(WORDS)
    opened = shown([view])
    opened.get_by_text("Where each token looks most, as a table").click()
    opened.get_by_role("button", name="layer 1, head 2").click()
    weights = sorted(record(view)["weights"][1][2][-1], reverse=True)[:5]
    row = opened.locator("details tbody tr").last
    assert [text for _, text in numbers(row)] == [f"{weight:.4f}" for weight in weights]


def test_the_heat_map_is_darkest_where_the_weight_is_greatest(shown) -> None:
    view = attention_view(WORDS)
    opened = shown([view])
    opened.get_by_role("button", name="layer 0, head 0").click()
    points = opened.evaluate("""() => {
      const canvas = document.querySelector(".map canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return Array.from({ length: data.length / 4 }, (_, at) => data[4 * at]);
    }""")
    darkest = [points[at : at + len(WORDS)] for at in range(0, len(points), len(WORDS))]
    greatest = view.weights[0, 0].argmax(-1).tolist()
    assert [row[place] == min(row) for row, place in zip(darkest, greatest, strict=True)] == [
        True
    ] * len(WORDS)


def test_the_lens_has_the_numbers_of_the_json(shown) -> None:
    view = lens_view(WORDS)
    opened, told = shown([view]), record(view)
    layers = len(told["layers"])
    firsts = [layer[at][0] for at in range(len(WORDS)) for layer in told["layers"]]
    assert values(opened.locator("table").first) == close(
        math.exp(one["logprob"]) for one in firsts
    )
    opened.locator(".cell").nth(3 * layers + 2).focus()
    likeliest = [math.exp(one["logprob"]) for one in told["layers"][2][3]]
    assert values(opened.locator(".panel")) == close([told["ranks"][2][3], *likeliest])


def test_attribution_has_the_numbers_of_the_json(shown) -> None:
    view = attribution_view(WORDS)
    opened, told = shown([view]), record(view)
    assert values(opened.locator("tbody")) == close(told["scores"])
    facts = [math.exp(told["target"]["logprob"]), sum(told["scores"])]
    assert values(opened.locator("section > dl")) == close(facts)


def test_a_real_text_has_the_numbers_of_the_json(shown, main_in, tales, tmp_path: Path) -> None:
    file = tmp_path / "real.html"
    text = ["Once upon a time the old kïng", "-m", str(tales)]
    code, out, err = main_in("inspect", *text, "--html", str(file), "--json")
    assert code == 0, err
    opened = shown(file)
    assert opened.locator("section").count() == 5
    for place, token in enumerate(json.loads(out)["tokens"]):
        opened.locator(".text .token").nth(place).focus()
        found = values(opened.locator(".text .panel dl"))
        expected = [token["id"], token["rank"], math.exp(token["logprob"]), token["logprob"]]
        assert found[:4] == close(expected)


# ---- Ways to choose


def chosen(opened) -> str:
    return opened.locator(".panel h3").first.inner_text()


def test_hovering_shows_what_focus_shows(shown) -> None:
    opened = shown([text_view(WORDS)])
    opened.locator(".token").nth(4).hover()
    hovered = opened.locator(".panel").inner_text()
    opened.locator(".token").nth(2).hover()
    opened.locator(".token").nth(4).focus()
    assert opened.locator(".panel").inner_text() == hovered
    assert hovered.startswith("Token 4 ·an")


@pytest.mark.parametrize(
    ("keys", "token"),
    [
        (["ArrowRight"], 1),
        (["ArrowRight", "ArrowRight", "ArrowLeft"], 1),
        (["ArrowLeft"], 0),
        (["End"], 21),
        (["End", "ArrowRight"], 21),
        (["End", "Home"], 0),
        (["ArrowDown"], 11),
        (["ArrowRight", "ArrowRight", "ArrowDown"], 13),
        (["ArrowDown", "ArrowUp"], 0),
        (["ArrowUp"], 0),
    ],
)
def test_keys_go_from_token_to_token(shown, keys: list[str], token: int) -> None:
    opened = shown([text_view(WORDS * 2)])
    opened.locator(".token").first.focus()
    for key in keys:
        opened.keyboard.press(key)
    assert chosen(opened).startswith(f"Token {token} ")


def test_tab_passes_a_text_in_one_step(shown) -> None:
    opened = shown([text_view(WORDS)])
    opened.get_by_role("radio", name="rank").focus()
    opened.keyboard.press("Tab")
    opened.keyboard.press("ArrowRight")
    assert opened.evaluate("document.activeElement.className").startswith("token")
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "panel"


def test_layers_and_heads_can_be_chosen_by_keys(shown) -> None:
    opened = shown([attention_view(WORDS)])
    opened.get_by_role("button", name="layer 0, head 0").click()
    opened.get_by_label("Layer", exact=True).focus()
    opened.keyboard.press("ArrowDown")
    assert opened.get_by_role("img", name="layer 1, head 0").count() == 1
    opened.get_by_role("button", name="layer 1, head 0").focus()
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowUp")
    assert opened.get_by_role("img", name="layer 0, head 1").count() == 1
    assert opened.get_by_label("Head", exact=True).input_value() == "1"


def test_pointing_at_the_heat_map_chooses_its_row(shown) -> None:
    opened = shown([attention_view(WORDS)])
    canvas = opened.locator(".map canvas")
    size = canvas.bounding_box()
    canvas.hover(position={"x": 3, "y": size["height"] * 2.5 / len(WORDS)})
    assert chosen(opened).startswith("Token 2 ·a")


def test_tokens_are_coloured_by_rank_or_by_probability(shown) -> None:
    opened = shown([text_view(WORDS)])
    token = opened.locator(".token").nth(3)
    assert "band-" in token.get_attribute("class")
    opened.get_by_role("radio", name="probability").check()
    assert "shaded" in token.get_attribute("class")
    assert opened.get_by_text("rank 1 to 10").is_hidden()


def test_the_head_shown_first_looks_at_something(shown) -> None:
    view = attention_view(WORDS)
    weights = view.weights.copy()
    weights[:] = 0
    weights[..., 0] = 1  # all heads rest on the first token
    weights[1, 2, 3:, 0], weights[1, 2, 3:, 1] = 0, 1  # but one
    opened = shown([replace(view, weights=weights)])
    assert opened.get_by_role("img", name="Heat map of 11 by 11 tokens, layer 1, head 2").count()


def test_attention_can_be_lines_between_tokens(shown) -> None:
    opened = shown([attention_view(WORDS)])
    assert opened.locator(".lines").is_hidden()
    opened.get_by_role("radio", name="lines between tokens").check()
    assert opened.locator(".map").is_hidden()
    assert opened.locator(".lines .column").count() == 2
    drawn = """() => { const c = document.querySelector(".lines canvas");
      return [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data].some(Boolean); }"""
    assert opened.evaluate(drawn)
    opened.locator(".lines .column").first.locator("span:has(> .label)").nth(4).hover()
    assert chosen(opened).startswith("Token 4 ·an")


def test_a_slider_shows_another_temperature(shown, tales: Path) -> None:
    inside = reading.inside(open_engine(Load(model=str(tales))))
    view = reading.next_view(inside, "The king said", Filters(), 10)
    logits = torch.tensor([one.probability for one in view.candidates], dtype=torch.float64).log()
    opened = shown([view])
    slider = opened.get_by_label("Temperature", exact=True)
    table = opened.locator(".next table").last
    assert values(table) == pytest.approx([one.probability for one in view.candidates], rel=1e-5)
    slider.focus()
    for _ in range(5):
        opened.keyboard.press("ArrowLeft")
    point = next(one for one in view.temperatures if one.temperature == 0.5)
    assert values(table) == pytest.approx((logits / 0.5 - point.log_partition).exp().tolist())
    assert opened.locator("output").inner_text().startswith("0.5: entropy ")
    cold = reading.next_view(inside, "The king said", Filters(temperature=0.5, top_k=0, top_p=1))
    kept = [one.kept for one in cold.candidates[:10]]
    assert values(table) == pytest.approx(kept, rel=1e-4)
    assert point.entropy_bits == pytest.approx(cold.kept_entropy_bits, rel=1e-4)


def test_the_lens_is_coloured_by_rank_or_by_probability(shown) -> None:
    view = lens_view(WORDS)
    opened = shown([view])
    kinds = opened.locator(".cell").evaluate_all("nodes => nodes.map((node) => node.className)")
    ranks = view.ranks.T.flatten().tolist()
    assert [f"band-{1 + band(rank)}" in kind for kind, rank in zip(kinds, ranks, strict=True)] == [
        True
    ] * len(ranks)
    opened.get_by_role("radio", name="probability").check()
    assert "shaded" in opened.locator(".cell").first.get_attribute("class")


def test_ranks_are_a_histogram(shown) -> None:
    view = text_view(WORDS)
    ranks = [token.rank for token in view.tokens if token.rank is not None]
    counts = [sum(band(rank) == place for rank in ranks) for place in range(4)]
    assert values(shown([view]).locator(".histogram")) == counts


def test_tokens_that_are_not_measured_have_no_legend(shown, tales: Path) -> None:
    view = reading.tokens_view(load_tokenizer(tales), "a 漢", "tiny-tales", None)
    opened = shown([view])
    assert opened.get_by_role("radio").count() == 0
    assert opened.locator(".legend, .histogram").count() == 0
    labels = opened.locator(".token").all_inner_texts()
    assert labels == ["a", "·", "漢1/3", "漢2/3", "漢3/3"]
    opened.locator(".token").last.focus()
    assert "stands for" in opened.locator(".panel").inner_text()


def test_the_page_says_what_its_figures_mean(shown) -> None:
    opened = shown(every_view())
    words = {"text": ["Rank", "Surprisal", "Entropy"], "next": ["Temperature"]}
    words |= {"attention": ["Head", "Weight"], "lens": ["Embeddings"], "attribution": ["Log-odds"]}
    for kind, names in words.items():
        said = opened.locator(f"section.{kind} .explained").inner_text()
        assert all(name in said for name in names)


def test_the_page_says_what_was_read_before_the_text(shown) -> None:
    alone = shown([next_view()]).locator(".about").inner_text()
    assert "read alone" in alone
    after = shown([replace(next_view(), bos="<|endoftext|>")]).locator(".about").inner_text()
    assert "read after <|endoftext|>" in after


# ---- Looks


def background(opened) -> str:
    return opened.evaluate("getComputedStyle(document.documentElement).backgroundColor")


def test_light_and_dark_follow_the_reader_and_the_button(shown) -> None:
    assert background(shown([], scheme="light")) == "rgb(255, 255, 255)"
    opened = shown([], scheme="dark")
    assert background(opened) == "rgb(20, 23, 26)"
    opened.get_by_role("button", name="Light or dark").click()
    assert background(opened) == "rgb(255, 255, 255)"


def test_the_heat_map_follows_light_and_dark(shown) -> None:
    ahead = """() => [...document.querySelector(".map canvas").getContext("2d")
      .getImageData(5, 0, 1, 1).data]"""  # the first token cannot look at the sixth
    opened = shown([attention_view(WORDS)], scheme="dark")
    assert opened.evaluate(ahead) == [20, 23, 26, 255]
    opened.get_by_role("button", name="Light or dark").click()
    assert opened.evaluate(ahead) == [255, 255, 255, 255]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_plot_has_the_ground_that_its_words_need(shown, tmp_path: Path, scheme: str) -> None:
    file = tmp_path / "plot.svg"
    file.write_text(drawn(plot(lens_view(WORDS))), encoding="utf-8")
    opened = shown(file, scheme=scheme)
    found = opened.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    ink = opened.evaluate("getComputedStyle(document.querySelector('.title')).fill")
    assert (found, ink) == ("rgb(255, 255, 255)", "rgb(31, 35, 40)")


@pytest.mark.parametrize("width", [380, 768, 1280])
def test_the_page_never_scrolls_sideways(shown, width: int) -> None:
    pieces = [*WORDS * 5, "x" * 120, " ", "\t" * 30, *PAYLOADS]
    opened = shown([*every_view(pieces), attention_view(WORDS, 4, 16)], width=width)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_the_tables_are_open_and_the_ink_is_dark(shown) -> None:
    opened = shown(every_view(), scheme="dark")
    opened.emulate_media(media="print")
    sync_api.expect(opened.locator("details[open]")).to_have_count(2)
    assert opened.locator("details tbody tr").count() == 2 * len(WORDS)
    assert background(opened) == "rgb(255, 255, 255)"
    assert opened.locator(".panel:visible").count() == 0
    opened.emulate_media(media="screen")
    sync_api.expect(opened.locator("details[open]")).to_have_count(0)
    assert background(opened) == "rgb(20, 23, 26)"


def test_parts_of_the_page_have_roles_and_names(shown) -> None:
    opened = shown(every_view())
    assert opened.get_by_role("heading", level=1).inner_text() == "Once upon a time"
    assert opened.get_by_role("main").count() == 1
    titles = opened.get_by_role("heading", level=2).all_inner_texts()
    assert len(titles) == 5
    for title in titles:
        assert opened.get_by_role("navigation").get_by_role("link", name=title).count() == 1
        assert opened.locator("section").filter(has_text=title).count() >= 1
        assert opened.get_by_role("region", name=title, exact=True).count() >= 1
    assert opened.locator("table:not(:has(caption))").count() == 0


def test_a_long_text_can_be_walked(shown) -> None:
    opened = shown([text_view(WORDS * 91)])
    opened.locator(".token").first.focus()
    opened.keyboard.press("End")
    assert chosen(opened).startswith("Token 1000 ")
    assert opened.locator(".token").last.evaluate(
        "node => node.getBoundingClientRect().bottom <= innerHeight"
    )


def test_an_empty_text_is_said_to_be_empty(shown) -> None:
    assert shown([text_view([])]).get_by_text("The text is empty.").is_visible()


# ---- Nothing gets in, nothing goes out


def test_payloads_stay_text(shown) -> None:
    views = every_view(PAYLOADS)
    opened = shown(views)
    opened.emulate_media(media="print")  # every table is made
    for place in range(len(PAYLOADS)):
        opened.locator(".text .token").nth(place).hover()
    assert opened.evaluate("window.hit") is None
    foreign = "img, iframe, svg, math, form, style:not(head style), base, object, template, body a"
    assert opened.locator(f"body :is({foreign}):not(nav a)").count() == 0
    assert opened.locator("script").count() == 2
    attributes = opened.evaluate("""() => [...new Set([...document.querySelectorAll("body *")]
      .flatMap((node) => node.getAttributeNames()))].filter((name) => name.startsWith("on"))""")
    assert attributes == []


def test_a_payload_is_shown_letter_by_letter(shown) -> None:
    opened = shown([text_view(PAYLOADS)])
    first = opened.locator(".token").first
    assert first.text_content() == "<script>window.hit·=·1</script>"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (" a b", "·a·b"),
        ("\n", "↵"),
        ("\t\r\x00\x1b\x7f\x9b", "TABCRNULESCDELU+009B"),
        ("\u202egnp\u2066\u2069\u200f", "RLOgnpLRIPDIRLM"),
        ("\u200b\ufeff\xa0\xad\u2028", "ZWSPBOMNBSPSHYLS"),
        ("\u3164\u2800\U000e0041", "U+3164U+2800U+E0041"),
        ("\u0301a", "\u25cc\u0301a"),
        ("e\u0301\u0302\u0303\u0304", "e\u0301\u0302\u0303U+0304"),
        ("\ud800", "U+D800"),
        ("", "empty"),
    ],
)
def test_what_cannot_be_seen_is_named(shown, text: str, seen: str) -> None:
    assert shown([text_view([text])]).locator(".token").text_content() == seen


def test_writing_from_right_to_left_leaves_its_neighbours_in_place(shown) -> None:
    pieces = ["one", "\u202e two", "مرحبا", "שלום", "\u2067three", " four"]
    lefts = (
        shown([text_view(pieces)])
        .locator(".token")
        .evaluate_all("nodes => nodes.map((node) => node.getBoundingClientRect().left)")
    )
    assert lefts == sorted(lefts)


def test_the_policy_forbids_markup_from_strings_and_requests(browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page("a page", every_view()), encoding="utf-8")
    with browser.new_context() as context:
        opened = context.new_page()
        opened.goto(file.as_uri())
        with pytest.raises(sync_api.Error, match="TrustedHTML"):
            opened.evaluate("document.body.innerHTML = '<b>x</b>'")
        with pytest.raises(sync_api.Error, match="Failed to fetch"):
            opened.evaluate("fetch('http://127.0.0.1:9/')")
