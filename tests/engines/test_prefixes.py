"""What prompts have in common is computed once, and changes nothing that is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.engines import completions
from support.prefixes import SHARED, mixture, results

from gptcli.engines import open_engine
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion, Engine, GenerateRequest, LoglikelihoodRequest, Request

GREEDY = Sampling(greedy=True, max_new_tokens=4)


def opened(folder: Path, batch_size: int = 4, reuse: bool = True) -> Engine:
    return open_engine(Load(model=str(folder), prefix_cache=reuse, draft="off"), batch_size)


def fed_back(done: list[Completion]) -> int:
    """Tokens that were written and then read: all but the last of each."""
    return sum(len(completion.tokens) - 1 for completion in done)


def asked(texts: list[str], sampling: Sampling = GREEDY) -> list[Request]:
    return [
        GenerateRequest(id=str(n), prompt=text, sampling=sampling) for n, text in enumerate(texts)
    ]


@pytest.mark.usefixtures("each_network")
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_examples_before_many_inputs_are_run_once(
    tiny: Path, steps: list[int], batch_size: int
) -> None:
    engine = opened(tiny, batch_size)
    inputs = ["horse", "dog", "fox", "bird", "castle", "forest", "son", "king"]
    prompts = [SHARED + word for word in inputs]
    done = completions(engine, asked(prompts))
    own = sum(engine.count(prompt) for prompt in prompts) - 7 * engine.count(SHARED)
    # Each runs its own tokens, the first all.
    assert sum(steps) - fed_back(done) <= own + len(prompts)


def test_without_the_cache_every_prompt_is_run_whole(tiny: Path, steps: list[int]) -> None:
    engine = opened(tiny, 4, reuse=False)
    prompts = [SHARED + word for word in ("horse", "dog", "fox")]
    done = completions(engine, asked(prompts))
    assert sum(steps) - fed_back(done) == sum(engine.count(prompt) for prompt in prompts)


def test_sequences_of_one_prompt_share_it_also_without_the_cache(
    tiny: Path, steps: list[int]
) -> None:
    engine = opened(tiny, 4, reuse=False)
    sampling = Sampling(seed=1, max_new_tokens=3, num_return_sequences=6)
    done = completions(engine, asked([SHARED], sampling))
    assert sum(steps) - fed_back(done) == engine.count(SHARED)


@pytest.mark.usefixtures("each_network")
def test_labels_share_the_prompt(tiny: Path, steps: list[int]) -> None:
    engine = opened(tiny)
    choices = (" horse", " golden bird", " king")
    list(engine.run([LoglikelihoodRequest(id="0", prompt=SHARED, choices=choices)]))
    rest = sum(engine.count(choice) - 1 for choice in choices)
    assert sum(steps) == engine.count(SHARED) + rest


def test_a_turn_costs_its_own_tokens_only(tales: Path) -> None:
    engine, text = opened(tales, 1), SHARED
    for turn in ("dog. ", "fox. ", "bird. "):
        before = engine.count(text)
        [done] = completions(engine, asked([text + turn], Sampling(greedy=True, max_new_tokens=20)))
        text += turn + done.text
    assert done.usage.cached_tokens >= before - 2  # a token at the border may be written anew
    assert "cached" not in str(done.usage.to_dict())


@pytest.mark.usefixtures("each_network")
def test_the_cache_is_kept_when_a_run_is_abandoned(tiny: Path) -> None:
    engine = opened(tiny, 2)
    for _ in engine.run(asked([SHARED + "fox", SHARED + "dog"])):
        break
    [done] = completions(engine, asked([SHARED + "horse"]))
    assert done.usage.cached_tokens >= engine.count(SHARED) - 1
    assert done.text == completions(opened(tiny), asked([SHARED + "horse"]))[0].text


@pytest.mark.usefixtures("each_network")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_any_mix_of_requests_gives_what_it_gives_without_the_cache(
    tiny: Path, seed: int, batch_size: int
) -> None:
    requests = mixture(seed)
    found = [results(opened(tiny, batch_size, reuse), requests) for reuse in (True, False)]
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert value == (
            found[1][key] if isinstance(value, tuple) else pytest.approx(found[1][key], abs=1e-4)
        )
