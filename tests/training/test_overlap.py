"""The longest shared passages are those of a slow search, and only of what is trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from gptcli.training.data.pieces import PieceTable
from gptcli.training.report import overlap
from gptcli.training.report.overlap import RUN, overlaps

END = 0


def table_of(
    documents: Sequence[Sequence[int]], context: int, trained: Sequence[int]
) -> PieceTable:
    """Pieces of the documents whose numbers are given, among the ids of all."""
    ids, starts, lengths = [END], [], []
    for number, document in enumerate(documents):
        first = len(ids) - 1
        ids += [*document, END]
        if number in trained:
            for at in range(0, len(document) + 1, context):
                starts.append(first + at)
                lengths.append(min(context, len(document) + 1 - at))
    return PieceTable(
        np.array(ids, np.uint16), np.array(starts, np.int64), np.array(lengths, np.int32)
    )


def slowly(text: Sequence[int], documents: Sequence[Sequence[int]]) -> int:
    """The longest passage that a text shares with documents."""
    best = 0
    for document in ([END, *one, END] for one in documents):
        for start in range(len(text)):
            for place in range(len(document)):
                many = 0
                while (
                    start + many < len(text)
                    and place + many < len(document)
                    and text[start + many] == document[place + many]
                ):
                    many += 1
                best = max(best, many)
    return best if best >= RUN else 0


@pytest.mark.parametrize("seed", range(6))
def test_the_longest_passages_are_those_of_a_slow_search(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(overlap, "BLOCK", 50)  # so that passages cross its edges
    kinds = chance.choice([3, 40, 1000])
    documents = [
        [chance.randrange(1, kinds) for _ in range(chance.randrange(20, 200))] for _ in range(6)
    ]
    texts = [[chance.randrange(1, kinds) for _ in range(40)] for _ in range(4)]
    for text in texts:
        piece = chance.choice(documents)
        at = chance.randrange(len(piece) - 15)
        passage = piece[at : at + chance.randrange(5, 30)]
        text[3 : 3 + len(passage)] = passage
    trained = [0, 2, 3, 5]
    found = overlaps(texts, table_of(documents, 16, trained))
    assert found.share == 1
    known = [documents[number] for number in trained]
    for text, one in zip(texts, found.found, strict=True):
        assert one.tokens == slowly(text, known)
        place = one.place
        ids = table_of(documents, 16, trained).ids
        assert [*ids[place : place + one.tokens]] == text[one.start : one.start + one.tokens]


def test_text_that_is_kept_for_validation_does_not_count() -> None:
    documents = [[*range(1, 60)], [*range(100, 160)]]
    found = overlaps([documents[0], documents[1]], table_of(documents, 16, [1]))
    assert [one.tokens for one in found.found] == [0, 60]


def test_a_pass_that_takes_too_long_says_how_much_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "BLOCK", 10)
    table = table_of([[*range(1, 100)]], 16, [0])
    found = overlaps([[*range(1, 30)]], table, lambda: True)
    assert found.share == pytest.approx(10 / 101)
    assert overlaps([[1, 2, 3]], table, lambda: True).share == 1


def test_a_text_that_repeats_itself_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    grown = []
    usual = overlap._grown
    monkeypatch.setattr(overlap, "_grown", lambda *given: grown.append(1) or usual(*given))
    found = overlaps([[7] * 50] * 3, table_of([[7] * 40000], 64, [0]))
    assert [one.tokens for one in found.found] == [50] * 3
    assert len(grown) <= 3 * overlap.MOST_GROWN
