"""Prompt and continuation are one text, around a tokenizer of any kind."""

from __future__ import annotations

import random
import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_tokenizers import KINDS, made

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.engines.decoding.detokenizer import Detokenizer

EVERY = pytest.mark.parametrize("kind", KINDS)
PROMPTS = ("the cat", "今天天气", "GPT-2 是 model", "天気です", "Hello", "🍣", "the ", "cat\n", "")


@cache
def of_kind(kind: str) -> Tokenizer:
    return made(kind)


def visible(tokenizer: Tokenizer) -> list[int]:
    """Tokens that are texts; of bytes those of ASCII."""
    ids = tokenizer.visible(range(tokenizer.size))
    if tokenizer.byte_level:
        return [id for id in ids if (tokenizer.token_bytes(id) or b"\xff").isascii()]
    named = {id: tokenizer.raw.id_to_token(id) or "" for id in ids}
    high = re.compile("<0x[89A-F].>")
    return [id for id in ids if not high.fullmatch(named[id])]


def streamed(
    tokenizer: Tokenizer, new: list[int], prompt: str, stop: tuple[str, ...] = ()
) -> tuple[str, bool]:
    """The text after a prompt, and whether a stop string ended it."""
    stream = Detokenizer(tokenizer, stop, tokenizer.encode(prompt), prompt)
    pieces = [stream.push(id) for id in new]
    return "".join([*pieces, stream.flush()]), stream.stopped


def before_stop(text: str, stop: str) -> str:
    return text.partition(stop)[0]


@EVERY
def test_a_last_space_does_harm_where_words_begin_with_it(kind: str) -> None:
    tokenizer = of_kind(kind)
    harmed = kind in ("byte_level", "metaspace", "byte_fallback")
    assert tokenizer.ends_in_lone_space("the ") == harmed
    assert not tokenizer.ends_in_lone_space("the")
    assert not tokenizer.ends_in_lone_space("")


def test_the_space_of_a_word_is_shown_on_its_side() -> None:
    def shown(kind: str, token: str) -> str:
        return of_kind(kind).token_text(of_kind(kind).raw.token_to_id(token))

    assert (shown("suffixes", "the</w>"), shown("suffixes", "ca")) == ("the ", "ca")
    assert (shown("metaspace", "▁the"), shown("metaspace", "the")) == (" the", "the")


@EVERY
def test_prompt_and_text_are_the_decode_of_all_ids(kind: str) -> None:
    tokenizer, source = of_kind(kind), random.Random(5)
    ids, kept = visible(tokenizer), 0
    for _ in range(150):
        prompt = tokenizer.decode(source.choices(ids, k=source.randrange(1, 8))).strip(" ")
        prompt_ids = tokenizer.encode(prompt)
        if tokenizer.decode(prompt_ids) != prompt or not prompt:
            continue  # a text whose tokens are those of another one
        new = source.choices(ids, k=source.randrange(1, 8))
        whole = tokenizer.decode([*prompt_ids, *new])
        if "\ufffd" in whole or not whole.startswith(prompt):
            continue
        kept += 1
        assert prompt + streamed(tokenizer, new, prompt)[0] == whole
    assert kept > 20


@EVERY
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_pieces_join_to_the_same_text_and_stop_at_every_cut(kind: str, data: st.DataObject) -> None:
    tokenizer = of_kind(kind)
    prompt = data.draw(st.sampled_from(PROMPTS))
    new = data.draw(st.lists(st.sampled_from(visible(tokenizer)), max_size=8))
    text, _ = streamed(tokenizer, new, prompt)
    for start in range(len(text)):
        for size in (1, 2, 3):
            stop = text[start : start + size]
            assert streamed(tokenizer, new, prompt, (stop,)) == (before_stop(text, stop), True)


@EVERY
def test_special_tokens_change_no_text(kind: str) -> None:
    tokenizer, source = of_kind(kind), random.Random(6)
    ids = visible(tokenizer)
    special = [id for id in range(tokenizer.size) if not tokenizer.visible([id])]
    for _ in range(50):
        new = source.choices(ids, k=5)
        mixed = [id for one in new for id in (source.choice(special), one)]
        assert streamed(tokenizer, mixed, "the") == streamed(tokenizer, new, "the")


def test_no_space_stands_between_chinese_or_japanese_characters() -> None:
    tokenizer = of_kind("wordpiece")
    for text in ("今天天气真好。", "我们走在《北京》路上，“好？”"):  # noqa: RUF001
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert " " in tokenizer.raw.decode(ids)  # as transformers has it
    quotes = [tokenizer.raw.token_to_id(mark) for mark in "。”“今”"]
    assert tokenizer.decode(quotes) == "。”“今”"
    kana = [tokenizer.raw.token_to_id(character) for character in "今天はカナーです。"]
    assert tokenizer.decode(kana) == "今天はカナーです。"


