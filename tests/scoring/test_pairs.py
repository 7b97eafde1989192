"""Minimal pairs: files of them, which sentence is preferred, and how sure that is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_engine import FakeEngine

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadInput
from gptcli.protocol import Window
from gptcli.scoring.options import Scoring
from gptcli.scoring.pair_files import read_pairs
from gptcli.scoring.pairs import Accuracy, Pair, PairScore, score_pairs, wilson

GOOD, BAD = "The king was old.", "The king were old."


@pytest.fixture(scope="module")
def tokenizer(tiny) -> Tokenizer:
    return load_tokenizer(tiny)


def read(text: str, name: str) -> list[tuple[str, str, str]]:
    return [(pair.id, pair.good, pair.bad) for pair in read_pairs(text.encode(), name)]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.tsv", f"{GOOD}\t{BAD}\n", "1"),
        ("a.tsv", f"UID\tsentence_bad\tsentence_good\r\nx\t{BAD}\t{GOOD}\r\n", "2"),
        ("a.csv", f'good,bad\n"{GOOD}","{BAD}"\n', "2"),
        ("a.txt", f"{GOOD}\t{BAD}\n\n", "1"),
        ("a.txt", f"{GOOD},{BAD}", "1"),
        ("a.jsonl", f'\n{{"sentence_good": "{GOOD}", "sentence_bad": "{BAD}", "n": 1}}\n', "2"),
        ("-", f'{{"good": "{GOOD}", "bad": "{BAD}"}}', "1"),
        ("a.csv", f"\ufeffGood,Bad\n{GOOD},{BAD}\n", "2"),
    ],
)
def test_pairs_are_read_from_any_of_these(name: str, text: str, line: str) -> None:
    assert read(text, name) == [(line, GOOD, BAD)]


def test_a_quoted_field_may_hold_separators_and_line_breaks() -> None:
    assert read('"a, b\nc","say ""so"""\n', "a.csv") == [("1", "a, b\nc", 'say "so"')]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("a.csv", "a,b,c\n1,2,3\n", BadInput),
        ("a.csv", "alone\n", BadInput),
        ("a.csv", 'a,"b\n', BadInput),
    ],
)
def test_a_table_that_holds_no_pairs_is_refused(name: str, text: str, error: type) -> None:
    with pytest.raises(error):
        list(read_pairs(text.encode(), name))


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BadInput, match="byte 2"):
        list(read_pairs(b"a,\xff", "a.csv"))


@pytest.mark.parametrize("line", ["[]", "{", '{"good": "a"}', '{"good": 1, "bad": "b"}', "1e999"])
def test_a_bad_line_of_json_is_an_error_of_its_own(line: str) -> None:
    first, second = read_pairs(f'{line}\n{{"good": "a", "bad": "b"}}\n'.encode(), "a.jsonl")
    assert isinstance(first.error, BadInput)
    assert "line 1" in str(first.error)
    assert (second.good, second.bad, second.error) == ("a", "b", None)


def test_a_row_with_other_fields_than_the_first_is_an_error_of_its_own() -> None:
    pairs = list(read_pairs(b"a,b\nc\nd,e\n", "a.csv"))
    assert [pair.error is None for pair in pairs] == [True, False, True]


def test_the_likelier_sentence_as_a_whole_is_preferred(tokenizer: Tokenizer) -> None:
    """A token's log-probability is minus its id here: the smaller ids win, not the shorter text."""

    def expecting(window: Window, place: int) -> float:
        return -float(window.ids[place])

    def total(text: str) -> float:
        return -float(sum(tokenizer.encode(text)))

    texts = [("a", "b"), ("b", "a"), ("ab c", "d")]
    engine = FakeEngine(tokenizer=tokenizer, expecting=expecting)
    pairs = [Pair(str(number), good, bad) for number, (good, bad) in enumerate(texts)]
    scores = list(score_pairs(engine, pairs, Scoring(), 2))
    for item, (good, bad) in zip(scores, texts, strict=True):
        assert (item.logprob_good, item.logprob_bad) == (total(good), total(bad))
        assert item.difference_bits == pytest.approx((total(good) - total(bad)) / math.log(2))
        assert item.correct == float(total(good) > total(bad))


def test_equal_sentences_are_half_right(tokenizer: Tokenizer) -> None:
    engine = FakeEngine(tokenizer=tokenizer)
    [item] = score_pairs(engine, [Pair("1", "a", "a")], Scoring())
    assert item.correct == 0.5


def test_what_float32_cannot_tell_apart_is_a_tie() -> None:
    assert PairScore("1", "a", "b", -10.0, -10.00005).correct == 0.5
    assert PairScore("1", "a", "b", -10.0, -10.0002).correct == 1
    assert PairScore("1", "a", "b", -10.0002, -10.0).correct == 0


def test_a_pair_with_an_error_is_not_counted(tokenizer: Tokenizer) -> None:
    pairs = [Pair("1", "a", ""), Pair("2", error=BadInput("x")), Pair("3", "a", "a")]
    scores = list(score_pairs(FakeEngine(tokenizer=tokenizer), pairs, Scoring()))
    assert [item.error is None for item in scores] == [False, False, True]
    accuracy = Accuracy()
    for item in scores:
        accuracy.add(item)
    assert (accuracy.pairs, accuracy.correct, accuracy.ties) == (1, 0.5, 1)


def test_the_accuracy_of_no_pair_is_unknown() -> None:
    assert Accuracy().to_dict()["accuracy"] is None


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [
        # The textbook values of Wilson's interval.
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
    ],
)
def test_the_interval_is_wilsons(correct: float, count: int, low: float, high: float) -> None:
    assert wilson(correct, count) == pytest.approx((low, high), abs=6e-5)


@given(count=st.integers(1, 10**6), data=st.data())
def test_the_interval_holds_the_share(count: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, 2 * count)) / 2
    low, high = wilson(correct, count)
    assert 0 <= low <= correct / count + 1e-12
    assert correct / count - 1e-12 <= high <= 1
