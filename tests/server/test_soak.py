"""A server that works for a long time stays as it is: no slot, no connection, no memory is lost.

Not a part of the suite: GPTCLI_SOAK_MINUTES=30 python -m pytest -n 0 -s tests/server/test_soak.py
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest
from support.serving import ServeProcess, reset

MINUTES = float(os.environ.get("GPTCLI_SOAK_MINUTES", "0"))
CLIENTS = 12
SETTLED = 0.25  # of the time: caches are full by then
MOST_GROWTH = 32 * 2**20  # bytes of memory afterwards
TALE = "the old king went into the dark wood and saw a wolf that was white as snow"


def prompt(draw: random.Random) -> str:
    return " ".join(draw.choice(TALE.split()) for _ in range(draw.randint(1, 60)))


def complete(server: ServeProcess, draw: random.Random) -> None:
    n = draw.randint(1, 3)
    body = {"prompt": prompt(draw), "max_tokens": draw.randint(1, 40), "n": n}
    assert len(server.post(body).json["choices"]) == n


def stream(server: ServeProcess, draw: random.Random) -> None:
    body = {"prompt": prompt(draw), "max_tokens": 30, "stream": True, "logprobs": 2}
    assert server.post(body).events[-1] == "[DONE]"


def echo(server: ServeProcess, draw: random.Random) -> None:
    body = {"prompt": prompt(draw), "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    assert None in server.post(body).json["choices"][0]["logprobs"]["token_logprobs"]


def score(server: ServeProcess, draw: random.Random) -> None:
    assert server.post({"input": prompt(draw)}, "/v1/score").status == 200


def classify(server: ServeProcess, draw: random.Random) -> None:
    body = {"input": prompt(draw), "labels": ["happy", "sad"]}
    assert server.post(body, "/v1/tasks/classify").status == 200


def chat(server: ServeProcess, draw: random.Random) -> None:
    messages = [{"role": "user", "content": prompt(draw)}]
    body = {"messages": messages, "max_tokens": 20}
    assert server.post(body, "/v1/chat/completions").status == 200


def leave(server: ServeProcess, draw: random.Random) -> None:
    body = {"prompt": prompt(draw), "max_tokens": 400, "stream": draw.random() < 0.5}
    connection = server.send(body)
    time.sleep(draw.random() * 0.3)
    draw.choice([reset, socket.socket.close])(connection)


def wrong(server: ServeProcess, draw: random.Random) -> None:
    assert server.post({"prompt": [10**6]}).status == 400


WORK: tuple[Callable[[ServeProcess, random.Random], None], ...]
WORK = (complete, stream, echo, score, classify, chat, leave, wrong)


@pytest.mark.skipif(not MINUTES, reason="it takes minutes: set GPTCLI_SOAK_MINUTES")
def test_a_server_that_works_for_long_stays_as_it_is() -> None:
    over, faults, done = Event(), [], [0] * CLIENTS
    with ServeProcess("--batch-size", "4") as server:

        def client(number: int) -> None:
            draw = random.Random(number)
            while not over.is_set():
                try:
                    draw.choice(WORK)(server, draw)
                    done[number] += 1
                except Exception as fault:
                    faults.append(fault)
                    over.set()

        clients = [Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in clients:
            thread.start()
        over.wait(MINUTES * 60 * SETTLED)
        settled = server.memory
        print(f"\n{sum(done)} requests, {settled / 2**20:.1f} MiB")
        over.wait(MINUTES * 60 * (1 - SETTLED))
        over.set()
        for thread in clients:
            thread.join()
        assert not faults, faults
        server.idle()
        grown = server.memory - settled
        files = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        print(f"{sum(done)} requests, {grown / 2**20:+.1f} MiB since, {files} open files")
        assert grown < MOST_GROWTH
        assert files < 40
