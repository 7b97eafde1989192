"""Words from tokens: both ways to account for the white space between words, by brute force."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from support.engines import built_in
from support.fake_engine import FakeEngine
from torch import Tensor
from transformers import GPT2LMHeadModel

from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import UsageError
from gptcli.scoring.options import Scoring
from gptcli.scoring.scorer import TextToScore, score
from gptcli.scoring.scores import WordScore
from gptcli.scoring.units import cutter

TALE = "Once upon  a time, an old\nking had\tthree sons. "
EOS = 0
CLOSE = 2e-4


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    return load_tokenizer(tiny)


def found(folder: Path, text: str, **settings) -> tuple[WordScore, ...]:
    [item] = score(built_in(folder), [TextToScore("0", text)], Scoring(**settings), "words")
    assert item.error is None
    return item.word_scores


def probabilities(folder: Path, ids: list[int]) -> Tensor:
    """transformers' probabilities, (T, vocab), after each of the ids."""
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].double().softmax(-1)


def blanks(tokenizer: Tokenizer) -> Tensor:
    """Which of the tiny model's 512 ids are tokens that begin with white space."""
    known = [begins_blank(tokenizer, id) for id in range(tokenizer.size)]
    return torch.tensor(known + [False] * (512 - len(known)))


def begins_blank(tokenizer: Tokenizer, id: int) -> bool:
    return (tokenizer.token_bytes(id) or b"")[:1] in (b" ", b"\t", b"\n", b"\v", b"\f", b"\r")


def by_the_papers(folder: Path, tokenizer: Tokenizer, text: str) -> list[float]:
    """Each word's probability, word by word and token by token, with sums over the vocabulary."""
    ids, result, place = tokenizer.encode(text), [], 0
    table = probabilities(folder, [EOS, *ids])
    blank = [begins_blank(tokenizer, id) for id in range(tokenizer.size)]

    def border(at: int, wanted: bool) -> float:
        """The probability that the token there begins with white space (or not), or is the end."""
        row = table[at].tolist()[: len(blank)]  # the model has more embeddings than tokens
        return sum(p for id, p in enumerate(row) if blank[id] == wanted or id == EOS)

    while place < len(ids):
        first, product, seen = place, 1.0, False
        # A word goes on until a token begins with white space, once there was anything else.
        while place < len(ids) and not (seen and blank[ids[place]]):
            product *= table[place, ids[place]].item()
            seen = seen or bool((tokenizer.token_bytes(ids[place]) or b"").strip())
            place += 1
        if seen:
            result.append(product * border(place, True) / border(first, blank[ids[first]]))
    return result


def test_words_stand_between_white_space(tiny: Path) -> None:
    got = found(tiny, TALE)
    assert [word.word for word in got] == TALE.split()
    assert [TALE[word.start : word.end] for word in got] == TALE.split()
    assert len([*cutter("word")(TALE)]) == len(got)


def test_a_word_is_the_sum_over_its_tokens(tiny: Path, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TALE)
    table = probabilities(tiny, [EOS, *ids]).log()
    values = [table[place, id].item() for place, id in enumerate(ids)]
    got = found(tiny, TALE)
    place = 0
    for word in got:
        assert word.logprob == pytest.approx(sum(values[place : place + word.tokens]), abs=CLOSE)
        place += word.tokens
    assert place == len(ids) - 1  # the space at the end is no word's


@pytest.mark.parametrize("text", [TALE, "Once", " Once upon", "\n\nking", "x y", "old king."])
def test_trailing_white_space_counts_as_in_the_papers(
    tiny: Path, tokenizer: Tokenizer, text: str
) -> None:
    wanted = [math.log(p) for p in by_the_papers(tiny, tokenizer, text)]
    got = found(tiny, text, word_method="trailing")
    assert [word.logprob for word in got] == pytest.approx(wanted, abs=CLOSE)


