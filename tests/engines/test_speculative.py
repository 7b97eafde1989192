"""Drafts change how fast a text is written, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.engines import completions, requests

from gptcli.engines import open_engine
from gptcli.engines.decoding.request import encode_request
from gptcli.engines.decoding.sequence import Sequence, new_sequences
from gptcli.engines.decoding.speculative import DraftLength, NgramDrafter, best_draft_length
from gptcli.errors import UsageError
from gptcli.options import Load, Sampling
from gptcli.protocol import Chunk, Completion, Engine, GenerateRequest

PROMPTS = [
    "the king and the fox and the bird and the king and the fox and",
    "Once upon a time an old king had three sons, and each of them had",
    "a b c a b c a b c a b",
    "x",
]
SAMPLINGS = [
    Sampling(greedy=True, max_new_tokens=40),
    Sampling(seed=1, max_new_tokens=40),
    Sampling(seed=2, temperature=0.3, max_new_tokens=40, logprobs=2),
    Sampling(seed=3, temperature=1.4, top_k=0, top_p=1, max_new_tokens=40),
    Sampling(seed=4, temperature=0.2, repetition_penalty=1.2, min_new_tokens=9, max_new_tokens=40),
    Sampling(seed=5, temperature=0.2, no_repeat_ngram_size=4, max_new_tokens=40),
    Sampling(greedy=True, stop=("king", "ot"), max_new_tokens=40),
    Sampling(greedy=True, stop_on_loop=True, max_new_tokens=40),
    Sampling(seed=6, temperature=0.4, num_return_sequences=3, max_new_tokens=20),
]


def opened(folder: Path, batch_size: int = 4, **how: object) -> Engine:
    return open_engine(Load(model=str(folder), dtype="float32", **how), batch_size)


def written(engine: Engine, sampling: Sampling) -> list[tuple[object, ...]]:
    return [
        (c.tokens, c.text, c.finish_reason, c.usage.to_dict(), c.logprobs and len(c.logprobs))
        for c in completions(engine, requests(PROMPTS, sampling))
    ]


def eager(folder: Path, batch_size: int, **how: object) -> Engine:
    """An engine that takes its draft model for free: one as large would never be asked."""
    engine = opened(folder, batch_size, **how)
    engine._draft_length._drafter.cost = 0.0
    return engine


@pytest.mark.usefixtures("each_network")
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_text_is_the_same_with_guesses(tiny: Path, make_tiny, batch_size: int) -> None:
    plain = opened(tiny, batch_size, draft="off")
    other = make_tiny(seed=1, n_layer=1)
    drafted = [
        opened(tiny, batch_size, draft="ngram"),
        eager(tiny, batch_size, draft_model=str(tiny)),  # always right
        eager(tiny, batch_size, draft_model=str(other)),  # hardly ever
    ]
    for sampling in SAMPLINGS:
        expected = written(plain, sampling)
        for engine in drafted:
            assert written(engine, sampling) == expected


def test_a_text_of_the_bundled_model_is_the_same_with_guesses(tales: Path) -> None:
    plain, drafted = opened(tales, 2, draft="off"), opened(tales, 2)
    for sampling in (SAMPLINGS[0], SAMPLINGS[2]):
        assert written(drafted, sampling) == written(plain, sampling)


@pytest.mark.usefixtures("each_network")
def test_guesses_save_steps(tiny: Path, steps: list[int]) -> None:
    sampling = Sampling(greedy=True, max_new_tokens=48)
    text = "a b c a b c a b c a b"
    for draft in ("off", "ngram"):
        completions(opened(tiny, draft=draft), requests([text], sampling))
        steps.append(-1)
    plain, drafted = len(steps[: steps.index(-1)]), len(steps) - steps.index(-1) - 2
    assert plain == 48
    assert drafted < 30


@pytest.mark.usefixtures("each_network")
def test_a_draft_model_that_agrees_saves_steps_also_when_sampling(
    tiny: Path, steps: list[int]
) -> None:
    engine = eager(tiny, 1, draft_model=str(tiny))
    [done] = completions(engine, requests(["x"], Sampling(seed=3, max_new_tokens=48)))
    assert len(done.tokens) == 48
    assert len(steps) < 16


@pytest.mark.usefixtures("each_network")
def test_guesses_that_never_come_true_are_given_up(make_tiny, steps: list[int]) -> None:
    tiny = make_tiny(n_positions=512)
    engine = eager(tiny, 1, draft_model=str(make_tiny(seed=5, n_positions=512)))
    sampling = Sampling(seed=3, top_k=0, top_p=1, temperature=3, max_new_tokens=300)
    completions(engine, requests(["x"], sampling))
    assert sum(steps) < 1.15 * 300


def test_every_token_has_its_own_chunk(tiny: Path) -> None:
    sampling = Sampling(greedy=True, max_new_tokens=40)
    events = list(opened(tiny).run(requests(["a b c a b c a b c"], sampling)))
    chunks = [event for event in events if isinstance(event, Chunk)]
    assert all(len(chunk.tokens) == 1 for chunk in chunks)
    assert isinstance(events[-1], Completion)
    assert "".join(chunk.text for chunk in chunks) == events[-1].text


@pytest.mark.usefixtures("each_network")
def test_drafts_end_with_the_context(tiny: Path) -> None:
    sampling = Sampling(greedy=True, max_new_tokens=200, min_new_tokens=64)
    for engine in (opened(tiny, 2), eager(tiny, 2, draft_model=str(tiny))):
        for done in completions(engine, requests(["a b c a b c a b c", "x"], sampling)):
            assert done.usage.prompt_tokens + len(done.tokens) == 64
            assert done.finish_reason == "length"


@pytest.mark.usefixtures("each_network")
def test_a_draft_model_with_a_shorter_context_falls_silent(make_tiny) -> None:
    model, short = make_tiny(n_positions=128), make_tiny(n_positions=24)
    sampling = Sampling(seed=1, max_new_tokens=90, min_new_tokens=90)
    engine = eager(model, 1, draft_model=str(short))
    assert written(engine, sampling) == written(opened(model, 1, draft="off"), sampling)


def test_a_draft_model_with_other_tokens_is_refused(tiny: Path, tales: Path) -> None:
    with pytest.raises(UsageError, match="other tokens"):
        opened(tiny, draft_model=str(tales))


def test_a_draft_model_with_another_size_of_vocabulary_is_refused(make_tiny) -> None:
    with pytest.raises(UsageError, match="other tokens"):
        opened(make_tiny(), draft_model=str(make_tiny(vocab_size=520)))


def test_a_draft_model_is_refused_where_it_would_be_ignored(tiny: Path) -> None:
    with pytest.raises(UsageError, match="--draft-model"):
        open_engine(Load(model=str(tiny), draft_model=str(tiny)), beams=True)


def row_of(engine: Engine, text: str) -> Sequence:
    request = GenerateRequest(id="0", prompt=text, sampling=Sampling(seed=0, max_new_tokens=99))
    encoded = encode_request(request, engine.tokenizer, engine.info, beams=False)
    return next(new_sequences(encoded))


def test_lookup_follows_the_last_time_and_reads_on_into_itself(tales: Path) -> None:
    engine = opened(tales)
    row, lookup = row_of(engine, "one two three four. one two three"), NgramDrafter()
    period = engine.tokenizer.encode(" four. one two three")
    [guess] = lookup.propose([row], [len(period) + 3])
    assert guess == [*period, *period[:3]]
    assert lookup.propose([row_of(engine, "one two three four")], [5]) == [[]]


def test_lookup_takes_up_what_is_written(tales: Path) -> None:
    engine = opened(tales)
    row, lookup = row_of(engine, "one two three four. five"), NgramDrafter()
    assert lookup.propose([row], [4]) == [[]]
    for token in engine.tokenizer.encode(" one two three", bare=True):
        row.push(token)
    assert lookup.propose([row], [2]) == [engine.tokenizer.encode(" four.", bare=True)[:2]]


def test_what_is_known_of_a_row_goes_with_it(tiny: Path) -> None:
    engine = opened(tiny)
    completions(engine, requests(PROMPTS, SAMPLINGS[0]))
    assert isinstance(engine._draft_length, DraftLength)
    assert not engine._draft_length._acceptance
    assert not engine._draft_length._drafter._indices


@given(st.floats(0.01, 0.99), st.integers(1, 64), st.integers(0, 12), st.floats(0, 1))
def test_no_more_is_guessed_than_pays(chance: float, rows: int, limit: int, cost: float) -> None:
    def rate(size: int) -> float:
        expected = sum(chance**n for n in range(size + 1))
        return (rows - 1 + expected) / (12 + rows + size * (1 + cost * 12))

    size = best_draft_length(chance, rows, limit, 12, cost)
    assert 0 <= size <= limit
    assert rate(size) >= max(rate(other) for other in range(limit + 1)) - 1e-12
