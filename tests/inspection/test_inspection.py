"""Views: what they say of a text, as data, as arrays and as plots."""

from __future__ import annotations

import io
import itertools
import json
import math
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from support.fake_engine import FakeEngine
from support.small_tokenizers import (
    FEW,
    few_bytes,
    few_pieces,
    few_word_pieces,
)
from transformers import GPT2LMHeadModel

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines import open_engine
from gptcli.engines.gpt2.tracing import Tracer, tracer
from gptcli.errors import BadInput, UsageError
from gptcli.inspection import colours, font, labels, page, reading
from gptcli.inspection.layout import Cells, Words, laid_out
from gptcli.inspection.plots import Bars, Maps, plot
from gptcli.inspection.png import coloured, encoded, image
from gptcli.inspection.records import arrays, npz, record
from gptcli.inspection.svg import drawn
from gptcli.inspection.tokens import text_after, tokenized
from gptcli.inspection.views import (
    AttentionView,
    AttributionView,
    LensView,
    NextView,
    TextView,
    TokenView,
    View,
)
from gptcli.options import Filters, Load
from gptcli.protocol import Alternative

TEXT = "Once upon a time there was a king"
LONG = TEXT + ", and he had a golden bird"
HOSTILE = [
    *("\x1b]0;owned\x07", "\x00\x08\r\x9b", "\u202e\u2066\u200f", "<script>&amp;]]>", '"><b>'),
    *("[red]x[/red]", "\u0301\u0301", "\ufffe\uffff", "👩\u200d🚀", "שלום", "\U000e0041"),
]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def engine(tales: Path) -> object:
    return open_engine(Load(model=str(tales)))


@pytest.fixture(scope="module")
def inside(engine) -> Tracer:
    return tracer(engine)


@pytest.fixture(scope="module")
def views(engine, inside: Tracer) -> dict[str, View]:
    """One view of each kind, by its name."""
    return {
        "text": reading.text_view(engine, TEXT),
        "next": reading.next_view(inside, TEXT, Filters(), 5),
        "attention": reading.attention_view(inside, TEXT, [1, 2]),
        "lens": reading.lens_view(inside, TEXT, 2),
        "attribution": reading.attribution_view(inside, TEXT),
    }


def reference(folder: Path, ids: list[int]) -> torch.Tensor:
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].log_softmax(-1)


# Tokens


def test_tokens_have_their_places_and_bytes(tales: Path) -> None:
    tokens = tokenized(load_tokenizer(tales), "a tíme")
    assert b"".join(token.raw for token in tokens).decode() == "a tíme"
    assert [(token.start, token.end) for token in tokens] == [
        (0, 1),
        (1, 3),
        (3, 4),
        (3, 4),
        (4, 6),
    ]


def test_tokens_of_one_emoji_share_its_place(tales: Path) -> None:
    tokens = tokenized(load_tokenizer(tales), "👩")
    assert len(tokens) == 4
    assert {(token.start, token.end) for token in tokens} == {(0, 1)}


def test_a_special_token_has_the_bytes_of_its_text(tales: Path) -> None:
    [token] = tokenized(load_tokenizer(tales), "<|endoftext|>")
    assert (token.raw, token.start, token.end) == (b"<|endoftext|>", 0, 13)


# Token by token


def test_each_token_is_measured_as_transformers_does(engine, tales: Path) -> None:
    view = reading.text_view(engine, TEXT, top=3)
    ids = [token.id for token in view.tokens]
    logprobs = reference(tales, [engine.tokenizer.eos_id, *ids])
    for place, token in enumerate(view.tokens):
        row = logprobs[place]
        assert token.logprob == pytest.approx(float(row[token.id]), abs=1e-4)
        assert token.rank == int((row > row[token.id]).sum()) + 1
        bits = -float((row.exp() * row).sum()) / math.log(2)
        assert token.entropy_bits == pytest.approx(bits, abs=1e-4)
        assert [one.id for one in token.top] == row.topk(3).indices.tolist()