def test_what_one_word_loses_the_other_gains(tiny: Path, tokenizer: Tokenizer) -> None:
    text = "Once upon a time"
    ids = tokenizer.encode(text)
    table = probabilities(tiny, [EOS, *ids])
    blank = blanks(tokenizer)
    blank[EOS] = True
    ends = table[-1][blank].sum().log().item()
    blank[EOS] = False
    begins = table[0, : tokenizer.size][~blank[: tokenizer.size]].sum().log().item()
    leading = sum(word.logprob or 0 for word in found(tiny, text))
    trailing = sum(word.logprob or 0 for word in found(tiny, text, word_method="trailing"))
    assert trailing == pytest.approx(leading + ends - begins, abs=CLOSE)


def test_every_border_is_seen_from_its_own_tokens_window(tiny: Path, tokenizer: Tokenizer) -> None:
    text, stride, size = "Once upon a time an old king had three sons " * 16 + "x", 20, 64
    ids = [EOS, *tokenizer.encode(text)]
    assert len(ids) > 2 * size
    blank, rows = blanks(tokenizer), list[Tensor]()
    blank[EOS] = True
    for begin in range(0, len(ids), stride):
        table = probabilities(tiny, ids[begin : begin + size])
        end = begin + len(table)
        rows += table[len(rows) - begin : len(table) - (end < len(ids))]
        if end == len(ids):
            break
    wanted, first = [], 0
    for word in found(tiny, text, stride=stride):
        last = first + word.tokens - 1
        inside = sum(rows[place][ids[place + 1]].log().item() for place in range(first, last + 1))
        before = blank if word.index else ~blank
        if not word.index:
            before[EOS], before[tokenizer.size :] = True, False
        border = rows[last + 1][blank].sum().log() - rows[first][before].sum().log()
        wanted.append(inside + border.item())
        first = last + 1
    got = found(tiny, text, stride=stride, word_method="trailing")
    assert [word.logprob for word in got] == pytest.approx(wanted, abs=CLOSE)


def test_without_bos_the_first_word_has_no_score(tiny: Path) -> None:
    for method in ("leading", "trailing"):
        first, *others = found(tiny, TALE, bos=False, word_method=method)
        assert first.logprob is None
        assert first.surprisal_bits is None
        assert all(word.logprob is not None for word in others)


def test_after_a_context_the_first_word_is_divided_by_white_space(
    tiny: Path, tokenizer: Tokenizer
) -> None:
    before, ids = tokenizer.encode("Once upon"), tokenizer.encode(" a")
    table = probabilities(tiny, [EOS, *before, *ids])
    blank = blanks(tokenizer)
    blank[EOS] = True
    start = len(before)
    wanted = table[start, ids[0]].log() - table[start][blank].sum().log()
    for place, id in enumerate(ids[1:], start + 1):
        wanted += table[place, id].log()
    wanted += table[-1][blank].sum().log()
    [word] = found(tiny, " a", context="Once upon", word_method="trailing")
    assert word.logprob == pytest.approx(wanted.item(), abs=CLOSE)


def test_a_word_split_over_tokens_and_characters_keeps_its_place(tiny: Path) -> None:
    got = found(tiny, "a \N{ROCKET}\N{ROCKET} b")
    assert [(word.word, word.start, word.end) for word in got] == [
        ("a", 0, 1),
        ("\N{ROCKET}\N{ROCKET}", 2, 4),
        ("b", 5, 6),
    ]
    assert got[1].tokens == 1 + 2 * 4  # the space is a token of its own


def test_white_space_alone_has_no_words(tiny: Path) -> None:
    assert found(tiny, " \n\t ") == ()


def test_tokens_that_are_no_bytes_have_no_trailing_white_space(tokenizer: Tokenizer) -> None:
    from tokenizers import decoders

    other = Tokenizer(type(tokenizer.raw).from_str(tokenizer.raw.to_str()), EOS)
    other.raw.decoder = decoders.Metaspace()
    engine = FakeEngine(tokenizer=other)
    with pytest.raises(UsageError, match="--word-method leading"):
        list(score(engine, [TextToScore("0", "a b")], Scoring(word_method="trailing"), "words"))
