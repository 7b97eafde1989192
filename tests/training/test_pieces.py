"""Pieces: every token of every document is a target exactly once an epoch, and no other is."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from support.training_data import prepared, sentences, tales_tokenizer

from gptcli.training.data.pieces import BLOCK, PieceTable
from gptcli.training.data.shuffling import Shuffle

LINES = {"valid_share": 0.0, "documents": "line"}


def table_of(lengths: list[int]) -> PieceTable:
    sizes = np.array(lengths, np.int32)
    starts = np.concatenate([[0], np.cumsum(sizes[:-1], dtype=np.int64)])
    return PieceTable(np.zeros(1, np.uint16), starts, sizes)


@pytest.mark.parametrize("context", [2, 7, 16, 1000])
def test_every_token_and_end_is_a_target_once_and_nothing_else_is(
    tmp_path: Path, context: int
) -> None:
    rows = [*sentences(40), "x", "x y"]
    corpus = prepared(tmp_path, {"a.txt": "\n".join(rows)}, context=context, **LINES)
    table, encode, end = corpus.train, tales_tokenizer().encode, tales_tokenizer().eos_id
    targets = np.zeros(len(table.ids), int)
    for step in table.steps(seed=3, epoch=1, batch_tokens=50):
        for piece in step:
            start, length = int(table.starts[piece]), int(table.lengths[piece])
            assert 0 < length <= context
            targets[start + 1 : start + length + 1] += 1
            # No loss across documents: an end token is an input only where a document begins.
            assert (table.ids[start + 1 : start + length] != end).all()
    assert targets.tolist() == [0] + [1] * (len(table.ids) - 1)
    wanted = [end, *(id for row in rows for id in (*encode(row), end))]
    assert table.ids.tolist() == wanted
    assert table.tokens == table.targets == len(wanted) - 1


def test_the_end_token_is_a_target_and_no_id_stands_for_padding(tmp_path: Path) -> None:
    """GPT-2's padding is often its end token; a mask by id would leave the end untrained."""
    corpus = prepared(tmp_path, {"a.txt": "one\ntwo"}, context=64, **LINES)
    table, end = corpus.train, tales_tokenizer().eos_id
    for start, length in zip(table.starts, table.lengths, strict=True):
        assert table.ids[start] == table.ids[start + length] == end
    assert table.targets == table.tokens == len(table.ids) - 1


def test_a_document_keeps_its_remainder(tmp_path: Path) -> None:
    text = " ".join(sentences(30))
    corpus = prepared(tmp_path, {"a.txt": text}, context=16, valid_share=0.0)
    count = len(tales_tokenizer().encode(text)) + 1
    assert corpus.train.lengths.tolist() == [16] * (count // 16) + [count % 16] * bool(count % 16)


def test_steps_are_filled_by_whole_pieces_and_can_begin_anywhere() -> None:
    table = table_of([5, 3, 9, 1, 1, 7, 2, 2] * 50)
    steps = list(table.steps(seed=1, epoch=0, batch_tokens=20))
    order = np.concatenate(steps)
    assert sorted(order.tolist()) == list(range(len(table)))
    assert order.tolist() == table.order(seed=1, epoch=0).tolist()
    for step in steps[:-1]:
        assert table.lengths[step].sum() >= 20 > table.lengths[step[:-1]].sum()
    assert len(steps) == table.steps_of_epoch(1, 0, 20)
    begun = 0
    for number, step in enumerate(steps):
        later = [one.tolist() for one in table.steps(1, 0, 20, first=begun)]
        assert later == [one.tolist() for one in steps[number:]]
        begun += len(step)


def test_the_order_depends_on_seed_and_epoch() -> None:
    table = table_of([1] * 500)
    orders = [table.order(seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] == table.order(0, 0).tolist()
    assert orders[0][:8] == [449, 55, 275, 314, 346, 66, 420, 18]  # on every machine


@pytest.mark.parametrize("count", [1, 2, 3, 64, 65, 1000, 4097])
def test_a_large_order_has_each_piece_once_and_is_spread(count: int) -> None:
    shuffle = Shuffle(count, 5, 2, sorted_up_to=0)
    order = np.concatenate(
        [shuffle.between(at, min(at + 100, count)) for at in range(0, count, 100)]
    )
    assert sorted(order.tolist()) == list(range(count))
    if count >= 1000:
        assert abs(np.corrcoef(order, np.arange(count))[0, 1]) < 0.1
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.1
        assert (np.diff(order) == 1).mean() < 0.01


def test_fifty_million_pieces_begin_at_once_and_take_little_memory() -> None:
    import tracemalloc

    count = 50_000_000
    lengths = np.broadcast_to(np.int32(64), count)  # no memory of its own
    table = PieceTable(np.zeros(1, np.uint16), np.broadcast_to(np.int64(0), count), lengths)
    tracemalloc.start()
    began = time.process_time()
    for first in (0, count // 2, count - 100):
        step = next(table.steps(seed=0, epoch=0, batch_tokens=8192, first=first))
        assert len(step) == min(128, count - first)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - began < 5  # a tenth of a second, and a busy machine
    assert used < 100 * BLOCK
