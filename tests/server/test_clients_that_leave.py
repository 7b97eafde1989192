"""Clients that go away, read nothing, or send nothing: no slot is lost, no one else waits."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from support.serving import LONG, ServeProcess, request, reset

CLIENTS = int(os.environ.get("GPTCLI_LEAVING_CLIENTS", "30"))
SEED = int(os.environ.get("GPTCLI_KILL_SEED", "19"))
SHORT = {"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}
ENDLESS = LONG | {"n": 100}  # about a minute of one slot
LONG_PROMPT = LONG | {"prompt": [5] * 500, "n": 1, "max_tokens": 12}


@pytest.fixture(scope="module")
def server() -> Iterator[ServeProcess]:
    """A server that writes one text at a time."""
    with ServeProcess("--batch-size", "1", "--max-queued-requests", "300") as server:
        yield server


def half_close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


LEAVING = {"FIN": socket.socket.close, "RST": reset, "half-close": half_close}


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("stream", [False, True])
def test_a_writing_client_that_leaves_frees_its_slot(
    server: ServeProcess, how: str, stream: bool
) -> None:
    connection = server.send(ENDLESS | {"stream": stream})
    server.wait_for(lambda found: found["running"] == 1)
    if stream:
        connection.recv(1000)
    LEAVING[how](connection)
    server.idle(5)
    connection.close()


@pytest.mark.parametrize("how", LEAVING)
def test_a_queued_client_that_leaves_costs_nothing_and_hurts_no_one(
    server: ServeProcess, how: str
) -> None:
    writer = server.send(ENDLESS | {"stream": True})
    server.wait_for(lambda found: found["running"] == 1)
    before = server.metric('gptcli_requests_total{outcome="cancelled"}')
    queued = [server.send(ENDLESS) for _ in range(5)]
    server.wait_for(lambda found: found["waiting"] == 5)
    for connection in queued:
        LEAVING[how](connection)
    server.wait_for(lambda found: found["waiting"] == 0, 5)
    assert server.health()["running"] == 1  # the one that writes goes on
    assert server.metric('gptcli_requests_total{outcome="cancelled"}') == before + 5
    assert server.metric("gptcli_tokens_waiting") == 0
    assert writer.recv(100)
    for connection in (writer, *queued):
        connection.close()
    server.idle(5)


@pytest.mark.parametrize("how", LEAVING)
def test_a_client_that_sends_ahead_is_noticed_when_it_leaves(
    server: ServeProcess, how: str
) -> None:
    """A second request waits in the connection: its end is seen all the same."""
    connection = server.send(ENDLESS)
    server.wait_for(lambda found: found["running"] == 1)
    connection.sendall(request("/v1/models", None) * 3)
    LEAVING[how](connection)
    server.idle(5)
    connection.close()


def test_requests_that_are_sent_ahead_are_answered_in_order(server: ServeProcess) -> None:
    first = request("/v1/completions", json.dumps(SHORT).encode(), Connection="keep-alive")
    second = request("/version", None)
    with server.connect() as connection:
        connection.sendall(first + second)
        data = b""
        while piece := connection.recv(65536):
            data += piece
    assert data.count(b"HTTP/1.1 200 OK") == 2
    assert data.index(b"text_completion") < data.index(b'{"version"')


def test_a_slow_reader_holds_up_no_one(server: ServeProcess) -> None:
    """It asks for much, and reads nothing; others get their answers meanwhile."""
    slow = [
        server.send(LONG | {"n": 1, "stream": True, "logprobs": 50, "max_tokens": 500})
        for _ in range(2)
    ]
    began = time.monotonic()
    assert server.post(SHORT).status == 200
    server.idle(20)  # what they do not read does not hold the engine
    assert server.post(SHORT).status == 200
    assert time.monotonic() - began < 20
    for connection in slow:
        reset(connection)
    server.wait_for(lambda found: found["running"] == 0)


def leave_somewhere(server: ServeProcess, number: int) -> None:
    """One client that goes away at a moment of its own: in its head, its body, or afterwards."""
    dice = random.Random(SEED * 1000 + number)
    body = dict(dice.choice([ENDLESS, LONG_PROMPT, SHORT]))
    body |= {"stream": dice.random() < 0.5, "n": dice.choice([1, 1, 3])}
    data = request("/v1/completions", json.dumps(body).encode())
    part = len(data) if dice.random() < 0.8 else dice.randrange(len(data))
    with suppress(OSError):
        connection = server.connect()
        connection.sendall(data[:part])
        time.sleep(dice.random() ** 3)
        if dice.random() < 0.3:
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.recv(200)
        dice.choice(list(LEAVING.values()))(connection)
        connection.close()


def test_clients_that_leave_at_random_moments_leave_nothing_behind(server: ServeProcess) -> None:
    expected = server.post(SHORT).json["choices"]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: leave_somewhere(server, number), range(CLIENTS)))
    server.idle(30)
    assert server.post(SHORT).json["choices"] == expected
    active = server.metric("gptcli_http_requests_active")
    assert active == 1  # the one that asks
    assert server.metric("gptcli_tokens_waiting") == 0
    memory = server.memory
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: leave_somewhere(server, -number), range(CLIENTS)))
    server.idle(30)
    print(
        f"{CLIENTS} clients left: memory {memory / 1e6:.1f} MB, then {server.memory / 1e6:.1f} MB"
    )
    assert server.memory - memory < 20e6
    assert server.health()["engine_failures"] == 0


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nA: b\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    from gptcli.server.operation import http_connection

    monkeypatch.setattr(http_connection, "HEAD_SECONDS", 0.2)
    assert asyncio.run(talk(sent)) == b""


def test_a_body_that_stops_coming_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    from gptcli.server import app

    monkeypatch.setattr(app, "BODY_SECONDS", 0.2)
    data = request("/v1/completions", b'{"prompt"', Content_Length="100", Connection="keep-alive")
    assert b" 408 " in asyncio.run(talk(data)).splitlines()[0]


def test_a_refused_body_that_goes_on_for_ever_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gptcli.server.operation import guard, http_connection

    monkeypatch.setattr(guard, "REST_SECONDS", 0.1)
    monkeypatch.setattr(http_connection, "REST_SECONDS", 0.2)
    data = request("/v1/completions", b"{", Content_Length="10000000000")
    answer = asyncio.run(talk(data.replace(b"close", b"keep-alive"), drip=b" "))
    assert b" 413 " in answer.splitlines()[0]


async def talk(data: bytes, drip: bytes = b"") -> bytes:
    """What a server in this process answers until it ends the connection."""
    import uvicorn
    from support.fake_engine import FakeEngine

    from gptcli.server.app import application, guarded
    from gptcli.server.operation.guard import Access
    from gptcli.server.operation.http_connection import Connection
    from gptcli.server.service import Service, ServiceLimits

    service = Service.of(FakeEngine(), ServiceLimits())
    app = guarded(application(service), service, Access())
    config = uvicorn.Config(app, http=Connection, lifespan="on", log_config=None)
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    with listening:
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup([listening])
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(data)
        found = b""
        async with asyncio.timeout(5):
            while True:
                if drip:
                    writer.write(drip)
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        piece = await reader.read(1000)
                        if not piece:
                            break
                        found += piece
        writer.close()
        await server.shutdown([listening])
    return found