def test_without_bos_the_first_token_is_not_measured(engine) -> None:
    first, *others = reading.text_view(engine, TEXT, bos=False).tokens
    assert (first.logprob, first.rank, first.entropy_bits, first.top) == (None, None, None, ())
    assert all(token.logprob is not None for token in others)


def test_one_token_without_bos_is_shown_unmeasured(engine) -> None:
    [token] = reading.text_view(engine, "Once", bos=False).tokens
    assert token.logprob is None


def test_an_empty_text_has_no_tokens(engine) -> None:
    assert reading.text_view(engine, "").tokens == ()


def test_a_text_beyond_the_context_is_read_in_windows(make_tiny) -> None:
    folder = make_tiny(n_positions=16)
    engine = open_engine(Load(model=str(folder)))
    view = reading.text_view(engine, TEXT * 3, bos=False, stride=8)
    ids = [token.id for token in view.tokens]
    assert 20 < len(ids) <= 24
    place = 20  # measured by the window 8 to 24, which reads what stands from 8 on
    logprobs = reference(folder, ids[8:place])
    assert view.tokens[place].logprob == pytest.approx(float(logprobs[-1][ids[place]]), abs=1e-4)
    assert all(token.logprob is not None for token in view.tokens[1:])


def test_a_failing_engine_gives_its_error(tales: Path) -> None:
    engine = FakeEngine(error=BadInput("too long"), tokenizer=load_tokenizer(tales))
    with pytest.raises(BadInput, match="too long"):
        reading.text_view(engine, "Once upon")


# What is read before the text


def test_every_view_gives_the_next_token_the_same_probability(engine, inside: Tracer) -> None:
    for bos in (True, False):
        text = reading.text_view(engine, TEXT, bos=bos).tokens[-1]
        begun = TEXT.removesuffix(" king")
        after = reading.next_view(inside, begun, Filters(), 4096, bos=bos)
        lens = reading.lens_view(inside, begun, 4096, bos=bos)
        why = reading.attribution_view(inside, begun, " king", bos=bos)
        assert text.logprob is not None
        [there] = [one.probability for one in after.candidates if one.id == text.id]
        [last] = [one.logprob for one in lens.layers[-1][-1] if one.id == text.id]
        assert math.log(there) == pytest.approx(text.logprob, abs=1e-4)
        assert last == pytest.approx(text.logprob, abs=1e-4)
        assert why.target.logprob == pytest.approx(text.logprob, abs=1e-4)


def test_the_begin_token_is_a_row_with_the_index_before_the_first(inside: Tracer) -> None:
    begin, *others = reading.attention_view(inside, TEXT).tokens
    assert (begin.index, begin.text, begin.start, begin.end) == (-1, "<|endoftext|>", 0, 0)
    assert [token.index for token in others] == list(range(8))


def test_a_tokenizer_without_a_begin_token_reads_the_text_alone(tales: Path) -> None:
    engine = open_engine(Load(model=str(tales)))
    engine.tokenizer = Tokenizer(engine.tokenizer.raw, None)
    view = reading.text_view(engine, TEXT)
    assert (view.bos, view.tokens[0].logprob) == (None, None)
    assert reading.lens_view(tracer(engine), TEXT).bos is None


def test_a_text_that_fills_the_context_has_no_place_for_a_begin_token(make_tiny) -> None:
    inside = tracer(open_engine(Load(model=str(make_tiny(n_positions=8)))))
    with pytest.raises(BadInput, match=r"is 8, of which <\|endoftext\|> takes one"):
        reading.lens_view(inside, TEXT, 1)
    assert len(reading.lens_view(inside, TEXT, 1, bos=False).tokens) == 8
    assert len(reading.lens_view(inside, TEXT, 1, "truncate-right").tokens) == 8


# What needs the text to fit


