"""sentencepiece models: ids and texts are those of the sentencepiece package, and places fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from support.piece_models import (
    BYTES,
    PIECES,
    SPACE,
    SPECIAL,
    UNUSED,
    USER,
    Piece,
    message,
    odd_texts,
    trained,
    written,
)

from gptcli.checkpoints.tokenization.builders.sentencepiece import build
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadModel

TEXTS = 500
Built = Callable[..., tokenizers.Tokenizer]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    """Build the tokenizer of a model; the class and its settings are optional."""

    def make(model: bytes, class_name: str = "", **named: Any) -> tokenizers.Tokenizer:
        file = tmp_path / "spiece.model"
        file.write_bytes(model)
        return build(file, named, class_name)

    return make


def processor(model: bytes) -> Any:
    package = pytest.importorskip(
        "sentencepiece", reason="the sentencepiece package is the referee"
    )
    return package.SentencePieceProcessor(model_proto=model)


# --- the same as the sentencepiece package

SYMBOLS = ["<uds>", "\uff26\uff2f\uff2f", "foo", "か", "\u3099"]
MODELS: dict[str, Callable[[], bytes]] = {
    "unigram": partial(trained, "unigram"),
    "unigram with symbols": partial(
        trained, "unigram", user_defined_symbols=SYMBOLS, control_symbols=["<ctl>", "[PAD]"]
    ),
    "unigram with bytes": partial(
        trained, "unigram", 560, byte_fallback=True, remove_extra_whitespaces=False
    ),
    "unigram with spaces behind words": partial(
        trained, "unigram", treat_whitespace_as_suffix=True, split_by_whitespace=False
    ),
    "BPE": partial(trained, "bpe", unk_id=5, bos_id=7, eos_id=0, pad_id=1, unk_surface="??"),
    "BPE with symbols": partial(trained, "bpe", user_defined_symbols=SYMBOLS),
    "BPE with bytes": partial(
        trained,
        "bpe",
        560,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
    ),
    "BPE of lower case without a prefix": partial(
        trained, "bpe", normalization_rule_name="nmt_nfkc_cf", add_dummy_prefix=False
    ),
    "characters": partial(trained, "char", user_defined_symbols=SYMBOLS),
    "words": partial(trained, "word", 500, byte_fallback=True),
}


@pytest.mark.parametrize("kind", MODELS)
def test_ids_and_texts_are_those_of_the_package(kind: str, built: Built) -> None:
    pytest.importorskip("sentencepiece", reason="the sentencepiece package is the referee")
    model = MODELS[kind]()
    referee, raw = processor(model), built(model)
    for text in odd_texts(TEXTS):
        ids = referee.encode(text)
        found = raw.encode(text)
        assert found.ids == ids, text
        assert raw.decode(ids, skip_special_tokens=False) == referee.decode(ids), text
        assert all(0 <= start < end <= len(text) for start, end in found.offsets), text


def test_any_ids_give_the_text_of_the_package(built: Built) -> None:
    pytest.importorskip("sentencepiece", reason="the sentencepiece package is the referee")
    model = MODELS["BPE with bytes"]()
    referee, raw = processor(model), built(model)
    for seed in range(300):
        ids = [(seed * 37 + place * place * 11) % len(referee) for place in range(12)]
        assert raw.decode(ids, skip_special_tokens=False) == referee.decode(ids), ids


@pytest.mark.parametrize("algorithm", [1, 2])
def test_unused_pieces_fall_apart(algorithm: int, built: Built) -> None:
    unused = [Piece("abcd", -0.5, UNUSED), Piece("cd", -0.4, UNUSED), Piece("a,", -0.1, UNUSED)]
    model = written([*PIECES, *unused], message((3, algorithm)))
    referee, raw = processor(model), built(model)
    for text in ("abcd", "abcdabcd cd", "a,b a,", "dcba abc,1"):
        assert raw.encode(text).ids == referee.encode(text), text


def test_near_equal_cuts_fall_as_in_the_package(built: Built) -> None:
    """Over a long text sums lose digits, so that of equal cuts now one is ahead, now the other."""
    pieces = [
        *SPECIAL,
        *(Piece(text, -4.7) for text in ("b", "bb", "bbb", SPACE)),
        Piece("a", -0.3),
    ]
    model = written(pieces)
    referee, raw = processor(model), built(model)
    text = " ".join("b" * (number % 9) + "a" * (number % 5) for number in range(3000))
    assert raw.encode(text).ids == referee.encode(text)


# --- what is known without the package


def test_a_text_is_cut_where_the_scores_are_best(built: Built) -> None:
    raw = built(written())
    assert raw.encode("abc de").tokens == [SPACE + "a", "bc", SPACE, "de"]
    assert raw.encode("  abd   ").tokens == [SPACE + "a", "b", "d"]
    assert raw.encode("").ids == raw.encode("   ").ids == []


def test_unknown_characters_side_by_side_are_one_token(built: Built) -> None:
    raw = built(written())
    found = raw.encode("a猫犬b")
    assert found.tokens == [SPACE + "a", "<unk>", "b"]
    assert found.offsets == [(0, 1), (1, 3), (3, 4)]


def test_the_text_of_a_control_piece_is_text(built: Built) -> None:
    control = Piece("ab", kind=3)
    raw = built(written([*SPECIAL, *PIECES[3:13], control]))
    assert raw.encode("ab").tokens == [SPACE, "a", "b"]
    assert raw.decode([raw.token_to_id("ab")]) == ""


def test_bytes_stand_for_unknown_characters_and_share_their_place(built: Built) -> None:
    raw = built(written([*PIECES, *BYTES], message((35, 1))))
    found = raw.encode("a猫b")
    assert found.tokens == [SPACE + "a", "<0xE7>", "<0x8C>", "<0xAB>", "b"]
    assert found.offsets == [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)]
    assert raw.decode(found.ids) == "a猫b"
    assert raw.decode(found.ids[:3]) == "a\ufffd\ufffd"


def test_user_defined_symbols_are_neither_rewritten_nor_cut(built: Built) -> None:
    raw = built(written([*PIECES, Piece("b c", 0.0, USER), Piece("abcde", -99.0, USER)]))
    assert "abcde" in raw.encode("xabcdex").tokens


def test_places_cover_the_text(built: Built) -> None:
    tokenizer = Tokenizer(built(written()), None)
    text = "  abc   de,\t猫 "
    _, places = tokenizer.encode_places(text)
    assert places[0][0] == 0
    assert all(before[1] >= after[0] for before, after in pairwise(places))
    assert places[-1][1] == len(text.rstrip())


# --- what tokenizer classes do


def test_t5_ends_no_prompt_and_keeps_the_models_own_unknown_id(built: Built) -> None:
    raw = built(written(), "T5Tokenizer")
    assert raw.encode("abc 猫").ids == built(written()).encode("abc 猫").ids
    assert raw.encode("a</s>b").tokens == [SPACE + "a", "</s>", SPACE, "b"]
    assert raw.decode(raw.encode("a</s>b 猫").ids) == "a b "


def test_lower_case_where_the_settings_say_so(built: Built) -> None:
    raw = built(written(), "T5Tokenizer", do_lower_case=True, bos_token="<s>")
    assert raw.encode("ABC De").tokens == [SPACE + "a", "bc", SPACE, "de"]
    assert raw.encode("A<S>B").tokens == [SPACE + "a", "<s>", SPACE, "b"]  # as transformers has it
    assert built(written(), "T5Tokenizer").encode("ABC").tokens == [SPACE, "<unk>"]


def test_t5_has_as_many_extra_tokens_as_its_settings_say(built: Built) -> None:
    raw = built(written(), "T5Tokenizer", extra_ids=3)
    size = len(PIECES)
    assert [raw.token_to_id(f"<extra_id_{number}>") for number in range(3)] == [
        size + 2,
        size + 1,
        size,
    ]
    assert built(written(), "T5Tokenizer").get_vocab_size() == size


@pytest.mark.parametrize("fast", ["", "Fast"])
def test_llama_begins_a_text_unless_told_not_to(built: Built, fast: str) -> None:
    assert built(written(), "LlamaTokenizer" + fast).encode("a").tokens == ["<s>", SPACE + "a"]
    raw = built(written(), "LlamaTokenizer" + fast, add_bos_token=False)
    assert raw.encode("a").tokens == [SPACE + "a"]


def test_a_new_llama_puts_no_space_behind_special_tokens(built: Built) -> None:
    old = built(written(), "LlamaTokenizer", add_bos_token=False)
    new = built(written(), "LlamaTokenizer", add_bos_token=False, legacy=False)
    assert old.encode("a</s>b").tokens == [SPACE + "a", "</s>", SPACE, "b"]
    assert new.encode("a</s>b").tokens == [SPACE + "a", "</s>", "b"]
    assert new.encode("a</s> b").tokens == [SPACE + "a", "</s>", SPACE, "b"]
    assert new.encode("</s>b").tokens == ["</s>", "b"]


def test_xlm_roberta_and_camembert_move_the_ids(built: Built) -> None:
    plain = built(written()).encode("abc 猫").ids
    moved = built(written(), "XLMRobertaTokenizer").encode("abc 猫").ids
    assert moved == [0, *(id + 1 if id else 3 for id in plain)]
    moved = built(written(), "CamembertTokenizer").encode("abc 猫").ids
    assert moved == [5, *(id + 4 if id else 3 for id in plain)]


def test_albert_takes_accents_off_and_cuts_commas_from_digits(built: Built) -> None:
    pieces = [*PIECES, Piece("1,", -0.1), Piece("[CLS]", kind=3), Piece("[SEP]", kind=3)]
    raw = built(written(pieces), "AlbertTokenizer")
    assert raw.encode(" ÀB  ć 1,1").tokens == [
        "[CLS]",
        SPACE + "a",
        "b",
        *" c 1,1".replace(" ", SPACE),
    ]
    assert raw.encode(" ÀB  ć").offsets == [(0, 0), (1, 2), (2, 3), (3, 5), (5, 6)]


def test_gpt_sw3_makes_one_kind_of_space(built: Built) -> None:
    raw = built(written(), "GPTSw3Tokenizer", bos_token="<s>")
    text = "a\u3000b\x07c\u00add"
    assert raw.encode(text).ids == built(written()).encode("a bcd").ids
    assert raw.encode(text).offsets[-1] == (6, 7)


@pytest.mark.parametrize(
    "class_name", ["MarianTokenizer", "MBartTokenizerFast", "CpmTokenizer", "MyTokenizer"]
)
def test_a_class_that_is_not_known_is_refused_by_its_name(class_name: str, built: Built) -> None:
    with pytest.raises(BadModel, match=class_name):
        built(written(), class_name)
