"""`gptcli serve` as a process of its own, and clients that speak to it by raw sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.commands import REAL, TALES, environment

PLACE = re.compile(rb"is served at (?P<url>https?\S*?)/v1[;\n]")
LONG = {"prompt": "Once upon a time", "ignore_eos": True, "max_tokens": 400}


class ServeProcess:
    """A server that answers. `with ServeProcess("--batch-size", "2") as server: ...`."""

    def __init__(self, *args: str, model: tuple[str, ...] = TALES, **changes: object) -> None:
        where = () if "--uds" in args or "--port" in args else ("--port", "0")
        self.process = subprocess.Popen(
            [*REAL, "serve", *model, *where, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(**changes),
        )
        self.said = b""
        while not (found := PLACE.search(self.said)):
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        self.url = found["url"].decode()
        self.port = int(self.url.rpartition(":")[2]) if "unix" not in self.url else 0

    def __enter__(self) -> ServeProcess:
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def send(self, body: dict[str, Any], path: str = "/v1/completions") -> socket.socket:
        """A connection on which a request was sent."""
        connection = self.connect()
        connection.sendall(request(path, json.dumps(body).encode()))
        return connection

    def ask(self, data: bytes) -> Answer:
        """The answer to bytes on a connection of their own."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_answer(connection)

    def get(self, path: str, **headers: str) -> Answer:
        """GET."""
        return self.ask(request(path, None, **headers))

    def post(self, body: object, path: str = "/v1/completions", **headers: str) -> Answer:
        """POST of JSON."""
        return self.ask(request(path, json.dumps(body).encode(), **headers))

    def health(self) -> dict[str, Any]:
        """What /health says."""
        return self.get("/health").json

    def wait_for(self, what: Callable[[dict[str, Any]], bool], seconds: float = 20) -> dict:
        """Ask /health until `what` is true of its answer."""
        until = time.monotonic() + seconds
        while not what(found := self.health()):
            assert time.monotonic() < until, found
            time.sleep(0.01)
        return found

    def idle(self, seconds: float = 20) -> None:
        """Wait until nothing runs and nothing waits."""
        self.wait_for(lambda found: found["running"] == found["waiting"] == 0, seconds)

    def metric(self, name: str) -> float:
        """A sample of /metrics, by its name with labels."""
        lines = self.get("/metrics").body.decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))

    @property
    def memory(self) -> int:
        """Its resident memory, in bytes."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and wait for its end; gives the exit status as subprocess tells it."""
        self.process.send_signal(number)
        return self.process.wait(60)


class Answer:
    """An answer, taken apart."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        self.headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        if self.headers.get("transfer-encoding") == "chunked":
            self.body = _unchunked(self.body)

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error that it is, in OpenAI's shape."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    @property
    def events(self) -> list[Any]:
        """The events of a stream; the last is [DONE]."""
        found = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [text if text == "[DONE]" else json.loads(text) for text in found]


def request(path: str, body: bytes | None, **headers: str) -> bytes:
    """The bytes of a request; a name of a header has _ for -."""
    method = "GET" if body is None else "POST"
    all_headers = {"Host": "127.0.0.1", "Connection": "close"}
    if body is not None:
        all_headers["Content-Length"] = str(len(body))
    all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in all_headers.items()]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""])
    return head.encode("latin-1") + (body or b"")


def read_answer(connection: socket.socket) -> Answer:
    """All that comes until the answer has its length, or the connection ends."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
        head, end, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if end and length and len(body) >= int(length[1]):
            break
    return Answer(data)


def reset(connection: socket.socket) -> None:
    """Close with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _unchunked(data: bytes) -> bytes:
    found = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        found.append(data[:length])
        data = data[length + 2 :]
    return b"".join(found)