@pytest.mark.parametrize(
    "look",
    [
        lambda inside, text, overflow: reading.next_view(inside, text, Filters(), 1, overflow),
        lambda inside, text, overflow: reading.attention_view(inside, text, [0], [0], overflow),
        lambda inside, text, overflow: reading.lens_view(inside, text, 1, overflow),
        lambda inside, text, overflow: reading.attribution_view(inside, text, on_overflow=overflow),
    ],
    ids=["next", "attention", "lens", "attribution"],
)
def test_a_text_beyond_the_context_is_refused_or_cut(
    make_tiny, look: Callable[[Tracer, str, str], NextView]
) -> None:
    inside = tracer(open_engine(Load(model=str(make_tiny(n_positions=8)))))
    with pytest.raises(BadInput, match=r"it has \d+ tokens, but the context of .* is 8"):
        look(inside, LONG, "error")
    begin, end = (look(inside, LONG, f"truncate-{side}").text for side in ("right", "left"))
    assert LONG.startswith(begin)
    assert LONG.endswith(end)
    assert max(len(begin), len(end)) < len(LONG)


def test_a_cut_text_has_tokens_counted_from_its_beginning(make_tiny) -> None:
    inside = tracer(open_engine(Load(model=str(make_tiny(n_positions=8)))))
    view = reading.lens_view(inside, LONG, 1, "truncate-left")
    assert len(view.tokens) == 8
    assert [token.index for token in view.tokens] == list(range(-1, 7))
    assert "".join(view.text[token.start : token.end] for token in view.tokens) == view.text


def test_one_token_looks_at_itself(inside: Tracer) -> None:
    alone = reading.attention_view(inside, "Once", bos=False)
    assert alone.weights.tolist() == [[[[1.0]]] * 6] * 6


def test_an_empty_text_is_looked_into_as_the_end_of_one(inside: Tracer) -> None:
    [token] = reading.attention_view(inside, "").tokens
    assert (token.text, token.start, token.end) == ("<|endoftext|>", 0, 0)


@pytest.mark.parametrize(("layers", "heads", "flag"), [([6], None, "layer"), ([0], [6], "head")])
def test_a_layer_or_head_there_is_not(inside: Tracer, layers, heads, flag: str) -> None:
    with pytest.raises(UsageError, match=f"--{flag}: there is no 6: .* has 6, counted from 0"):
        reading.attention_view(inside, TEXT, layers, heads)


def test_too_many_weights_are_refused(inside: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_WEIGHTS", 100)
    with pytest.raises(BadInput, match="Choose one with --layer and --head"):
        reading.attention_view(inside, TEXT)
    assert reading.attention_view(inside, TEXT, [0], [0]).weights.shape == (1, 1, 9, 9)


@pytest.mark.parametrize(("target", "text"), [(" queen", " queen"), ("529", " time")])
def test_a_target_is_a_text_or_an_id(inside: Tracer, target: str, text: str) -> None:
    assert reading.attribution_view(inside, TEXT, target).target.token == text


@pytest.mark.parametrize("target", ["", " king queen", "4096", "9" * 5000])
def test_a_target_that_is_no_token_is_refused(inside: Tracer, target: str) -> None:
    with pytest.raises(UsageError, match="--target"):
        reading.attribution_view(inside, TEXT, target)


def test_only_settings_that_change_something_are_named(inside: Tracer) -> None:
    off = Filters(temperature=1.0, top_k=0, top_p=1.0, min_p=0.1)
    assert reading.next_view(inside, TEXT, off).settings == (("min_p", 0.1),)
    greedy = reading.next_view(inside, TEXT, Filters(greedy=True))
    assert greedy.settings == (("temperature", 0.0),)


# Labels


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" king", "␣king"),
        ("\n\n\t", "↵↵⇥"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202e\u200d\u2028", "\\u202e\\u200d\\u2028"),
        ("\u00a0", "\\xa0"),
        ("e\u0301", "e\u0301"),
        ("\u0301", "\\u0301"),
        ("\U000e0041", "\\ue0041"),
        ("漢字", "漢字"),
        ("\ufffd", "\ufffd"),
    ],
)
def test_every_character_of_a_label_is_visible(text: str, shown: str) -> None:
    assert labels.visible(text) == shown


