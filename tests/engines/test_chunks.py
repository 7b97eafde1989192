"""A long prompt runs in parts, between the tokens of what is being written."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from support.engines import completions
from support.prefixes import mixture, results

from gptcli.engines import open_engine
from gptcli.engines.gpt2 import engine as gpt2
from gptcli.options import Load, Sampling
from gptcli.protocol import (
    ChoiceLogprobs,
    Chunk,
    Completion,
    Engine,
    GenerateRequest,
    LoglikelihoodRequest,
    Request,
)

LONG = "Whoever brings me the golden bird shall have my kingdom, said the king. " * 12
STREAM = GenerateRequest(
    id="0", prompt="Once", sampling=Sampling(seed=1, max_new_tokens=200, min_new_tokens=200)
)


def opened(folder: Path, batch_size: int = 3) -> Engine:
    return open_engine(Load(model=str(folder), draft="off"), batch_size)


@pytest.fixture
def roomy(make_tiny) -> Path:
    return make_tiny(n_positions=1024)


def long_one(id: str) -> Request:
    sampling = Sampling(greedy=True, max_new_tokens=5)
    return GenerateRequest(id=id, prompt=id + LONG, sampling=sampling)


def test_a_stream_waits_for_no_more_than_one_chunk(
    roomy: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpt2, "SHARED_PREFILL_TOKENS", 32)
    engine = opened(roomy)

    def arriving():
        yield STREAM
        for _ in range(20):
            yield None
        yield long_one("1")
        yield long_one("2")

    gaps, seen = [], 0
    for event in engine.run(arriving()):
        if isinstance(event, Chunk) and event.id == "0":
            gaps.append(sum(steps[seen:]))
            seen = len(steps)
    assert engine.count("1" + LONG) > 200
    assert max(gaps[1:]) <= 32 + 3  # a chunk, and a token of each of three rows


def test_a_prompt_alone_is_not_cut_in_parts(roomy: Path, steps: list[int]) -> None:
    engine = opened(roomy)
    completions(engine, [long_one("1")])
    assert steps[0] == engine.count("1" + LONG)


@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_parts_change_nothing(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, batch_size: int
) -> None:
    requests = mixture(chunk)
    whole = results(opened(tiny, batch_size), requests)
    for name in ("SHARED_PREFILL_TOKENS", "PREFILL_TOKENS"):
        monkeypatch.setattr(gpt2, name, chunk)
    parts = results(opened(tiny, batch_size), requests)
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        same = value if isinstance(value, tuple) else pytest.approx(value, abs=1e-4)
        assert parts[key] == same


def test_a_prompt_in_parts_can_be_cancelled(roomy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt2, "SHARED_PREFILL_TOKENS", 8)
    engine = opened(roomy)
    scored = LoglikelihoodRequest(id="1", prompt="1" + LONG, choices=(" a b", " c"))
    run = engine.run([STREAM, None, scored])
    for _ in range(3):
        next(run)
    engine.cancel("1")
    scores = [event for event in run if isinstance(event, ChoiceLogprobs)]
    assert [score.notices for score in scores] == [("cancelled",)]
    assert len(completions(engine, [long_one("1")])) == 1


@pytest.mark.parametrize("ending", ["cancelled", "abandoned"])
def test_a_prompt_that_was_not_finished_leaves_nothing_bad_behind(
    make_tiny, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Its keys and values may be NaN, which nobody has seen yet."""
    folder = make_tiny(n_positions=1024, tie_word_embeddings=False)
    tensors = load_file(folder / "model.safetensors")
    engine = opened(folder)
    [bad] = engine.tokenizer.encode("!")
    tensors["transformer.wte.weight"][bad] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr(gpt2, "SHARED_PREFILL_TOKENS", 32)
    engine = opened(folder)
    never = Sampling(seed=1, max_new_tokens=300, min_new_tokens=300, bad_words=("!",))
    stream = GenerateRequest(id="0", prompt="Once", sampling=never)
    spoilt = GenerateRequest(id="1", prompt="!" + LONG, sampling=never)
    after = GenerateRequest(
        id="2",
        prompt="The king",
        sampling=Sampling(greedy=True, max_new_tokens=9, bad_words=("!",)),
    )
    run = engine.run([stream, None, spoilt, *[None] * 3, after])
    for count, _ in enumerate(run):
        if count == 3 and ending == "cancelled":
            engine.cancel("1")
            break
        if count == 3:
            run.close()
            run = engine.run([stream, after])
            break
    errors = [event.error for event in run if isinstance(event, Completion)]
    assert [error for error in errors if error] == []
