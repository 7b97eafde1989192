"""Streaming text: joined pieces equal one-shot decoding, stop strings never leak."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.decoding.detokenizer import Detokenizer


@pytest.fixture(scope="module")
def bpe(tales: Path) -> Tokenizer:
    """The bundled byte-level tokenizer."""
    return load_tokenizer(tales)


@pytest.fixture(scope="module")
def byte_ids(bpe: Tokenizer) -> dict[int, int]:
    """The token of each single byte."""
    singles = {bpe.token_bytes(id): id for id in range(bpe.size)}
    return {byte: singles[bytes([byte])] for byte in range(256)}


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    words = ["[UNK]", "[SEP]", "the", "cat", "##s", "sat", ".", "n't", "do", "'", "##é", "。", "猫"]
    raw = tokenizers.Tokenizer(
        models.WordPiece({word: id for id, word in enumerate(words)}, unk_token="[UNK]")
    )
    raw.add_special_tokens(["[SEP]"])
    raw.decoder = decoders.WordPiece()
    return Tokenizer(raw, 1)


@pytest.fixture(scope="module")
def byte_fallback() -> Tokenizer:
    """As sentencepiece makes them: words with a leading mark, and bytes for the rest."""
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁a", "b", "▁", "é"]
    vocabulary = {name: id for id, name in enumerate(names)}
    raw = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>")
    )
    raw.add_special_tokens(["</s>"])
    raw.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return Tokenizer(raw, None)


def streamed(tokenizer: Tokenizer, ids: list[int], stop: tuple[str, ...] = ()) -> str:
    stream = Detokenizer(tokenizer, stop)
    joined = "".join(map(stream.push, ids)) + stream.flush()
    assert stream.text == joined
    return joined


def cut(text: str, stop: tuple[str, ...]) -> str:
    """What is left of a text by definition: everything before the stop string that ends first."""
    for end in range(1, len(text) + 1):
        starts = [end - len(word) for word in stop if text[:end].endswith(word)]
        if starts:
            return text[: min(starts)]
    return text


# Decoding.


def test_random_tokens_give_the_text_of_one_shot_decoding(bpe: Tokenizer) -> None:
    source = random.Random(0)
    for _ in range(1000):
        ids = [source.randrange(bpe.size) for _ in range(source.randrange(1, 60))]
        assert streamed(bpe, ids) == bpe.decode(ids)


def test_random_byte_tokens_give_the_text_of_one_shot_decoding(
    bpe: Tokenizer, byte_ids: dict[int, int]
) -> None:
    source = random.Random(1)
    for _ in range(1000):
        ids = [byte_ids[source.randrange(256)] for _ in range(source.randrange(1, 60))]
        assert streamed(bpe, ids) == bpe.decode(ids)


# Bytes that begin characters, end them, or never stand in UTF-8.
NASTY = b"a\x00\x7f\x80\x9f\xa0\xbf\xc0\xc2\xdf\xe0\xe2\xed\xef\xf0\x90\x8f\xf4\xf5\xff"


@given(st.lists(st.sampled_from(NASTY), max_size=12))
@settings(max_examples=500, deadline=None)
def test_broken_utf8_is_replaced_as_by_the_library(
    bpe: Tokenizer, byte_ids: dict[int, int], data: list[int]
) -> None:
    ids = [byte_ids[byte] for byte in data]
    assert streamed(bpe, ids) == bpe.decode(ids)


@pytest.mark.parametrize("text", ["👩‍🚀🇺🇳", "漢字かな", "한국어", "é", "𝔘𝔫𝔦"])  # noqa: RUF001
def test_a_character_appears_whole_and_as_soon_as_it_is_complete(
    text: str, bpe: Tokenizer, byte_ids: dict[int, int]
) -> None:
    stream = Detokenizer(bpe)
    for character in text:
        *first, last = (byte_ids[byte] for byte in character.encode())
        assert [stream.push(id) for id in first] == [""] * len(first)
        assert stream.push(last) == character


def test_an_incomplete_character_is_replaced_at_the_end(
    bpe: Tokenizer, byte_ids: dict[int, int]
) -> None:
    stream = Detokenizer(bpe)
    given_out = [stream.push(byte_ids[byte]) for byte in b"a\xf0\x9f"]
    assert (given_out, stream.flush()) == (["a", "", ""], "\ufffd")


def test_special_tokens_add_no_text_even_inside_a_character(
    bpe: Tokenizer, byte_ids: dict[int, int]
) -> None:
    first, second = (byte_ids[byte] for byte in "é".encode())
    assert streamed(bpe, [4095, first, 4095, second, 4095]) == "é"


def test_a_second_flush_gives_nothing(bpe: Tokenizer, byte_ids: dict[int, int]) -> None:
    stream = Detokenizer(bpe, ("aa",))
    stream.push(byte_ids[ord("a")])
    assert [stream.flush(), stream.flush(), stream.text] == ["a", "", "a"]


def test_no_tokens_give_no_text(bpe: Tokenizer, wordpiece: Tokenizer) -> None:
    assert [Detokenizer(bpe).flush(), Detokenizer(wordpiece).flush()] == ["", ""]


@pytest.mark.parametrize("kind", ["wordpiece", "byte_fallback"])
def test_other_tokenizers_give_the_text_of_one_shot_decoding(
    kind: str, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    source = random.Random(2)
    ids = [id for id in range(tokenizer.size) if id > 250 or id < 20 or 0x7E < id <= 0x84]
    if kind == "byte_fallback":
        ids += [1 + byte for byte in "€ ".encode()] * 20 + [257, 258, 259, 260] * 20
    for _ in range(2000):
        tokens = source.choices(ids, k=source.randrange(1, 15))
        assert streamed(tokenizer, tokens) == tokenizer.decode(tokens)


@pytest.mark.parametrize("kind", ["wordpiece", "byte_fallback"])
def test_prompt_and_text_are_what_all_tokens_decode_to(
    kind: str, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    source = random.Random(3)
    words = [2, 3, 4, 5, 6, 8] if kind == "wordpiece" else [257, 258, 259, 260]
    for _ in range(500):
        prompt = source.choices(words, k=source.randrange(1, 15))
        tokens = source.choices(words, k=source.randrange(1, 15))
        before = tokenizer.decode(prompt)
        stream = Detokenizer(tokenizer, (), prompt, before)
        pieces = [*map(stream.push, tokens), stream.flush()]
        assert before + "".join(pieces) == tokenizer.decode(prompt + tokens)


def test_a_space_that_the_prompt_ends_in_is_not_written_twice(wordpiece: Tokenizer) -> None:
    for end, text in (("", " sat ."), (" ", "sat ."), ("  ", "sat .")):
        stream = Detokenizer(wordpiece, (), [2, 3], "the cat" + end)
        assert "".join([stream.push(5), stream.push(6), stream.flush()]) == text.replace(" .", ".")


def test_words_stream_one_by_one(wordpiece: Tokenizer) -> None:
    stream = Detokenizer(wordpiece)
    assert [stream.push(id) for id in (1, 2, 3, 4, 1, 5, 6)] == [
        "",
        "the",
        " cat",
        "s",
        "",
        " sat",
        ".",
    ]


def test_bytes_of_the_fallback_wait_for_their_character(byte_fallback: Tokenizer) -> None:
    euro = [1 + byte for byte in "€".encode()]
    stream = Detokenizer(byte_fallback)
    assert [stream.push(id) for id in [*euro, 258]] == ["", "", "", "€b"]


def test_a_byte_level_decoder_among_others_splits_no_character(tales: Path) -> None:
    raw = tokenizers.Tokenizer.from_file(str(tales / "tokenizer.json"))
    raw.decoder = decoders.Sequence([decoders.ByteLevel()])
    tokenizer = Tokenizer(raw, None)
    ids = tokenizer.encode("é猫👩‍🚀!")
    stream = Detokenizer(tokenizer)
    assert "\ufffd" not in "".join(map(stream.push, ids))
    assert stream.text == "é猫👩‍🚀!"


def test_a_tokenizer_that_takes_text_back_is_not_streamed_on() -> None:
    class Reversing:
        byte_level = False
        joining = unknown_id = None
        raw = tokenizers.Tokenizer(models.WordLevel({"x": 0}, unk_token="x"))

        def visible(self, ids: list[int]) -> list[int]:
            return ids

        def decode(self, ids: list[int], special: bool = False) -> str:
            return "".join(chr(97 + id) for id in sorted(ids))

    stream = Detokenizer(Reversing())  # type: ignore[arg-type]
    assert [stream.push(2), stream.push(1), stream.push(3), stream.flush()] == ["c", "", "", ""]


# Stop strings.


def pieces(text: str, cuts: list[int]) -> list[str]:
    borders = [0, *cuts, len(text)]
    return [text[a:b] for a, b in pairwise(borders)]


class Verbatim:
    """A byte-level tokenizer whose tokens are the given texts."""

    byte_level = True

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def token_bytes(self, id: int) -> bytes:
        return self.texts[id].encode()


def stopped_at(texts: list[str], *stop: str) -> tuple[list[str], bool]:
    """What each push returns, then the flush; and whether a stop string was found."""
    stream = Detokenizer(Verbatim(texts), stop)  # type: ignore[arg-type]
    given_out = [stream.push(id) for id in range(len(texts))] + [stream.flush()]
    return given_out, stream.stopped


@pytest.mark.parametrize("border", range(1, 12))
def test_a_stop_string_is_found_wherever_tokens_split_it(border: int) -> None:
    text = "ab###Q: cdef"
    given_out, stopped = stopped_at(pieces(text, [border]), "###Q: ")
    assert ("".join(given_out), stopped) == ("ab", True)


def test_a_stop_string_of_single_characters_never_leaks() -> None:
    assert stopped_at(list("a END b"), " END") == (["a", *[""] * 7], True)


def test_a_stop_string_inside_one_token_cuts_the_token() -> None:
    assert stopped_at(["one two three"], "two") == (["one ", ""], True)


def test_a_stop_string_at_the_very_start_leaves_nothing() -> None:
    assert stopped_at(["\n", "\n", "more"], "\n\n") == (["", "", "", ""], True)


def test_nothing_follows_a_stop() -> None:
    assert stopped_at(["a.", "b.", "c"], ".") == (["a", "", "", ""], True)


def test_a_stop_that_is_the_beginning_of_another_wins() -> None:
    assert stopped_at(["xab", "c"], "abc", "ab") == (["x", "", ""], True)


def test_a_false_beginning_is_given_out_as_soon_as_it_is_one() -> None:
    assert stopped_at(["a", "#", "#", "b", "#"], "###") == (["a", "", "", "##b", "", "#"], False)


def test_what_could_still_begin_a_stop_is_held_back() -> None:
    # "aab" is no beginning of "aac", but its end "a" could be.
    assert stopped_at(["aa", "a", "b", "a"], "aac") == (["", "a", "aab", "", "a"], False)


def test_of_overlapping_stops_the_one_that_is_complete_first_wins() -> None:
    assert stopped_at(["xabc"], "abc", "b") == (["xa", ""], True)


def test_of_stops_that_end_together_the_longest_wins() -> None:
    assert stopped_at(["x", "ab"], "b", "ab") == (["x", "", ""], True)


def test_an_incomplete_stop_is_given_out_at_the_end() -> None:
    assert stopped_at(["a#", "#"], "###") == (["a", "", "##"], False)


def test_a_stop_string_in_another_script_is_found() -> None:
    assert stopped_at(["猫。", "猫"], "。猫") == (["猫", "", ""], True)


def test_a_stop_string_can_be_completed_by_the_flush(
    bpe: Tokenizer, byte_ids: dict[int, int]
) -> None:
    stream = Detokenizer(bpe, ("a\ufffd",))
    given_out = [stream.push(byte_ids[byte]) for byte in b"xa\xe2"] + [stream.flush()]
    assert (given_out, stream.stopped) == (["x", "", "", ""], True)


def test_stop_strings_work_without_byte_level_tokens(wordpiece: Tokenizer) -> None:
    assert streamed(wordpiece, [2, 3, 4, 5], stop=("s sat",)) == "the cat"


@given(
    st.lists(st.text("ab#", max_size=4), max_size=12),
    st.lists(st.text("ab#", min_size=1, max_size=5), max_size=3).map(tuple),
)
@settings(max_examples=500, deadline=None)
def test_the_text_depends_on_the_stops_and_not_on_how_tokens_cut_it(
    texts: list[str], stop: tuple[str, ...]
) -> None:
    whole = "".join(texts)
    given_out, stopped = stopped_at(texts, *stop)
    assert "".join(given_out) == cut(whole, stop)
    assert stopped == any(word in whole for word in stop)


@given(
    st.lists(st.text("ab#", min_size=1, max_size=3), min_size=1, max_size=8),
    st.text("ab#", min_size=1, max_size=5),
)
@settings(max_examples=300, deadline=None)
def test_no_more_is_held_back_than_could_begin_a_stop(texts: list[str], stop: str) -> None:
    stream = Detokenizer(Verbatim(texts), (stop,))  # type: ignore[arg-type]
    seen = ""
    for id, text in enumerate(texts):
        stream.push(id)
        seen += text
        if not stream.stopped:
            held = seen[len(stream.text) :]
            assert seen == stream.text + held
            assert stop.startswith(held)