def test_a_part_of_a_character_is_labelled_by_its_bytes() -> None:
    assert labels.label(TokenView(0, 1, "\ufffd", b"\xe2\x80", 0, 1)) == "\\xe2\\x80"
    whole = TokenView(0, 1, "\ufffd", "\ufffd".encode(), 0, 1)
    assert labels.label(whole) == "\ufffd"


@pytest.mark.parametrize(
    ("text", "columns", "fitted"),
    [("ab", 4, "ab  "), ("abcd", 3, "ab…"), ("漢字", 3, "漢…"), ("漢字", 2, "… "), ("a", 0, "")],
)
def test_a_label_is_fitted_to_columns(text: str, columns: int, fitted: str) -> None:
    assert labels.fitted(text, columns) == fitted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("漢", ["漢·1/3", "漢·2/3", "漢·3/3"]),
        ("é!", ["é·1/2", "é·2/2", "!"]),
        ("a👩", ["a", "👩·1/4", "👩·2/4", "👩·3/4", "👩·4/4"]),
        ("\ufffd", ["\ufffd·1/3", "\ufffd·2/3", "\ufffd·3/3"]),
    ],
)
def test_a_part_of_a_character_is_the_character_and_which_part(
    tales: Path, text: str, shown: list[str]
) -> None:
    assert [labels.label(token) for token in tokenized(load_tokenizer(tales), text)] == shown


def test_a_token_that_ends_a_character_and_begins_another_shows_both() -> None:
    shown = [labels.label(token) for token in tokenized(few_bytes(), "中国")]
    assert shown == ["中·1/2", "中·2/2国·1/3", "国·2/3", "国·3/3"]


def test_pieces_of_words_keep_their_mark_and_bytes_are_without_it() -> None:
    tokens = tokenized(few_word_pieces(), "unaffable 今")
    assert [labels.label(token) for token in tokens] == ["un", "##aff", "##able", "今"]
    assert b"".join(token.raw for token in tokens).decode() == "unaffable今"
    assert [token.surface for token in tokens] == ["un", "aff", "able", " 今"]


def test_a_space_before_a_word_is_seen() -> None:
    tokens = tokenized(few_pieces(), "猫 吾である")
    assert [labels.label(token) for token in tokens] == ["␣猫", "␣", "吾", "である"]
    assert [(token.start, token.end) for token in tokens] == [(0, 1), (1, 2), (2, 3), (3, 6)]


def test_what_the_vocabulary_lacks_is_named() -> None:
    tokens = tokenized(few_word_pieces(), "今龘 new日本 unx")
    assert [labels.label(token) for token in tokens] == [
        *("今", "龘·[UNK]", "new", "日·[UNK]", "本·[UNK]", "unx·[UNK]")
    ]


@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize("text", ["今天 a", "中国龘", "한국어", "👩\u200d🚀", "\ufeffa\x00b ", "ﷺ"])
def test_places_cover_the_text(kind: str, text: str) -> None:
    tokens = tokenized(FEW[kind](), text)
    covered = {place for token in tokens for place in range(token.start, token.end)}
    assert covered == set(range(max(token.end for token in tokens)))
    assert all(not sign.isalnum() for place, sign in enumerate(text) if place not in covered)
    for place in covered:  # the parts of each character are counted to their end
        of = [part for token in tokens for part in token.parts if text[place] in part.text]
        numbers = [part.number for part in of if part.of > 1]
        assert numbers == [*range(1, len(numbers) + 1)] or text.count(text[place]) > 1


def test_bytes_that_have_names_make_characters_too() -> None:
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁a": 256}
    model = tokenizers.models.BPE(vocabulary, [], byte_fallback=True)
    raw = tokenizers.Tokenizer(model)
    raw.decoder = tokenizers.decoders.ByteFallback()
    tokenizer = Tokenizer(raw, None)
    tokens = tokenized(tokenizer, "漢")
    assert [labels.label(token) for token in tokens] == ["漢·1/3", "漢·2/3", "漢·3/3"]
    assert text_after(tokenizer, 0xA2, b"\xe6\xbc") == "漢"


