"""What a word is where no white space stands between words, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_engine import FakeEngine
from support.small_tokenizers import (
    FEW,
    few_bytes,
    few_bytes_of_fallback,
    few_pieces,
    few_word_pieces,
)

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadInput, Unavailable, UsageError
from gptcli.protocol import Window
from gptcli.scoring import units
from gptcli.scoring.options import Scoring
from gptcli.scoring.pairs import Pair, score_pairs
from gptcli.scoring.scorer import TextToScore, score
from gptcli.scoring.scores import TextScore
from gptcli.scoring.tally import ScoreTally, figures
from gptcli.scoring.units import cutter

COMMA = "\uff0c"


def cost(id: int) -> float:
    """The log-probability of a token wherever it stands."""
    return -1.0 - id % 7


def scored(tokenizer: Tokenizer, text: str, detail="words", **settings) -> TextScore:
    def expecting(window: Window, place: int) -> float:
        return cost(window.ids[place])

    engine = FakeEngine(tokenizer=tokenizer, expecting=expecting)
    how = Scoring(**({"units": "character"} | settings))
    [found] = score(engine, [TextToScore("0", text)], how, detail)
    assert found.error is None
    return found


def rows(found: TextScore) -> list[tuple[int, str, int, int, float | None]]:
    return [(row.index, row.word, row.words, row.tokens, row.logprob) for row in found.word_scores]


def costs(tokenizer: Tokenizer, *pieces: str) -> float:
    ids = [tokenizer.raw.token_to_id(piece) for piece in pieces]
    assert None not in ids
    return sum(map(cost, ids))


def test_a_character_costs_what_its_token_costs() -> None:
    tokenizer = few_word_pieces()
    assert rows(scored(tokenizer, "今天好 a")) == [
        (0, "今", 1, 1, costs(tokenizer, "今")),
        (1, "天", 1, 1, costs(tokenizer, "天")),
        (2, "好", 1, 1, costs(tokenizer, "好")),
        (3, "a", 1, 1, costs(tokenizer, "a")),
    ]


def test_characters_of_one_token_are_one_row_and_keep_their_numbers() -> None:
    tokenizer = few_pieces()
    assert rows(scored(tokenizer, "吾輩は猫である。")) == [
        (0, "吾", 1, 2, costs(tokenizer, "▁", "吾")),
        (1, "輩", 1, 1, costs(tokenizer, "輩")),
        (2, "は", 1, 1, costs(tokenizer, "は")),
        (3, "猫", 1, 1, costs(tokenizer, "猫")),
        (4, "である", 3, 1, costs(tokenizer, "である")),
        (7, "。", 1, 1, costs(tokenizer, "。")),
    ]


def test_a_character_of_several_tokens_costs_all_of_them() -> None:
    tokenizer = few_bytes_of_fallback()
    bytes_ = [f"<0x{byte:02X}>" for byte in "漢".encode()]
    assert rows(scored(tokenizer, "漢猫")) == [
        (0, "漢", 1, 3, costs(tokenizer, *bytes_)),
        (1, "猫", 1, 1, costs(tokenizer, "猫")),
    ]


def test_characters_that_share_a_token_are_one_row() -> None:
    [row, after] = scored(few_bytes(), "中国a").word_scores
    assert (row.word, row.words, row.tokens, after.word, after.index) == ("中国", 2, 4, "a", 2)


TEXTS = [
    "今天天气很好。",
    "中国 中国",
    "吾輩は猫である。名前は",
    "한국어 한국",
    "e\u0301 👩\u200d🚀 🇨🇳",
]
TEXTS += ["\u3000今\u3000天", "龘今龘龘", "unaffable new", "\ufeff今\x00天\u200b", "a\n今", "ﷺ㍿ﬁ"]


@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize("unit", ["word", "character", "jieba"])
@pytest.mark.parametrize("text", TEXTS)
def test_the_words_sum_to_the_text(kind: str, unit: units.Unit, text: str) -> None:
    if unit == "jieba":
        pytest.importorskip("jieba")
    found = scored(FEW[kind](), text, units=unit)
    assert sum(row.logprob or 0 for row in found.word_scores) == pytest.approx(found.logprob)
    assert sum(row.words for row in found.word_scores) == found.words
    assert [row.index for row in found.word_scores] == [
        sum(row.words for row in found.word_scores[:place])
        for place in range(len(found.word_scores))
    ]


@pytest.mark.parametrize("kind", FEW)
def test_bits_per_character_divide_by_code_points(kind: str) -> None:
    found = scored(FEW[kind](), "今天e\u0301 a", "texts")
    assert found.characters == 6
    assert found.bytes == 3 + 3 + 3 + 2
    assert found.surprisal_bits is not None
    assert found.bits_per_character == pytest.approx(found.surprisal_bits / 6)
    assert found.bits_per_byte == pytest.approx(found.surprisal_bits / 11)
    assert "bits per character" in dict(figures(found))


def test_marks_of_regions_are_no_characters_of_the_text() -> None:
    assert scored(few_word_pieces(), "今天|气", "texts", regions="|").characters == 3


def test_what_a_word_is_counts_in_bits_per_word() -> None:
    assert scored(few_word_pieces(), "今天 气", "texts", units="word").words == 2
    assert scored(few_word_pieces(), "今天 气", "texts").words == 3


def test_regions_count_characters() -> None:
    tokenizer = few_word_pieces()
    found = scored(tokenizer, "今天|天气|很好", "regions", regions="|").region_scores
    assert [(row.region, row.word, row.words) for row in found] == [
        ("今天", 0, 2),
        ("天气", 2, 2),
        ("很好", 4, 2),
    ]
    assert found[1].logprob == pytest.approx(costs(tokenizer, "天", "气"))
    words = scored(tokenizer, "今天|天气|很好", regions="|").word_scores
    assert [row.region for row in words] == [0, 0, 1, 1, 2, 2]


def test_a_border_inside_a_token_is_refused() -> None:
    engine = FakeEngine(tokenizer=few_pieces())
    how = Scoring(units="character", regions="|")
    [found] = score(engine, [TextToScore("0", "猫で|ある。")], how, "regions")
    assert isinstance(found.error, BadInput)
    assert "lies inside the token 'である'" in str(found.error)


@pytest.mark.parametrize(
    ("unit", "text", "parts"),
    [
        ("word", " a  今天\tb\n", ["a", "今天", "b"]),
        ("character", "か\u3099な e\u0301", ["か\u3099", "な", "e\u0301"]),
        ("character", "👩\u200d🚀🇨🇳한", ["👩\u200d🚀", "🇨🇳", "한"]),
        ("character", "\u3000今\u3000", ["今"]),
        ("character", "", []),
    ],
)
def test_units_are_found(unit: units.Unit, text: str, parts: list[str]) -> None:
    assert [text[start:end] for start, end in cutter(unit)(text)] == parts


def test_jieba_finds_words_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jieba")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    units._jieba.cache_clear()
    text = f"我爱北京天安门{COMMA}GPT 好。"
    parts = [text[start:end] for start, end in cutter("jieba")(text)]
    assert parts == ["我", "爱", "北京", "天安门", COMMA, "GPT", "好", "。"]
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_without_jieba_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find: Callable[[str], None] = lambda name: None  # noqa: E731
    monkeypatch.setattr(units, "find_spec", find)
    with pytest.raises(Unavailable, match=r"pip install 'gptcli\[languages\]'") as caught:
        scored(few_word_pieces(), "今天", units="jieba")
    assert caught.value.exit_code == 69


def test_the_trailing_method_is_about_white_space() -> None:
    with pytest.raises(UsageError, match="--word-method trailing"):
        scored(few_bytes(), "中国", word_method="trailing")


def test_what_the_vocabulary_lacks_is_counted_and_named() -> None:
    tokenizer = few_word_pieces()
    tally = ScoreTally(print, single=True)
    [found] = tally.watched([scored(tokenizer, "今龘 日本龘", "texts")])
    assert found.unknown == ("龘", "日", "本", "龘")
    assert found.to_dict()["unknown"] == 4
    said = "4 characters of the text are not in the vocabulary: 龘, 日, 本"
    assert tally.unknown.notices("the text") == (said,)
    assert tally.total is not None
    assert tally.total.unknown == ()  # they would be kept of every text
    [row, *_] = scored(tokenizer, "龘", "tokens").token_scores
    assert (row.token, row.surface, row.part, row.unknown) == ("[UNK]", "龘", None, True)


def test_a_special_token_that_is_written_is_not_lacking() -> None:
    assert scored(few_word_pieces(), "今[UNK]龘", "texts").unknown == ("龘",)


def test_what_both_sentences_of_a_pair_lack_is_named() -> None:
    engine = FakeEngine(tokenizer=few_word_pieces())
    tally = ScoreTally(print, single=False)
    [found] = tally.pairs(score_pairs(engine, [Pair("1", "今天龘", "今䶮天")], Scoring()))
    assert found.unknown == ("龘", "䶮")
    assert tally.unknown.notices("the texts") == (
        "2 characters of the texts are not in the vocabulary: 龘, 䶮",
    )


@pytest.mark.parametrize(
    ("text", "unit", "uncut"),
    [
        ("今天天气很好我爱北京。", "word", True),
        ("今天 天气 很好。", "word", False),
        ("今天天气很好我爱北京。", "character", False),
        ("unaffable" * 3, "word", False),
    ],
)
def test_a_sentence_that_is_taken_for_a_word_is_noticed(text: str, unit: str, uncut: bool) -> None:
    tally = ScoreTally(print, single=True)
    list(tally.watched([scored(few_word_pieces(), text, units=unit)]))
    assert tally.uncut == uncut


def test_bytes_lack_nothing() -> None:
    tally = ScoreTally(print, single=True)
    [found] = tally.watched([scored(few_bytes(), "今龘", "texts")])
    assert (found.unknown, tally.unknown.notices("the text")) == ((), ())


def test_each_token_says_which_part_of_a_character_it_is() -> None:
    found = scored(few_bytes(), "中国", "tokens").token_scores
    assert [(row.surface, row.part) for row in found] == [
        ("中", "1/2"),
        ("中国", "2/2+1/3"),
        ("国", "2/3"),
        ("国", "3/3"),
    ]


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_the_first_token_is_scored_after_the_begin_token(kind: str) -> None:
    tokenizer, asked = FEW[kind](), list[Window]()

    def expecting(window: Window, place: int) -> float:
        asked.append(window)
        return cost(window.ids[place])

    engine = FakeEngine(tokenizer=tokenizer, expecting=expecting)
    [found] = score(engine, [TextToScore("0", "今天")], Scoring(), "tokens")
    assert asked[0].ids == (tokenizer.roles.begin, *tokenizer.encode("今天", bare=True))
    assert asked[0].first == 1
    assert all(row.logprob is not None for row in found.token_scores)
