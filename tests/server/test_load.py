"""Many clients at once get what each of them gets alone."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from support.served import ServedProcess, events_of
from support.weights import needs_kernels

CLIENTS = 32
PROMPTS = ("Once upon a time", "The king", "A fox said", "日本", "So they lived happily", "\n\n")


def asked(number: int) -> dict[str, Any]:
    """A request of any kind: greedy, sampled, several texts, scored, echoed, streamed."""
    chance = random.Random(number)
    prompts: Any = chance.choice(PROMPTS) + chance.choice(["", " and", ", but the"])
    fields: dict[str, Any] = {
        "prompt": [prompts, chance.choice(PROMPTS)] if number % 5 == 0 else prompts,
        "max_tokens": chance.choice([1, 8, 40, 90]),
        "temperature": chance.choice([0, 0.7, 1, 1.5]),
        "seed": number,
        "n": chance.choice([1, 1, 2, 5]),
        "echo": number % 3 == 0,
        "logprobs": chance.choice([None, 0, 3]),
        "stream": number % 4 == 1,
    }
    if number % 7 == 0 and not fields["stream"]:
        fields["best_of"] = fields["n"] + 3
    if number % 6 == 0:
        fields |= {"top_k": 40, "frequency_penalty": 0.5, "repetition_penalty": 1.2}
    return fields


def answer(server: ServedProcess, fields: dict[str, Any]) -> Any:
    """What the client sees, but for ids, times and what the cache knew; a stream is joined."""
    status, _, data = server.request("POST", "/v1/completions", json.dumps(fields).encode())
    assert status == 200, data
    if not fields["stream"]:
        whole = json.loads(data)
        return whole["choices"], whole["usage"]["completion_tokens"]
    pieces = [piece for event in events_of(data) for piece in event["choices"]]
    return [
        [piece for piece in pieces if piece["index"] == index]
        for index in sorted({piece["index"] for piece in pieces})
    ]


@needs_kernels
def test_the_same_seed_gives_the_same_answer_at_any_load(served: ServedProcess):
    requests = [asked(number) for number in range(CLIENTS)]
    alone = [answer(served, fields) for fields in requests]
    together = Barrier(CLIENTS)

    def client(number: int) -> list[Any]:
        together.wait()
        mine = requests[number:] + requests[:number]  # each begins with another one
        return [answer(served, fields) for fields in mine[:2]]

    with ThreadPoolExecutor(CLIENTS) as clients:
        for number, found in enumerate(clients.map(client, range(CLIENTS))):
            expected = (alone[number:] + alone[:number])[:2]
            assert found == expected
