"""Requests that share beginnings, mixed at random, and their results."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from gptcli.options import Sampling
from gptcli.protocol import (
    ChoiceLogprobs,
    Completion,
    Engine,
    GenerateRequest,
    LoglikelihoodRequest,
    Request,
)

SHARED = "Once upon a time an old king had three sons, and each of them had a "


def family(random: Random) -> Iterator[str]:
    """Prompts that begin alike in many ways."""
    words = ["king", "fox", "bird", "son", "forest", "castle"]
    stems = [SHARED, SHARED[:40], "The second rode away, and it went no better with him. "]
    while True:
        tail = " ".join(random.choices(words, k=random.randint(0, 4)))
        yield random.choice(stems) + tail


def mixture(seed: int) -> list[Request]:
    """Requests of every kind whose prompts begin alike in many ways."""
    random = Random(seed)
    prompts = family(random)
    return [_any_kind(random, str(number), next(prompts)) for number in range(24)]


def _any_kind(random: Random, id: str, prompt: str) -> Request:
    sampling = Sampling(
        greedy=random.random() < 0.5,
        seed=int(id),
        max_new_tokens=random.randint(1, 9),
        num_return_sequences=random.choice([1, 1, 3]),
    )
    if random.random() < 0.3:
        return LoglikelihoodRequest(id=id, prompt=prompt, choices=(" dog", " golden bird"))
    return GenerateRequest(id=id, prompt=prompt, sampling=sampling)


def results(engine: Engine, requests: list[Request]) -> dict[tuple[str, int], object]:
    """Tokens written, or likelihoods, by id and index."""
    found: dict[tuple[str, int], object] = {}
    for event in engine.run(requests):
        if isinstance(event, Completion):
            found[event.id, event.index] = event.tokens
        elif isinstance(event, ChoiceLogprobs):
            found[event.id, -1] = [choice.total for choice in event.choices]
    return found
