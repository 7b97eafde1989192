"""What a hostile server may do: answers without an end, bombs, drips, lies.

Each case is a behaviour for `fake_server`, with a pattern of the error that it must come to; none
where it must come to a text. `answering` picks the case by the key that a client sends, so one
server plays all of them. Clients of these cases wait for less than a second: see `hostile_child`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from support.fake_server import Behaviour, Body, Handler, event

BLOCK = 2**16
FLOOD = "more than|no text came"  # whichever is first on this machine
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """What the server does, and a pattern of what the error says; "" for a text."""

    act: Behaviour
    said: str


def begin(
    handler: Handler, kind: str = "text/event-stream", status: int = 200, **more: str
) -> None:
    handler.close_connection = True
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Transfer-Encoding", "chunked")
    for name, value in more.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def endless(part: bytes, before: bytes = b"", pause: float = 0, **how: object) -> Behaviour:
    """The same part for ever: as fast as it is read, or one in `pause` seconds."""

    def act(handler: Handler, body: Body) -> None:
        begin(handler, **how)  # type: ignore[arg-type]
        if before:
            handler.send_part(before)
        block = part if pause else part * max(1, BLOCK // len(part))
        while not handler.owner.ended(pause):
            handler.send_part(block)

    return act


def raw(part: bytes, before: bytes, pause: float = 0) -> Behaviour:
    """Bytes for ever that are no body: of a status line, of headers, between chunks."""

    def act(handler: Handler, body: Body) -> None:
        handler.close_connection = True
        handler.wfile.write(before)
        while not handler.owner.ended(pause):
            handler.wfile.write(part)

    return act


def packed(pack: Callable[[], object], coding: str, part: bytes, **how: object) -> Behaviour:
    """A part for ever, compressed."""

    def act(handler: Handler, body: Body) -> None:
        begin(handler, Content_Encoding=coding, **how)  # type: ignore[arg-type]
        packer, block = pack(), part * (MIB // len(part))
        while not handler.owner.ended(0):
            if some := packer.compress(block):  # type: ignore[attr-defined]
                handler.send_part(some)

    return act


def once(data: bytes, kind: str = "text/event-stream", status: int = 200, **more: str) -> Behaviour:
    """An answer of these bytes, whole; the connection closes."""

    def act(handler: Handler, body: Body) -> None:
        begin(handler, kind, status, **more)
        handler.send_part(data)
        handler.wfile.write(b"0\r\n\r\n")

    return act


def piece(text: str, finish: str | None = None, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish, **more}]}


def ranks(count: int, others: int) -> bytes:
    """A message with so many tokens, and so many alternatives of the first."""
    top = [{f"t{number}": -1 for number in range(others)}] + [None] * (count - 1)
    return event(
        piece(
            "a",
            logprobs={"tokens": ["a"] * count, "token_logprobs": [-1] * count, "top_logprobs": top},
        )
    )


def gzipped() -> object:
    return zlib.compressobj(9, zlib.DEFLATED, 31)


def bare() -> object:
    return zlib.compressobj(9, zlib.DEFLATED, -15)


def empty_blocks(handler: Handler, body: Body) -> None:
    """Gzip that never gives a byte."""
    begin(handler, Content_Encoding="gzip")
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    handler.send_part(packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH))
    while not handler.owner.ended(0):
        handler.send_part(b"\x00\x00\x00\xff\xff" * 10_000)


JSON = "application/json"
TEXT = event(piece(" and on"))
DONE = event(piece("all of it", "stop"))
EMPTY = event(piece(""))
COMMENT = b": wait\n\n"
OK = b"HTTP/1.1 200 OK\r\n"
MANY = 3_000_000
CHOICES = b'{"choices":[' + b"{}," * MANY + b"{}]}"

TEXTS: dict[str, Case] = {
    # Endless streams.
    "text": Case(endless(TEXT), "characters"),
    "text, slow": Case(endless(event(piece("a")), pause=0.02), "takes more than"),
    "a letter at a time": Case(endless(event(piece("a"))), "more than"),
    "one line": Case(endless(b"a" * 1000, b"data: "), FLOOD),
    "one line of JSON": Case(endless(b"{},", b'data: {"choices":['), FLOOD),
    "one event of many lines": Case(endless(b"data: a\n"), FLOOD),
    "one event of empty lines": Case(endless(b"data\n"), FLOOD),
    "one field without a name": Case(endless(b"a" * 1000), FLOOD),
    "one comment": Case(endless(b"a", b":"), FLOOD),
    "one id": Case(endless(b"7", b"id: "), FLOOD),
    "letters of four bytes": Case(endless("\U0001f600".encode(), b'data: "'), FLOOD),
    "comments": Case(endless(COMMENT), FLOOD),
    "comments, slow": Case(endless(COMMENT, pause=0.02), "no text came"),
    "comments behind a text, slow": Case(endless(COMMENT, TEXT, pause=0.02), "no more text came"),
    "comments without an empty line": Case(endless(b":\n"), FLOOD),
    "empty choices": Case(endless(EMPTY), FLOOD),
    "empty choices, slow": Case(endless(EMPTY, pause=0.02), "no text came"),
    "no choices": Case(endless(event({"choices": []})), FLOOD),
    "no choices, slow": Case(endless(event({"choices": []}), pause=0.02), "no text came"),
    "pings": Case(endless(b"event: ping\ndata: {}\n\n"), FLOOD),
    "pings, slow": Case(endless(b"event: ping\ndata: {}\n\n", pause=0.02), "no text came"),
    "events without data": Case(endless(b"data:\n\n"), FLOOD),
    "events without data, slow": Case(endless(b"id: 1\n\n", pause=0.02), "no text came"),
    "retry times": Case(endless(b"retry: 99999999999\n\n"), FLOOD),
    "counts of tokens, slow": Case(
        endless(
            event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
            pause=0.02,
        ),
        "no text came",
    ),
    "carriage returns": Case(endless(b"\r"), FLOOD),
    "another choice": Case(endless(event({"choices": [{"index": 7, "text": "a"}]})), "index 7"),
    # Behind the end.
    "chunks behind the finish": Case(endless(TEXT, DONE), ""),
    "chunks behind the finish, slow": Case(endless(TEXT, DONE, pause=0.02), ""),
    "finishes": Case(endless(DONE, pause=0.02), ""),
    "comments behind the finish": Case(endless(COMMENT, DONE), ""),
    "comments behind the finish, slow": Case(endless(COMMENT, DONE, pause=0.02), ""),
    "one line behind the finish": Case(endless(b"a" * 1000, DONE + b"data: "), ""),
    "chunks behind [DONE]": Case(endless(TEXT, DONE + b"data: [DONE]\n\n"), ""),
    "chunks behind [DONE], slow": Case(endless(TEXT, DONE + b"data: [DONE]\n\n", pause=0.02), ""),
    "a stop, then silence": Case(endless(b"x", DONE, pause=99), ""),
    "[DONE] without a text": Case(endless(TEXT, b"data: [DONE]\n\n", pause=0.02), "broke off"),
    # Headers.
    "silence": Case(raw(b"", b"", 99), "no answer began"),
    "a status line, slow": Case(raw(b"H", b"HTTP/1.1 200 ", 0.02), "no answer began"),
    "a header, slow": Case(raw(b"a", OK + b"X-A: ", 0.02), "no answer began"),
    "headers, slow": Case(raw(b"X-A: b\r\n", OK, 0.02), "no answer began"),
    "headers": Case(raw(b"X-A: b\r\n" * 1000, OK), "no connection"),
    "one header": Case(raw(b"a" * BLOCK, OK + b"X-A: "), "no connection"),
    "answers of 1xx": Case(raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, b""), "no answer began"),
    "answers of 1xx, slow": Case(raw(b"HTTP/1.1 103 A\r\n\r\n", b"", 0.02), "no answer began"),
    "silence behind the headers": Case(endless(b"x", pause=99), "no text came"),
    "a chunk's size": Case(
        raw(
            b"0" * BLOCK,
            OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        "no connection",
    ),
    "trailers": Case(
        raw(
            b"X-A: b\r\n" * 1000,
            OK + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        ),
        "no connection",
    ),
    "a length of 10 TB, slow": Case(
        raw(
            b" ",
            OK + b"Content-Type: application/json\r\nContent-Length: 10000000000000\r\n\r\n",
            0.02,
        ),
        "no text came",
    ),
    # Whole answers.
    "JSON of spaces": Case(endless(b" ", kind=JSON), "more than"),
    "JSON of choices": Case(endless(b"{},", b'{"choices":[', kind=JSON), "more than"),
    "JSON of brackets": Case(endless(b"[", kind=JSON), "more than"),
    "JSON of lists": Case(endless(b"[],", b"[", kind=JSON), "more than"),
    "JSON of one text": Case(endless(b"a", b'{"choices":[{"text":"', kind=JSON), "more than"),
    "JSON of four-byte letters": Case(
        endless("\U0001f600".encode(), b'{"choices":[{"text":"', kind=JSON), "more than"
    ),
    "JSON, slow": Case(endless(b" ", pause=0.02, kind=JSON), "no text came"),
    "JSON of one number": Case(endless(b"9", kind=JSON), "more than"),
    "three million choices": Case(once(CHOICES, JSON), "more than"),
    "three million choices in a message": Case(once(b"data: " + CHOICES + b"\n\n"), "a message"),
    "a hundred thousand choices": Case(
        once(b'{"choices":[' + b'{"text":"a"},' * 70_000 + b"{}]}", JSON), "70001 texts"
    ),
    "a long text": Case(once(json.dumps(piece("a" * 900_000)).encode(), JSON), "characters"),
    "many tokens": Case(once(ranks(20_000, 1)), "20 tokens"),
    "many alternatives": Case(once(ranks(2, 50_000)), "50000 alternatives"),
    "a number of 5000 digits": Case(
        once(b'data: {"choices":[],"a":' + b"9" * 5000 + b"}\n\n"), "no answer"
    ),
    "a page": Case(endless(b"<p>", kind="text/html"), "text/html"),
    # Errors.
    "an error's body": Case(endless(b"a", kind=JSON, status=400), "refuses the request"),
    "an error's body, slow": Case(
        endless(b"a", pause=0.02, kind=JSON, status=400), "refuses the request"
    ),
    "an error's words": Case(
        endless(b"a ", b'{"error": {"message": "', kind=JSON, status=400), "refuses the request"
    ),
    "a page of an error": Case(endless(b"<p>", kind="text/html", status=501), "status 501"),
    "a redirect's body": Case(
        endless(b"a", status=307, Location="http://elsewhere.invalid/"), "redirects"
    ),
    "an error in the stream": Case(endless(b"a ", b'data: {"error": {"message": "'), FLOOD),
    "an error's code of 5000 digits": Case(
        once(event({"error": {"message": "no", "code": "9" * 5000}})), "an error"
    ),
    "an error that is nested": Case(
        once(b'data: {"error": {"message": ' + b"[" * 900 + b"]" * 900 + b"}}\n\n"), "an error"
    ),
    "a pause of a year": Case(once(b"{}", JSON, status=429, Retry_After="31536000"), "too busy"),
    # Compressed.
    "gzip of spaces": Case(packed(gzipped, "gzip", b" ", kind=JSON), "more than"),
    "gzip of comments": Case(packed(gzipped, "gzip", COMMENT), FLOOD),
    "gzip of one line": Case(packed(gzipped, "gzip", b"a"), FLOOD),
    "gzip of text": Case(packed(gzipped, "gzip", TEXT), "characters"),
    "gzip of an error": Case(
        packed(gzipped, "gzip", b" ", kind=JSON, status=400), "refuses the request"
    ),
    "gzip of nothing": Case(empty_blocks, "more than"),
    "deflate of spaces": Case(packed(zlib.compressobj, "deflate", b" ", kind=JSON), "more than"),
    "bare deflate of spaces": Case(packed(bare, "deflate", b" ", kind=JSON), "more than"),
    "gzip twice": Case(
        once(gzip.compress(gzip.compress(b" " * 50 * MIB)), JSON, Content_Encoding="gzip, gzip"),
        "not asked for",
    ),
    "gzip a hundred times": Case(
        once(b"x", JSON, Content_Encoding=", ".join(["gzip"] * 100)), "not asked for"
    ),
    "br": Case(once(b"x" * 1000, JSON, Content_Encoding="br"), "not asked for"),
    "zstd": Case(once(b"(\xb5/\xfd" * 1000, JSON, Content_Encoding="zstd"), "not asked for"),
}


def listed(*models: object) -> Behaviour:
    return once(json.dumps({"data": list(models)}).encode(), JSON)


LISTS: dict[str, Case] = {
    "a list": Case(endless(b'{"id":"a"},', b'{"data":[', kind=JSON), "more than"),
    "a list of spaces": Case(endless(b" ", kind=JSON), "more than"),
    "a list, slow": Case(endless(b'{"id":"a"},', b'{"data":[', pause=0.02, kind=JSON), "takes"),
    "a list's headers, slow": Case(raw(b"X-A: b\r\n", OK, 0.02), "no answer began"),
    "a silent list": Case(raw(b"", b"", 99), "no answer began"),
    "a list of gzip": Case(packed(gzipped, "gzip", b" ", kind=JSON), "more than"),
    "a list of br": Case(once(b"x", JSON, Content_Encoding="br"), "not asked for"),
    "a list's error": Case(endless(b"a", kind=JSON, status=500), "status 500"),
    "a list's refusal, slow": Case(endless(b"a", pause=0.02, kind=JSON, status=401), "the key"),
    "a list of a million": Case(
        once(b'{"data":[' + b'{"id":"a"},' * 10**6 + b"{}]}", JSON), "more than"
    ),
    "a list of one long name": Case(listed({"id": "a" * 10**6}), "no model"),
    "a list of nameless ones": Case(listed({"id": ""}, {"id": 5}, [], {}), "no model"),
}


def answering(cases: dict[str, Case]) -> Behaviour:
    """The case that the client's key names."""

    def act(handler: Handler, body: Body) -> None:
        cases[handler.headers["Authorization"].removeprefix("Bearer ")].act(handler, body)

    return act