def test_alternatives_are_named_by_what_they_would_complete(tales: Path) -> None:
    tokenizer = load_tokenizer(tales)
    first, second, last = tokenizer.encode("漢")
    assert text_after(tokenizer, last, b"\xe6\xbc") == "漢"
    assert text_after(tokenizer, second, b"\xe6") == "\\xbc"
    assert text_after(tokenizer, first, b"") == "\\xe6"
    assert text_after(tokenizer, last, b"") == "\\xa2"  # it follows nothing that it could end
    assert text_after(tokenizer, tokenizer.encode(" king")[0], b"\xe6") == " king"


def test_no_alternative_is_a_replacement_sign(engine, inside: Tracer) -> None:
    text = reading.text_view(engine, "漢字 naïve", top=100)
    after = reading.next_view(inside, "漢", Filters(), 4096)
    lens = reading.lens_view(inside, "漢字", 20)
    named = [one.token for token in text.tokens for one in token.top]
    named += [one.text for one in after.candidates]
    named += [one.token for layer in lens.layers for place in layer for one in place]
    assert not [name for name in named if "\ufffd" in name]
    assert any(name.startswith("\\x") for name in named)


# Colours


def test_the_ramp_falls_in_lightness() -> None:
    shades = [colours.luminance(colours.ramp(step / 20)) for step in range(21)]
    assert shades == sorted(shades, reverse=True)
    assert (colours.ramp(-1), colours.ramp(2)) == (colours.STOPS[0], colours.STOPS[-1])


@pytest.mark.parametrize("colour", [*colours.OF_BANDS, *(colours.ramp(n / 20) for n in range(21))])
def test_text_on_a_colour_can_be_read(colour: colours.Colour) -> None:
    ink = 0.0 if colours.ink(colour) == "#000000" else 1.0
    high, low = sorted((ink, colours.luminance(colour)), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("rank", "band"), [(1, 0), (10, 0), (11, 1), (100, 1), (101, 2), (1000, 2), (1001, 3)]
)
def test_ranks_have_the_bands_of_gltr(rank: int, band: int) -> None:
    assert colours.band(rank) == band


# JSON and arrays


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("text", ["tokens"]),
        ("next", ["settings", "candidates", "remaining", "entropy_bits", "kept_entropy_bits"]),
        ("attention", ["tokens", "layers", "heads", "weights"]),
        ("lens", ["tokens", "layer_names", "layers", "ranks"]),
        ("attribution", ["tokens", "target", "method", "log_odds", "baseline", "scores"]),
    ],
)
def test_json_has_these_keys(views: dict[str, View], name: str, keys: list[str]) -> None:
    found = json.loads(json.dumps(record(views[name]), allow_nan=False))
    assert list(found) == ["model", "revision", "text", "bos", *keys]


def test_a_token_has_these_keys(views: dict[str, View]) -> None:
    place = ["index", "id", "text", "bytes", "start", "end", "surface", "part"]
    measured = record(views["text"])["tokens"][0]
    assert list(measured) == [*place, "logprob", "rank", "entropy_bits", "top"]
    assert list(record(views["lens"])["tokens"][0]) == place


