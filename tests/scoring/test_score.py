"""Scores of texts: against transformers' arithmetic, and by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.engines import built_in, by_torch, through_transformers
from support.fake_engine import FakeEngine
from transformers import GPT2LMHeadModel

from gptcli.api import Model
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadInput, UsageError
from gptcli.protocol import Engine, Window
from gptcli.scoring.options import Scoring
from gptcli.scoring.scorer import TextToScore, score
from gptcli.scoring.scores import TextScore, together
from gptcli.scoring.windows import stretches

TALE = "Once upon a time an old king had three sons, and each of them had a horse. "
LONG = TALE + "The second rode away, and it went no better with him. " * 10
CLOSE = 1e-4
EOS = 0


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    return load_tokenizer(tiny)


@pytest.fixture(scope="module")
def reference(tiny: Path) -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(tiny).eval()


def one(engine: Engine, text: str, **settings) -> TextScore:
    [found] = score(engine, [TextToScore("0", text)], Scoring(**settings), "tokens")
    assert found.error is None, found.error
    return found


def logprobs(found: TextScore) -> list[float | None]:
    return [token.logprob for token in found.token_scores]


def whole(model: GPT2LMHeadModel, ids: list[int]) -> list[float]:
    """By transformers: the log-probability of each id but the first, given all before it."""
    with torch.inference_mode():
        table = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [table[place - 1, ids[place]].item() for place in range(1, len(ids))]


def by_the_guide(model: GPT2LMHeadModel, ids: list[int], stride: int) -> list[float]:
    """Hugging Face's guide on perplexity, with each token's own log-probability kept."""
    size, reached = model.config.n_positions, 0
    found: list[float] = []
    for begin in range(0, len(ids), stride):
        end = min(begin + size, len(ids))
        found += whole(model, ids[begin:end])[-(end - reached) :]
        reached = end
        if end == len(ids):
            break
    return found


def test_figures_are_those_computed_by_hand(tokenizer: Tokenizer) -> None:
    """Three tokens of 1, 2 and 6 bits: 9 in all, 3 on average, with variance (4 + 1 + 9) / 2."""
    ids = tokenizer.encode("x-y", bare=True)
    assert len(ids) == 3
    surprisals = {1: 1.0, 2: 2.0, 3: 6.0}

    def expecting(window: Window, place: int) -> float:
        assert window.ids == (EOS, *ids)
        return -surprisals[place] * math.log(2)

    engine = FakeEngine(tokenizer=tokenizer, expecting=expecting)
    found = one(engine, "x-y")
    assert [token.surprisal_bits for token in found.token_scores] == pytest.approx([1, 2, 6])
    assert found.logprob == pytest.approx(-6.238325)
    assert found.surprisal_bits == pytest.approx(9)
    assert found.bits_per_token == pytest.approx(3)
    assert found.bits_per_token_se == pytest.approx(1.527525)  # sqrt(7 / 3)
    assert found.perplexity == pytest.approx(8)
    assert found.perplexity_se == pytest.approx(8.470398)  # 8 x ln 2 x 1.527525
    assert found.bits_per_word == pytest.approx(9)
    assert found.bits_per_byte == pytest.approx(3)


@pytest.mark.parametrize("engine", [built_in, by_torch, through_transformers])
def test_a_short_text_is_scored_as_by_transformers(
    engine, tiny: Path, tokenizer: Tokenizer, reference: GPT2LMHeadModel
) -> None:
    ids = tokenizer.encode(TALE)
    assert logprobs(one(engine(tiny), TALE)) == pytest.approx(
        whole(reference, [EOS, *ids]), abs=CLOSE
    )
    first, *others = logprobs(one(engine(tiny), TALE, bos=False))
    assert first is None
    assert others == pytest.approx(whole(reference, ids), abs=CLOSE)


@pytest.mark.parametrize("stride", [1, 7, 32, 63])
@pytest.mark.parametrize("bos", [True, False])
def test_a_long_text_is_scored_as_in_the_guide(
    tiny: Path, tokenizer: Tokenizer, reference: GPT2LMHeadModel, stride: int, bos: bool
) -> None:
    ids = [EOS] * bos + tokenizer.encode(LONG)
    assert len(ids) > 2 * reference.config.n_positions
    found = one(built_in(tiny, 3), LONG, stride=stride, bos=bos)
    wanted = by_the_guide(reference, ids, stride)
    assert logprobs(found)[not bos :] == pytest.approx(wanted, abs=CLOSE)
    assert found.logprob == pytest.approx(sum(wanted), abs=CLOSE * len(wanted))


def test_the_window_moves_by_half_the_context_if_nothing_is_said(tiny: Path) -> None:
    assert logprobs(one(built_in(tiny), LONG)) == pytest.approx(
        logprobs(one(built_in(tiny), LONG, stride=32)), abs=1e-6
    )


def test_the_stride_does_not_matter_to_a_text_that_fits(tiny: Path) -> None:
    assert logprobs(one(built_in(tiny), TALE, stride=3)) == pytest.approx(
        logprobs(one(built_in(tiny), TALE)), abs=1e-6
    )


@given(
    length=st.integers(1, 300),
    known=st.integers(0, 100),
    context=st.integers(2, 80),
    data=st.data(),
)
def test_windows_score_every_token_once(
    length: int, known: int, context: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context - 1))
    found = list(stretches(length, known, context, stride))
    scored = [place for at in found for place in range(at.first, at.end)]
    assert scored == list(range(max(known, 1), length))
    for at in found:
        assert at.begin < at.first < at.end <= at.begin + context
        assert at.begin == 0 or at.first - at.begin >= min(context - stride, at.first)


def test_a_stride_that_leaves_a_token_without_context_is_refused(tiny: Path) -> None:
    with pytest.raises(UsageError, match="at most 63"):
        list(score(built_in(tiny), [TextToScore("0", "a b")], Scoring(stride=64)))


@pytest.mark.parametrize("slots", [1, 3, 16])
def test_scores_depend_on_neither_batch_nor_neighbours(
    tiny: Path, tokenizer: Tokenizer, reference: GPT2LMHeadModel, slots: int
) -> None:
    texts = [LONG[:size] for size in (4, 70, 9, 300, 31, 2, 150, 60)] * 2
    found = list(
        score(
            built_in(tiny, slots),
            [TextToScore(str(number), text) for number, text in enumerate(texts)],
            Scoring(),
            batch_size=slots,
        )
    )
    assert [item.id for item in found] == [str(number) for number in range(len(texts))]
    for item, text in zip(found, texts, strict=True):
        wanted = by_the_guide(reference, [EOS, *tokenizer.encode(text)], 32)
        assert item.logprob == pytest.approx(sum(wanted), abs=CLOSE * len(wanted))


@pytest.mark.parametrize("bos", [True, False])
def test_a_context_is_read_and_not_scored(
    tiny: Path, tokenizer: Tokenizer, reference: GPT2LMHeadModel, bos: bool
) -> None:
    before, ids = tokenizer.encode(TALE[:40]), tokenizer.encode(" and a horse")
    found = one(built_in(tiny), " and a horse", context=TALE[:40], bos=bos)
    wanted = whole(reference, [EOS] * bos + before + ids)[-len(ids) :]
    assert logprobs(found) == pytest.approx(wanted, abs=CLOSE)
    assert found.tokens == len(ids)


def test_a_context_longer_than_the_models_is_windowed_too(
    tiny: Path, tokenizer: Tokenizer, reference: GPT2LMHeadModel
) -> None:
    ids = tokenizer.encode(" had")
    found = one(built_in(tiny), " had", context=LONG, bos=False)
    wanted = by_the_guide(reference, tokenizer.encode(LONG) + ids, 32)[-len(ids) :]
    assert logprobs(found) == pytest.approx(wanted, abs=CLOSE)


def test_ranks_and_entropies_are_in_their_units(
    tiny: Path, tokenizer: Tokenizer, reference: GPT2LMHeadModel
) -> None:
    ids = [EOS, *tokenizer.encode("Once upon")]
    with torch.inference_mode():
        table = reference(torch.tensor([ids])).logits[0].log_softmax(-1)[:-1]
    found = one(built_in(tiny), "Once upon").token_scores
    entropies = -(table.exp() * table).sum(-1) / math.log(2)
    assert [token.entropy_bits for token in found] == pytest.approx(entropies.tolist(), abs=CLOSE)
    order = table.argsort(descending=True).tolist()
    assert [token.rank for token in found] == [
        row.index(id) + 1 for row, id in zip(order, ids[1:], strict=True)
    ]


def test_a_character_of_several_tokens_has_one_place(tiny: Path) -> None:
    found = one(built_in(tiny), "a\N{ROCKET}b").token_scores
    inside = [token for token in found if token.start == 1]
    assert len(inside) == 4
    assert {(token.start, token.end, token.token) for token in inside} == {(1, 2, "\ufffd")}


@pytest.mark.parametrize(
    "text", ["\x00\x1b[31m\x07", "\u202eabc\u2066", "\N{ROCKET}", "\r\n\t", "x"]
)
def test_odd_texts_are_scored_like_any_other(
    tiny: Path, tokenizer: Tokenizer, reference: GPT2LMHeadModel, text: str
) -> None:
    wanted = whole(reference, [EOS, *tokenizer.encode(text)])
    assert logprobs(one(built_in(tiny), text)) == pytest.approx(wanted, abs=CLOSE)


def test_what_is_wrong_with_one_text_is_its_own_error(tiny: Path) -> None:
    kept = BadInput("line 4", "not UTF-8")
    texts = [
        TextToScore("1", "Once"),
        TextToScore("2", ""),
        TextToScore("3", "\ud800"),
        TextToScore("4", "", kept),
        TextToScore("5", "upon"),
    ]
    found = list(score(built_in(tiny), texts, Scoring(), batch_size=2))
    assert [item.id for item in found] == ["1", "2", "3", "4", "5"]
    assert [type(item.error) for item in found] == [
        type(None),
        UsageError,
        BadInput,
        BadInput,
        type(None),
    ]
    assert found[3].error is kept
    assert found[1].logprob is None
    assert found[1].to_dict()["perplexity"] is None


def test_one_token_with_nothing_before_it_is_an_error(tiny: Path) -> None:
    [found] = score(built_in(tiny), [TextToScore("0", "x")], Scoring(bos=False))
    assert isinstance(found.error, BadInput)


def test_one_token_has_no_standard_error(tiny: Path) -> None:
    found = one(built_in(tiny), "x")
    assert (found.scored, found.bits_per_token_se, found.perplexity_se) == (1, None, None)


def test_texts_are_pulled_only_a_little_ahead(tokenizer: Tokenizer) -> None:
    pulled = 0

    def texts() -> Iterator[TextToScore]:
        nonlocal pulled
        for number in range(1000):
            pulled += 1
            yield TextToScore(str(number), "abc")

    found = score(FakeEngine(tokenizer=tokenizer), texts(), Scoring(), batch_size=2)
    for _ in range(5):
        next(found)
    assert pulled <= 5 + 8 + 1


def test_more_bad_texts_than_may_wait_come_out_in_order(tokenizer: Tokenizer) -> None:
    texts = [TextToScore(str(number), "" if number % 50 else "abc") for number in range(120)]
    found = list(score(FakeEngine(tokenizer=tokenizer), texts, Scoring()))
    assert [item.id for item in found] == [text.id for text in texts]


def test_an_error_is_given_out_while_there_is_nothing_to_read(tiny: Path) -> None:
    def texts() -> Iterator[TextToScore | None]:
        yield TextToScore("0", "")
        while not done:
            yield None
        yield TextToScore("1", "abc")

    done: list[TextScore] = []
    for item in score(built_in(tiny), texts(), Scoring()):
        done.append(item)
    assert [item.id for item in done] == ["0", "1"]


def test_texts_together_are_as_one(tokenizer: Tokenizer) -> None:
    def expecting(window: Window, place: int) -> float:
        return -float(window.ids[place] % 7)

    engine = FakeEngine(tokenizer=tokenizer, expecting=expecting)
    parts = [one(engine, text) for text in ("Once upon", "a time", "x")]
    values = [value for part in parts for value in logprobs(part) if value is not None]
    mean = sum(values) / len(values)
    found = together(parts)
    assert found.scored == len(values)
    assert found.logprob == pytest.approx(sum(values))
    assert found.squares == pytest.approx(sum((value - mean) ** 2 for value in values))
    assert found.bytes == len("Once upon" + "a time" + "x")


def test_a_tokenizer_without_an_end_of_text_needs_no_bos(tiny: Path) -> None:
    engine = built_in(tiny)
    engine.tokenizer = Tokenizer(engine.tokenizer.raw, None)
    with pytest.raises(UsageError, match="--no-bos"):
        list(score(engine, [TextToScore("0", "a b")], Scoring()))


def test_the_library_scores_texts(tiny: Path) -> None:
    model = Model(built_in(tiny))
    found = model.score("Once upon a time")
    assert found.logprob == pytest.approx(one(built_in(tiny), "Once upon a time").logprob)
    assert len(found.token_scores) == found.tokens
    assert [item.error is None for item in model.score_many(["a b", ""])] == [True, False]
    with pytest.raises(UsageError, match="nothing to score"):
        model.score("")
