"""Who may use a server, and how much they may send: keys, names of hosts, origins of pages."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import REAL, run
from support.serving import ServeProcess, read_answer, request

from gptcli.errors import GptcliError, UsageError
from gptcli.server.operation.keys import read_keys
from gptcli.server.operation.origins import Hosts, Origins
from gptcli.server.options import Serve

KEYS = "# of two people\r\nsk-first-key\n\n  sk-second-key  \n"
KEY = {"Authorization": "Bearer sk-second-key"}
BODY = {"prompt": "Once upon a time", "max_tokens": 2, "temperature": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("access")
    (folder / "keys").write_text(KEYS)
    (folder / "keys").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServeProcess]:
    """A server with keys, a name, an origin and a log."""
    names = ("--allowed-host", "box.lan", "--allowed-host", "*.example.com")
    origin = ("--cors-origin", "https://notebook.example")
    log = ("--access-log", str(folder / "log"), "--max-body", "1")
    with ServeProcess("--api-key-file", str(folder / "keys"), *names, *origin, *log) as server:
        yield server


@pytest.mark.parametrize("key", ["Bearer sk-first-key", "bearer  sk-second-key"])
def test_each_key_of_the_file_opens(server: ServeProcess, key: str) -> None:
    assert server.post(BODY, Authorization=key).status == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer "}, {"Authorization": "Bearer sk-first-ke"},
     {"Authorization": "Basic sk-first-key"}, {"Authorization": "sk-first-key"},
     {"Authorization": "Bearer # of two people"}],
)  # fmt: skip
def test_anything_else_is_401(server: ServeProcess, headers: dict[str, str]) -> None:
    for path in ("/v1/models", "/metrics", "/version", "/nowhere"):
        answer = server.get(path, **headers)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.error["code"] == "invalid_api_key"
    assert server.post(BODY, **headers).status == 401


def test_supervisors_need_no_key(server: ServeProcess) -> None:
    assert server.get("/health").status == 200
    assert server.get("/ready").json == {"status": "ready"}


def test_a_body_without_a_key_is_not_read(server: ServeProcess) -> None:
    with server.connect() as connection:
        connection.sendall(request("/v1/completions", None, Content_Length="1000")[: -0 or None])
        assert read_answer(connection).status == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "example.com", "a b", "",
                                  "127.0.0.1.evil.example", "localhost.evil.example"])  # fmt: skip
def test_another_name_is_refused(server: ServeProcess, host: str) -> None:
    answer = server.get("/health", Host=host)
    assert (answer.status, answer.error["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "a.localhost:8000", "[::1]:8000",
                                  "192.168.1.7:8000", "BOX.lan", "a.example.com"])  # fmt: skip
def test_own_names_and_addresses_are_answered(server: ServeProcess, host: str) -> None:
    assert server.get("/health", Host=host).status == 200


def test_a_client_without_a_host_is_no_browser(server: ServeProcess) -> None:
    assert server.ask(b"GET /health HTTP/1.0\r\n\r\n").status == 200


def test_a_unix_socket_answers_to_any_name() -> None:
    assert Hosts.of(None, ()).allow(b"anything")
    assert not Hosts.of("127.0.0.1", ()).allow(b"anything")
    assert Hosts.of("127.0.0.1", ("*",)).allow(b"anything")


def test_a_foreign_page_makes_no_work_and_reads_nothing(server: ServeProcess) -> None:
    refused = server.post(BODY, Origin="https://evil.example", **KEY)
    assert (refused.status, refused.error["code"]) == (403, "origin_not_allowed")
    for answer in (refused, server.get("/v1/models", Origin="https://evil.example", **KEY)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://127.0.0.1:9", "Host": "127.0.0.1:9"},
     {"Origin": "https://behind.example", "Sec-Fetch-Site": "same-origin"}],
)  # fmt: skip
def test_the_servers_own_page_may_use_it(server: ServeProcess, headers: dict[str, str]) -> None:
    assert server.post(BODY, **KEY, **headers).status == 200


def test_a_listed_origin_reads_answers_and_errors(server: ServeProcess) -> None:
    origin = {"Origin": "https://notebook.example"}
    for answer in (server.post(BODY, **KEY, **origin), server.post(BODY, **origin)):
        assert answer.headers["access-control-allow-origin"] == "https://notebook.example"
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["vary"] == "Origin"


def preflight(server: ServeProcess, origin: str, **headers: str):
    asked = {"Access_Control_Request_Method": "POST", "Origin": origin, **headers}
    data = request("/v1/completions", None, **asked)
    return server.ask(data.replace(b"GET", b"OPTIONS", 1))


def test_a_preflight_needs_no_key(server: ServeProcess) -> None:
    names = "authorization,content-type,x-stainless-os"
    answer = preflight(server, "https://notebook.example", Access_Control_Request_Headers=names)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "https://notebook.example"
    assert answer.headers["access-control-allow-headers"] == names
    assert "POST" in answer.headers["access-control-allow-methods"]
    refused = preflight(server, "https://notebook.example.evil.example")
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers


def test_any_origin_is_a_star_and_none_is_the_default() -> None:
    headers = {b"origin": b"https://any.example"}
    everyone, no_one = Origins(("*",)), Origins()
    assert everyone.headers(headers[b"origin"])["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in everyone.headers(headers[b"origin"])
    assert everyone.allow("POST", headers)
    assert no_one.headers(headers[b"origin"]) == {}
    assert no_one.preflight(headers) is None
    assert not no_one.allow("POST", headers)


@pytest.mark.parametrize("length", ["1000001", "9" * 40, "x"])
def test_a_long_body_is_refused_before_it_comes(server: ServeProcess, length: str) -> None:
    data = request("/v1/completions", None, Content_Length=length, **KEY)
    answer = server.ask(data.replace(b"GET", b"POST", 1))
    assert answer.status == (400 if length == "x" or len(length) > 20 else 413)
    assert answer.error["type"] == "invalid_request_error"


def test_a_long_body_in_chunks_is_refused_too(server: ServeProcess) -> None:
    head = request("/v1/completions", None, Transfer_Encoding="chunked", **KEY)
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with server.connect() as connection:
        connection.sendall(head.replace(b"GET", b"POST", 1))
        connection.sendall(piece * 20 + b"0\r\n\r\n")
        assert read_answer(connection).error["code"] == "body_too_large"


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00", b"nonsense\r\n\r\n",
     b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
     b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000 + b"\r\n\r\n"],
    ids=["TLS", "nonsense", "two hosts", "long path", "long header"],
)  # fmt: skip
def test_what_is_no_http_gets_an_error_in_the_same_shape(server: ServeProcess, data: bytes) -> None:
    answer = server.ask(data)
    assert answer.status in (400, 431)
    assert answer.error["code"] == "bad_http"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"prompt": "\xff"}', b"[" * 10_000, b'{"a":' * 10_000, b'{"n": NaN}',
     b'{"prompt": "a", "temperature": 1e999}', b'{"seed": ' + b"9" * 5000 + b"}",
     json.dumps({"prompt": "a", "n": 600, "best_of": 1025}).encode(),
     json.dumps({"prompt": ["a"] * 600, "n": 2}).encode()],
)  # fmt: skip
def test_a_bad_body_is_400_and_the_server_goes_on(server: ServeProcess, body: bytes) -> None:
    answer = server.ask(request("/v1/completions", body, **KEY))
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert server.get("/ready").status == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [(request("/v1/completions", None), 405), (request("/health", b"{}"), 405),
     (request("/v1/v1/completions", b"{}"), 404), (request("/v1/completions/", b"{}"), 404)],
)  # fmt: skip
def test_a_wrong_path_or_method_says_what_there_is(
    server: ServeProcess, data: bytes, status: int
) -> None:
    answer = server.ask(data.replace(b"\r\n", b"\r\nAuthorization: Bearer sk-first-key\r\n", 1))
    assert answer.status == status
    assert "/v1/completions" in answer.error["message"] or "GET" in answer.error["message"]


def test_requests_have_ids_and_lines_without_their_text(server: ServeProcess, folder: Path) -> None:
    answer = server.post(BODY | {"stream": True}, X_Request_Id="mine-1", **KEY)
    assert answer.headers["x-request-id"] == "mine-1"
    for given in ("a\tb", "é", "x" * 101, ""):
        assert server.get("/health", X_Request_Id=given).headers["x-request-id"].startswith("req-")
    until = time.monotonic() + 10
    while len(found := [line for line in lines(folder) if line["id"] == "mine-1"]) < 1:
        assert time.monotonic() < until
    [line] = found
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/completions", 200)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (4, 2)
    assert (line["bytes"], line["complete"]) == (len(answer.body), True)
    assert line["client"] == "127.0.0.1"
    text = (folder / "log").read_text()
    assert "Once upon" not in text
    assert "sk-" not in text
    assert (folder / "log").stat().st_mode & 0o777 == 0o600


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def test_no_key_is_in_the_list_of_processes_or_the_messages(server: ServeProcess) -> None:
    proc = Path(f"/proc/{server.process.pid}")
    assert b"sk-" not in (proc / "cmdline").read_bytes()
    assert b"sk-" not in server.said


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [(b"", 65, b"it holds no key"), (b"# none\n\n", 65, b"it holds no key"),
     (b"good\nbad key\n", 65, b"line 2 is no key"), (b"\xff\n", 65, b"line 1 is no key"),
     (b"a" * 2**20 + b"\n", 65, b"at most")],
)  # fmt: skip
def test_a_bad_file_of_keys_is_refused_without_quoting_it(
    tmp_path: Path, content: bytes, code: int, said: bytes
) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(GptcliError, match=said.decode()) as refused:
        read_keys(str(tmp_path / "keys"), list)
    assert refused.value.exit_code == code
    assert "bad key" not in str(refused.value)


def test_a_file_of_keys_that_is_not_there_is_said_before_the_model_is_loaded() -> None:
    done = run(REAL, "serve", "-m", "./none", "--api-key-file", "gone")
    assert done.returncode == 66
    assert b"gone" in done.stderr


def test_a_file_of_keys_that_others_can_read_is_said(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-key\n")
    for mode, says in ((0o600, 0), (0o640, 1), (0o604, 1)):
        keys.chmod(mode)
        notes: list[str] = []
        assert read_keys(str(keys), notes.append).allow(b"Bearer sk-key")
        assert len(notes) == says


def test_an_open_door_is_said() -> None:
    with ServeProcess("--host", "0.0.0.0") as server:
        assert b"everyone who reaches 0.0.0.0 may use it; see --api-key-file" in server.said


def test_a_pipe_may_hold_the_keys() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"sk-piped\n")
    os.close(writing)
    notes: list[str] = []
    assert read_keys(f"/dev/fd/{reading}", notes.append).allow(b"Bearer sk-piped")
    os.close(reading)
    assert notes == []


@pytest.mark.parametrize(
    "wrong",
    [{"cors_origin": "notebook.example"}, {"cors_origin": "https://a.example/path"},
     {"allowed_host": "box.lan:8000"}, {"allowed_host": "http://box.lan"}],
)  # fmt: skip
def test_a_wrong_name_is_a_usage_error(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Serve(**wrong)