def test_json_holds_the_weights_as_they_are(views: dict[str, View]) -> None:
    view = views["attention"]
    found = np.array(record(view)["weights"], dtype=np.float32)
    assert np.array_equal(found, view.weights)
    assert record(view)["layers"] == [1, 2]
    assert record(view)["heads"] == list(range(6))


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("text", {"ids": (8,), "logprob": (8,), "entropy_bits": (8,), "rank": (8,)}),
        ("next", {"ids": (5,), "probability": (5,), "kept": (5,)}),
        ("attention", {"ids": (9,), "layers": (2,), "heads": (6,), "weights": (2, 6, 9, 9)}),
        (
            "lens",
            {
                "ids": (9,),
                "top_ids": (7, 9, 2),
                "top_logprobs": (7, 9, 2),
                "ranks": (7, 9),
                "states": (7, 9, 192),
            },
        ),
        ("attribution", {"ids": (9,), "scores": (9,), "target": ()}),
    ],
)
def test_an_archive_holds_these_arrays(
    views: dict[str, View], name: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    found = np.load(io.BytesIO(npz(views[name])), allow_pickle=False)
    assert {key: found[key].shape for key in found} == shapes


def test_what_is_not_measured_is_no_number_in_arrays(engine) -> None:
    found = arrays(reading.text_view(engine, TEXT, bos=False))
    assert math.isnan(found["logprob"][0])
    assert found["rank"][0] == 0
    assert not np.isnan(found["logprob"][1:]).any()


# Plots


def test_surprisal_is_in_bits(views: dict[str, View]) -> None:
    bars = plot(views["text"])
    assert isinstance(bars, Bars)
    expected = [-token.logprob / math.log(2) for token in views["text"].tokens]
    assert [value for _, value, _ in bars.rows] == pytest.approx(expected)


def test_attention_is_a_map_for_each_head_without_the_future(views: dict[str, View]) -> None:
    maps = plot(views["attention"])
    assert isinstance(maps, Maps)
    assert maps.names == tuple(f"L{layer} H{head}" for layer in (1, 2) for head in range(6))
    assert np.isnan(maps.maps[0][0, 1])
    assert maps.maps[-1][3, 2] == views["attention"].weights[1, 5, 3, 2]


@pytest.mark.parametrize("name", ["text", "next", "attention", "lens", "attribution"])
def test_svg_is_well_formed_and_named(views: dict[str, View], name: str) -> None:
    root = ElementTree.fromstring(drawn(plot(views[name])))
    assert root.findtext(f"{SVG}title") == plot(views[name]).title


def test_bars_are_as_long_as_their_numbers() -> None:
    root = ElementTree.fromstring(drawn(Bars("t", (("a", 4.0, "4"), ("b", -1.0, "-1")))))
    first, second = root.iter(f"{SVG}rect")
    assert float(first.get("width", 0)) == 4 * float(second.get("width", 0))
    assert (first.get("class"), second.get("class")) == ("for", "against")


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_breaks_out_of_an_svg(text: str) -> None:
    token = TokenView(0, 1, text, text.encode(), 0, 1, logprob=-1.0, rank=1, entropy_bits=1.0)
    root = ElementTree.fromstring(drawn(plot(TextView(text, None, text, (token,)))))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "style", "text", "rect")
    }
    shown = "".join(root.itertext())
    assert not set(shown) & {"\x1b", "\x07", "\u202e", "\u2066", "\u200f", "\x00", "\ufffe"}


