"""A local server that speaks as much of OpenAI's API as `--server` needs, and misbehaves on demand.

A request is answered by the first behaviour left in `plan`, and properly when none is: the text is
`reply(body, index)`, one word a message. What it was asked, and how many at once, stays in
`bodies`, `headers` and `most`. It counts on nothing outside 127.0.0.1.
"""

from __future__ import annotations

import json
import re
import select
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Lock
from typing import Any

from support.loopback import Served

Body = dict[str, Any]
Behaviour = Callable[["Handler", Body], None]


class FakeServer(Served):
    """A server with one model. `with FakeServer() as server: ... server.url`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.models: list[dict[str, object]] = [{"id": "gpt2", "max_model_len": 1024}]
        self.models_answer: Behaviour | None = None  # in place of the list
        self.key: str | None = None  # when set, anything else is a 401
        self.plan: list[Behaviour] = []
        self.always: Behaviour | None = None  # when the plan is empty
        self.reply: Callable[[Body, int], str] = lambda body, index: (
            f" answer {index} to {prompt(body)}"
        )
        self.hold: Event | None = None  # answers wait for it after their first message
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.left = Event()  # a client went away in the middle of an answer
        self.most = self._now = 0
        self.changed = Condition(Lock())
        fake = self

        class Bound(Handler):
            owner = fake

        listener = _Listener(("127.0.0.1", 0), Bound)
        super().__init__(listener)
        self.url = f"{self.host}/v1"
        if tls is not None:  # the handshake is the connection's own: here it would stop the others
            listener.socket = tls.wrap_socket(
                listener.socket, server_side=True, do_handshake_on_connect=False
            )
            self.url = self.url.replace("http:", "https:")

    def next(self, body: Body, headers: dict[str, str]) -> Behaviour:
        """Note a request; returns what to do with it."""
        with self.changed:
            self.bodies.append(body)
            self.headers.append(headers)
            if self.plan:
                return self.plan.pop(0)
            return self.always or answer

    def count(self, step: int) -> None:
        """Note that a request came or went."""
        with self.changed:
            self._now += step
            self.most = max(self.most, self._now)
            self.changed.notify_all()

    def wait_for(self, in_flight: int, seconds: float = 10) -> bool:
        """Wait until so many requests are under way."""
        with self.changed:
            return self.changed.wait_for(lambda: self._now >= in_flight, seconds)

    def wait_for_end(self, seconds: float = 30) -> None:
        """Hold a connection without a word, as a dead server does."""
        self.ended(seconds)

    def ended(self, seconds: float) -> bool:
        """Wait for the end of the test, so long; returns whether it is there."""
        return self._ended.wait(seconds)


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128  # else of many connections at once some wait for seconds


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    owner: FakeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Stay off stderr, where the tests look."""

    def handle(self) -> None:
        """Take it quietly when a client hangs up between two requests, or in the handshake."""
        with suppress(ConnectionError, ssl.SSLError):
            super().handle()

    def do_GET(self) -> None:
        if self.refused():
            return
        if self.path != "/v1/models":
            self.send_json(404, {"error": {"message": "no such path"}})
        elif self.owner.models_answer:
            self.owner.models_answer(self, {})
        else:
            self.send_json(200, {"object": "list", "data": self.owner.models})

    def do_POST(self) -> None:
        fake = self.owner
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refused():
            return
        if self.path != "/v1/completions":
            self.send_json(404, {"error": {"message": "no such path"}})
            return
        behaviour = fake.next(body, dict(self.headers))
        fake.count(1)
        try:
            behaviour(self, body)
        except (BrokenPipeError, ConnectionResetError):
            fake.left.set()
            self.close_connection = True
        finally:
            fake.count(-1)

    def refused(self) -> bool:
        """Whether the key was wrong, and said so."""
        key = self.owner.key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return False
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.send_json(401, {"error": {"message": f"Incorrect API key provided: {sent}."}})
        return True

    def send_json(self, status: int, value: object, **headers: str) -> None:
        self.send(status, "application/json", json.dumps(value).encode(), **headers)

    def send(self, status: int, kind: str, data: bytes, **headers: str) -> None:
        self.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in (
            {"Content-Length": str(len(data)), "Content-Type": kind} | named
        ).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_part(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end_stream(self) -> None:
        self.send_part(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def gone(self, seconds: float) -> bool:
        """Whether the client hangs up within so many seconds."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        return bool(readable) and not self.connection.recv(1)


def prompt(body: Body) -> str:
    """The prompt of a request, whichever of its forms it has."""
    asked = body["prompt"]
    return asked if isinstance(asked, str) else " | ".join(asked)


def event(value: object) -> bytes:
    """A message as it stands in a stream."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def messages(fake: FakeServer, body: Body) -> Iterator[dict[str, object]]:
    """The messages of a proper answer: the sequences take turns, the usage comes last."""
    count = body.get("n", 1)
    replies = [fake.reply(body, index) for index in range(count)]
    words = [re.findall(r"\s*\S+|\s+$", text) or [text] for text in replies]
    total = sum(map(len, words))
    for place in range(max(map(len, words))):
        for index in range(count):
            if place < len(words[index]):
                last = place == len(words[index]) - 1
                yield message(index, words[index][place], "stop" if last else None, body)
    if body.get("stream_options", {}).get("include_usage"):
        yield {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": total}}


def message(index: int, text: str, finish: str | None, body: Body) -> dict[str, object]:
    choice: dict[str, object] = {"index": index, "text": text, "finish_reason": finish}
    if body.get("logprobs"):
        choice["logprobs"] = {
            "tokens": [text],
            "token_logprobs": [-0.5],
            "top_logprobs": [{" other": -1.5, text: -0.5, " third": -2.5}],
            "text_offset": [0],
        }
    return {"object": "text_completion", "choices": [choice]}


def answer(handler: Handler, body: Body) -> None:
    """What a server should do."""
    fake = handler.owner
    if not body.get("stream"):
        whole(handler, body)
        return
    handler.begin_stream()
    for number, value in enumerate(messages(fake, body)):
        if number == 1 and fake.hold is not None:
            wait_on(handler, fake.hold)
        handler.send_part(event(value))
    handler.end_stream()


def wait_on(handler: Handler, hold: Event) -> None:
    """Wait for a test's word, and notice when the client goes away meanwhile."""
    while not hold.is_set():
        if handler.gone(0.005):
            raise ConnectionResetError


def whole(handler: Handler, body: Body) -> None:
    """Answer in one piece, also where a stream was asked for."""
    fake = handler.owner
    choices = [
        {"index": index, "text": fake.reply(body, index), "finish_reason": "length"}
        for index in range(body.get("n", 1))
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 5}
    handler.send_json(200, {"choices": choices, "usage": usage})


def one_text(handler: Handler, body: Body) -> None:
    """Ignore `n`, as llama-cpp-python and transformers serve do."""
    answer(handler, {key: value for key, value in body.items() if key != "n"})


def one_prompt(behaviour: Behaviour, status: int = 400) -> Behaviour:
    """Refuse a list of prompts."""

    def behave(handler: Handler, body: Body) -> None:
        if isinstance(body["prompt"], str):
            behaviour(handler, body)
        else:
            failing(status, "prompt must be a string")(handler, body)

    return behave


def interrupted(handler: Handler, body: Body) -> None:
    """Break off the running answer when another request comes, as llama-cpp-python does."""
    fake = handler.owner
    handler.begin_stream()
    known = len(fake.bodies)
    for value in messages(fake, body):
        handler.send_part(event(value))
        time.sleep(0.02)
        if len(fake.bodies) > known:
            break
    handler.end_stream()


def whispering(handler: Handler, body: Body) -> None:
    """Put events without data, and data without choices, between the messages."""
    handler.begin_stream()
    for value in messages(handler.owner, body):
        for part in (
            b"data:\n\n",
            b"event: ping\n\n",
            b": note\n\n",
            b"data:   \n\n",
            b"id: 7\n\n",
        ):
            handler.send_part(part)
        handler.send_part(b"retry: 1000\n\n" + event({"type": "ping"}) + event(value))
    handler.end_stream()


def best_logprob(text: str) -> float:
    """What " best" costs after a text; any other word costs 2 more."""
    return -1.0 - len(text) * 0.618 % 3


def ranked(shift: int = 0) -> Behaviour:
    """Echo with the likeliest token of each place; `shift` gives the numbers of other places."""

    def behave(handler: Handler, body: Body) -> None:
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        choices = []
        for index, text in enumerate(prompts):
            tokens = re.findall(r"<\|endoftext\|>|\s*\S+|\s+$", text)
            before = ["".join(tokens[: place + shift]) for place in range(len(tokens))]
            # The likeliest is " best"; what another costs depends on all before it.
            own = [
                best_logprob(given) - (0 if token == " best" else 2)
                for given, token in zip(before, tokens, strict=True)
            ]
            top = [{" best": best_logprob(given)} for given in before]
            logprobs = {
                "tokens": tokens,
                "token_logprobs": [None, *own[1:]],
                "top_logprobs": [None, *top[1:]],
            }
            choices.append(
                {"index": index, "text": text, "finish_reason": "length", "logprobs": logprobs}
            )
        handler.send_json(200, {"choices": choices})

    return behave


def echo(handler: Handler, body: Body) -> None:
    """Score prompts as vLLM does; a token is a word with its space, and costs its length."""
    choices = []
    asked = body["prompt"]
    for index, text in enumerate([asked] if isinstance(asked, str) else asked):
        tokens = re.findall(r"\s*\S+|\s+$", text)
        costs: list[float | None] = [-float(len(token)) for token in tokens]
        costs[0] = None
        logprobs = {"tokens": tokens, "token_logprobs": costs, "top_logprobs": None}
        choices.append(
            {"index": index, "text": text, "finish_reason": "length", "logprobs": logprobs}
        )
    handler.send_json(
        200, {"choices": choices, "usage": {"prompt_tokens": 9, "completion_tokens": 0}}
    )


def failing(status: int, message: str = "broken", **headers: str) -> Behaviour:
    """Answer with an error."""

    def behave(handler: Handler, body: Body) -> None:
        handler.send_json(status, {"error": {"message": message, "code": status}}, **headers)

    return behave


def saying(kind: str, data: bytes) -> Behaviour:
    """Answer with any bytes."""

    def behave(handler: Handler, body: Body) -> None:
        handler.send(200, kind, data)

    return behave


def streaming(*parts: bytes, done: bool = True) -> Behaviour:
    """Stream these bytes, each in a packet of its own; if not `done` the connection breaks."""

    def behave(handler: Handler, body: Body) -> None:
        handler.begin_stream()
        for part in parts:
            handler.send_part(part)
            handler.wfile.flush()
        if done:
            handler.end_stream()
        else:
            handler.close_connection = True

    return behave


def silent(handler: Handler, body: Body) -> None:
    """Take the question and never answer."""
    handler.owner.wait_for_end()
    handler.close_connection = True


def stalling(after: int) -> Behaviour:
    """Send some messages, and then nothing more."""

    def behave(handler: Handler, body: Body) -> None:
        handler.begin_stream()
        for number, value in enumerate(messages(handler.owner, body)):
            if number == after:
                silent(handler, body)
                return
            handler.send_part(event(value))

    return behave


def cutting(after: int) -> Behaviour:
    """Break the connection after some messages."""

    def behave(handler: Handler, body: Body) -> None:
        handler.begin_stream()
        for number, value in enumerate(messages(handler.owner, body)):
            if number == after:
                break
            handler.send_part(event(value))
        handler.close_connection = True

    return behave


def hanging_up(handler: Handler, body: Body) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
