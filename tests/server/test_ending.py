"""How a server ends, what it tells supervisors, and where it listens."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from support.commands import REAL, TALES, Terminal, run
from support.serving import LONG, Answer, ServeProcess, read_answer, request

from gptcli.errors import CannotCreate, GptcliError
from gptcli.server.operation.access_log import AccessLog
from gptcli.server.operation.tls import tls_context
from gptcli.server.options import Serve

SHORT = {"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}
STREAM = LONG | {"n": 1, "stream": True}
ENDLESS = LONG | {"n": 100, "stream": True}


def begun(server: ServeProcess, body: dict) -> tuple[socket.socket, bytes]:
    """A stream that has begun."""
    connection = server.send(body)
    return connection, connection.recv(2000)


def rest(connection: socket.socket, data: bytes) -> Answer:
    while piece := connection.recv(65536):
        data += piece
    connection.close()
    return Answer(data)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_idle_server_ends_by_the_signal_at_once(number: int) -> None:
    with ServeProcess() as server, server.connect():  # an idle connection does not hold it
        began = time.monotonic()
        assert server.stop(number) == -number
        assert time.monotonic() - began < 3
        assert server.process.stderr.read() == b""


def test_the_first_signal_lets_streams_end_and_refuses_the_new() -> None:
    with ServeProcess("--batch-size", "2") as server:
        connection, data = begun(server, STREAM | {"n": 4})
        server.process.send_signal(signal.SIGTERM)
        found = server.wait_for(lambda found: found["status"] == "draining")
        assert found["running"] == 1
        ready = server.get("/ready")
        assert (ready.status, ready.json["status"]) == (503, "draining")
        refused = server.post(SHORT)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.error["type"] == "overloaded_error"
        answer = rest(connection, data)
        assert answer.events[-1] == "[DONE]"
        ends = [event["choices"][0]["finish_reason"] for event in answer.events[:-1]]
        assert ends.count("length") == 4
        assert server.process.wait(10) == -signal.SIGTERM


def test_after_the_drain_time_streams_are_cut_with_an_error() -> None:
    with ServeProcess("--drain-timeout", "0.3", "--batch-size", "1") as server:
        connection, data = begun(server, ENDLESS)
        queued = server.send(SHORT)
        server.wait_for(lambda found: found["waiting"] == 1)
        began = time.monotonic()
        assert server.stop() == -signal.SIGTERM
        assert time.monotonic() - began < 5
        *_, error, end = rest(connection, data).events
        assert error["error"]["type"] == "overloaded_error"
        assert end == "[DONE]"
        with queued:
            assert read_answer(queued).status == 503


def test_a_second_signal_ends_at_once() -> None:
    with ServeProcess("--batch-size", "1") as server, begun(server, ENDLESS)[0]:
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(lambda found: found["status"] == "draining")
        began = time.monotonic()
        assert server.stop(signal.SIGINT) == -signal.SIGINT
        assert time.monotonic() - began < 2


def test_ctrl_c_on_a_terminal_says_nothing_odd() -> None:
    terminal = Terminal(REAL, "serve", *TALES, "--port", "0")
    terminal.read_until(b"/v1")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.finish() == -signal.SIGINT
    assert b"Traceback" not in terminal.output


def test_the_time_limit_is_an_error_before_and_in_a_stream() -> None:
    with ServeProcess("--request-timeout", "0.3", "--batch-size", "1") as server:
        answer = rest(server.send(ENDLESS), b"")
        assert answer.status == 200
        *_, error, end = answer.events
        assert (error["error"]["code"], end) == ("timeout", "[DONE]")
        whole = server.post(ENDLESS | {"stream": False})
        assert (whole.status, whole.error["code"]) == (504, "timeout")
        server.idle(5)


def test_a_full_queue_is_429_and_says_when_to_come_back() -> None:
    limits = ("--max-queued-requests", "2", "--max-queued-tokens", "100")
    with ServeProcess("--batch-size", "1", *limits) as server:
        writer = server.send(ENDLESS)
        server.wait_for(lambda found: found["running"] == 1)
        queued = [server.send(SHORT)]
        server.wait_for(lambda found: found["waiting"] == 1)
        tokens = server.post(LONG | {"prompt": [5] * 200})
        assert (tokens.status, tokens.error["code"]) == (429, "queue_full")
        queued.append(server.send(SHORT))
        server.wait_for(lambda found: found["waiting"] == 2)
        full = server.post(SHORT)
        assert (full.status, full.error["code"]) == (429, "queue_full")
        assert full.headers["retry-after"].isdigit()
        writer.close()
        assert [read_answer(connection).status for connection in queued] == [200, 200]
        for connection in queued:
            connection.close()
        assert server.post(LONG | {"prompt": [5] * 200, "max_tokens": 1}).status == 200


def test_health_and_metrics_answer_while_the_engine_works() -> None:
    with ServeProcess("--batch-size", "4") as server:
        with server.send(ENDLESS | {"stream": False}):
            server.wait_for(lambda found: found["running"] == 1)
            times = []
            for _ in range(30):
                began = time.monotonic()
                assert server.health()["status"] == "ok"
                times.append(time.monotonic() - began)
            assert server.metric("gptcli_requests_running") == 1
        print(f"/health under load: {sorted(times)[15] * 1000:.1f} ms, {max(times) * 1000:.1f} ms")
        assert sorted(times)[15] < 1


def test_a_record_of_a_server_replays(tmp_path: Path) -> None:
    with ServeProcess("--record", str(tmp_path / "record"), "--batch-size", "3") as server:
        bodies = [SHORT | {"temperature": 1, "seed": seed, "n": 2} for seed in range(5)]
        connections = [server.send(body) for body in bodies]
        assert all(read_answer(connection).status == 200 for connection in connections)
        for connection in connections:
            connection.close()
        assert server.stop() == -signal.SIGTERM
    lines = [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()]
    assert len({line["id"] for line in lines[1:]}) == 5
    done = run(REAL, "replay", str(tmp_path / "record"))
    assert done.returncode == 0, done.stderr


def test_a_unix_socket_is_for_this_user_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with ServeProcess("--uds", str(path)) as server:
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(request("/health", None, Host="whatever"))
            assert read_answer(connection).status == 200
        taken = run(REAL, "serve", *TALES, "--uds", str(path))
        assert taken.returncode == 69
        assert server.stop() == -signal.SIGTERM
    assert not path.exists()


def test_ipv6_and_a_taken_port() -> None:
    with ServeProcess("--host", "::1") as server:
        assert server.url.startswith("http://[::1]:")
        with socket.create_connection(("::1", server.port)) as connection:
            connection.sendall(request("/health", None, Host=f"[::1]:{server.port}"))
            assert read_answer(connection).status == 200
        taken = run(REAL, "serve", *TALES, "--host", "::1", "--port", str(server.port))
        assert taken.returncode == 69


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for localhost, its key, another key, and one with a password."""
    folder = tmp_path_factory.mktemp("tls")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    make += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    try:
        for name in ("", "other-"):
            files = ["-keyout", str(folder / f"{name}key"), "-out", str(folder / f"{name}cert")]
            subprocess.run([*make.split(), *files], check=True, capture_output=True)
        lock = f"openssl ec -in {folder}/key -out {folder}/locked -aes128 -passout pass:word"
        subprocess.run(lock.split(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs openssl to make a certificate: {error}")
    (folder / "both").write_text((folder / "key").read_text() + (folder / "cert").read_text())
    return folder


def test_https_by_files(certificate: Path) -> None:
    files = ("--tls-cert", str(certificate / "cert"), "--tls-key", str(certificate / "key"))
    with ServeProcess(*files) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=certificate / "cert")
        with (
            server.connect() as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(request("/v1/completions", json.dumps(SHORT).encode()))
            assert read_answer(connection).status == 200
        with server.connect() as plain:  # not TLS: the connection just ends
            plain.sendall(request("/health", None))
            assert plain.recv(100) == b""
        assert server.stop() == -signal.SIGTERM
        assert server.process.stderr.read() == b""


@pytest.mark.parametrize(
    ("cert", "key", "code", "said"),
    [("cert", "other-key", 65, "not that of the key"), ("cert", "locked", 65, "password"),
     ("cert", None, 65, "no PEM certificate with its key"), ("gone", "key", 66, "gone"),
     ("key", "key", 65, "no PEM certificate"), (None, "key", 2, "--tls-cert")],
)  # fmt: skip
def test_files_for_tls_that_do_not_fit_are_refused(
    certificate: Path, cert: str | None, key: str | None, code: int, said: str
) -> None:
    paths = [name and str(certificate / name) for name in (cert, key)]
    with pytest.raises(GptcliError, match=said) as refused:
        tls_context(Serve(tls_cert=paths[0], tls_key=paths[1]))
    assert refused.value.exit_code == code


def test_a_certificate_and_its_key_may_be_one_file(certificate: Path) -> None:
    assert tls_context(Serve(tls_cert=str(certificate / "both"))) is not None
    assert tls_context(Serve()) is None


def test_a_log_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate, match="--access-log"):
        AccessLog(str(tmp_path / "no" / "log"), print)


def test_a_log_on_standard_output_that_nobody_reads_holds_up_no_one() -> None:
    with ServeProcess("--access-log", "-") as server:
        server.health()
        assert json.loads(server.process.stdout.readline())["path"] == "/health"
        with server.connect() as connection:
            for _ in range(300):  # more than a pipe holds
                connection.sendall(request("/health", None, Connection="keep-alive"))
                assert read_answer(connection).status == 200
        assert server.stop() == -signal.SIGTERM