def test_latin_words_keep_their_spaces() -> None:
    tokenizer = of_kind("wordpiece")
    for text in (
        "new york cats played.",
        "我们 play model 走",
        "今天2027年1月好",
        "the cat, 我",
        "model。the",
    ):
        expected = text.replace(", 我", ",我")
        assert tokenizer.decode(tokenizer.encode(text)) == expected


def test_a_number_is_one_word() -> None:
    tokenizer = of_kind("wordpiece")
    for text in ("今天3.5%。", "the 3.5% cat", "the cat. 5 cats", "今5. the"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        for cut in range(1, len(ids)):
            prompt = tokenizer.decode(ids[:cut])
            assert prompt + streamed(tokenizer, ids[cut:], prompt)[0] == text


def test_the_seam_joins_by_the_text_of_the_prompt() -> None:
    tokenizer = of_kind("wordpiece")

    def after(prompt: str, *tokens: str) -> str:
        ids = [tokenizer.raw.token_to_id(token) for token in tokens]
        return streamed(tokenizer, ids, prompt)[0]

    assert after("今天天", "气", "。") == "气。"
    assert after("GPT", "真") == " 真"  # unknown, and changed to small letters: still a word
    assert after("2027", "年") == "年"
    assert after("play", "##ing", "the") == "ing the"
    assert after("NEW", "york") == " york"
    assert after("NEW ", "york") == "york"
    assert after("NEW\n", "york") == "york"
    assert after("", "new", "york") == "new york"


@pytest.mark.parametrize("kind", ["metaspace", "words", "wordpiece"])
def test_a_word_after_unknown_characters_has_its_space(kind: str) -> None:
    tokenizer = of_kind(kind)
    world = tokenizer.raw.token_to_id("▁world" if kind == "metaspace" else "world")
    for prompt in ("QQQ", "the QQQ"):
        assert streamed(tokenizer, [world], prompt) == (" world", False)


def test_a_prompt_of_ids_that_ends_inside_a_character_is_completed() -> None:
    tokenizer = of_kind("byte_level")
    first, *rest = tokenizer.encode("é")
    stream = Detokenizer(tokenizer, (), [*tokenizer.encode("a"), first], "a")
    assert "".join([*map(stream.push, rest), stream.flush()]) == "é"


# Unknown characters.


@pytest.mark.parametrize(
    ("kind", "text", "parts"),
    [
        ("byte_level", "GPT 🍣", ()),
        ("wordpiece", "今天 QWERTY 🍣 the", ("QWERTY", "🍣")),
        ("wordpiece", "[UNK] the", ()),
        ("words", "the dog sat", ("dog", "sat")),
        ("metaspace", "the 🍣天気Q", ("🍣", "Q")),
        ("byte_fallback", "the 🍣", ()),
        ("characters", "the Q", ("Q",)),
    ],
)
def test_unknown_characters_are_found(kind: str, text: str, parts: tuple[str, ...]) -> None:
    tokenizer = of_kind(kind)
    assert tokenizer.unknown(text) == parts
    assert tokenizer.unknown(text, tokenizer.encode(text)) == parts


def test_characters_that_are_dropped_are_unknown() -> None:
    from tokenizers import Tokenizer as Raw
    from tokenizers import models

    tokenizer = Tokenizer(Raw(models.BPE({"a": 0, "b": 1}, [])), None)
    assert tokenizer.encode("aQ bZZ") == [0, 1]
    assert tokenizer.unknown("aQ bZZ") == ("Q", "ZZ")


# Words to ban, to bias, to stop at.


def test_a_word_is_encoded_as_inside_a_text() -> None:
    tokenizer = of_kind("metaspace")

    def named(text: str) -> list[str | None]:
        return [tokenizer.raw.id_to_token(id) for id in tokenizer.encode_word(text)]

    assert named("天気") == ["天気"]
    assert named(" 天気") == ["▁天気"]
    assert named(" the") == ["▁the"]
    assert named("</s>") == ["</s>"]
    assert named("🍣") == []


def test_a_token_is_shown_with_its_space() -> None:
    tokenizer = of_kind("metaspace")
    shown = [tokenizer.token_text(id) for id in tokenizer.encode("the cats天気")]
    assert "".join(shown) == " the cats天気"