def decoded(data: bytes) -> np.ndarray:
    """The pixels of a PNG as this package writes them."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, rest = {}, data[8:]
    while rest:
        (size,) = struct.unpack(">I", rest[:4])
        kind, body = rest[4:8], rest[8 : 8 + size]
        assert struct.unpack(">I", rest[8 + size : 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind], rest = body, rest[12 + size :]
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colour) == (8, 6)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8)
    rows = rows.reshape(height, 1 + 4 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 4)


def test_a_png_holds_its_pixels() -> None:
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(decoded(encoded(pixels)), pixels)


def test_cells_have_the_colour_of_their_numbers() -> None:
    pixels = coloured(np.array([[0.0, 0.4], [1.0, np.nan]]), 2)
    assert pixels.shape == (4, 4, 4)
    assert pixels[0, 0].tolist() == [*colours.ramp(0), 255]
    assert pixels[1, 3].tolist() == [*colours.ramp(0.4), 255]
    assert pixels[3, 3, 3] == 0


@pytest.mark.parametrize("name", ["text", "next", "attention", "lens", "attribution"])
def test_every_plot_is_a_png(views: dict[str, View], name: str) -> None:
    assert decoded(image(plot(views[name]))).any()


def test_a_map_of_many_tokens_has_small_cells() -> None:
    labels_ = ("x",) * 1500
    maps = Maps("t", (np.zeros((1500, 1500)),), ("",), 1, labels_, labels_)
    drawing = laid_out(maps)
    assert [item.cell for item in drawing.items if isinstance(item, Cells)] == [1]
    assert decoded(image(maps)).shape == (2 * drawing.height, 2 * drawing.width, 4)


def test_a_map_of_small_cells_has_some_labels_that_stay_apart() -> None:
    labels_ = tuple(map(str, range(300)))
    maps = Maps("t", (np.zeros((300, 300)),), ("",), 1, labels_, labels_)
    rows = [item for item in laid_out(maps).items if isinstance(item, Words) and item.kind == "end"]
    assert 50 < len(rows) < 100
    assert min(low.y - high.y for high, low in itertools.pairwise(rows)) >= 14


def test_no_words_of_a_map_lie_on_others(inside: Tracer) -> None:
    for head in ([2], None):
        view = reading.attention_view(inside, TEXT, [3], head)
        items = laid_out(plot(view)).items
        assert len(items) == len({(item.x, item.y) for item in items})
        tops = [item.y for item in items if isinstance(item, Cells)]
        across = [item for item in items if isinstance(item, Words) and item.turned]
        assert all(item.y < min(tops) for item in across)
        assert len(across) == (9 if head else 0)


@pytest.mark.parametrize("name", ["lens"])
def test_the_map_of_the_lens_has_the_tokens_and_the_words(
    views: dict[str, View], name: str
) -> None:
    root = ElementTree.fromstring(drawn(plot(views[name])))
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert {"␣upon", "␣king", "embeddings", "layer 0", "layer 5"} <= set(words)
    assert words.count("␣time") > 1  # the token, and what layers find likeliest
    assert any("read after <|endoftext|>" in str(word) for word in words)


def test_a_picture_has_the_words_of_the_drawing(views: dict[str, View]) -> None:
    for view in views.values():
        pixels = decoded(image(plot(view)))
        blank = decoded(image(replace(plot(view), title="", note="")))
        assert (pixels[:68] != 255).any()
        assert pixels[-60:].sum() < blank[-60:].sum() or pixels.shape != blank.shape


def test_letters_are_all_there_and_all_differ() -> None:
    signs = [chr(code) for code in range(33, 127)] + ["␣", "↵", "⇥", "…"]
    drawings = {font.line(sign).tobytes() for sign in signs}
    assert len(drawings) == len(signs)
    assert all(font.line(sign).any() for sign in signs)
    assert font.spelled("naïve Ångström …") == "naïve Ångström …"
    assert font.spelled("漢👩") == "\\u6f22\\U01f469"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", ["attention", "lens", "attribution", "next"])
def test_no_text_breaks_any_svg(views: dict[str, View], kind: str, text: str) -> None:
    view = views[kind]
    if isinstance(view, NextView):
        view = replace(view, candidates=(replace(view.candidates[0], text=text),))
    else:
        token = replace(view.tokens[0], text=text, raw=text.encode())
        view = replace(view, tokens=(token, *view.tokens[1:]))
    if isinstance(view, AttributionView):
        view = replace(view, target=Alternative(1, text, -1.0))
    root = ElementTree.fromstring(drawn(plot(view)))
    allowed = {*("svg", "title", "style", "text", "rect", "image", "defs")}
    allowed |= {"linearGradient", "stop"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= allowed


def test_every_view_goes_onto_a_page(views: dict[str, View]) -> None:
    kinds = (TextView, NextView, AttentionView, LensView, AttributionView)
    assert {type(view) for view in views.values()} == set(kinds)
    assert page.page("t", list(views.values())).startswith("<!")
