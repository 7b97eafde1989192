"""What passes between `--server` and a server: headers, events, errors, TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_server import Body, FakeServer, Handler, saying
from support.remote import QUICK, opened

from gptcli import __version__
from gptcli.engines.remote import RemoteEngine, connect
from gptcli.engines.remote.wire import EventReader, StatusError, StreamedError
from gptcli.errors import BadInput, GptcliError, Unavailable
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion, GenerateRequest

pytestmark = pytest.mark.usefixtures("no_surroundings")


def asked(engine: RemoteEngine) -> Completion:
    request = GenerateRequest(id="0", prompt="a", sampling=Sampling(), shown=False)
    [done] = engine.run([request])
    assert isinstance(done, Completion)
    return done


# Headers.


def test_without_a_key_none_is_sent_and_the_name_of_the_client_is(server: FakeServer) -> None:
    assert asked(opened(server)).error is None
    [sent] = [{name.lower(): value for name, value in one.items()} for one in server.headers]
    assert "authorization" not in sent
    assert sent["user-agent"] == f"gptcli/{__version__}"
    assert sent["accept"] == "application/json"
    assert sent["content-type"] == "application/json"
    assert {name for name in sent if name.startswith("x-")} == set()


# Events.

LINES = [
    (b"data: a", []),
    (b"", ["a"]),
    (b"data:b", []),
    (b"data:  c", []),
    (b": note", []),
    (b"event: ping", []),
    (b"", ["b\n c"]),
    (b"data", []),
    (b"", []),
    (b"id: 7", []),
    (b"retry: 1000", []),
    (b"", []),
    (b"datas: x", []),
    (b"", []),
    (b"data: \xc3\xa9\xe2\x80\xa8\x0b\x1c|", []),
    (b"", ["\u00e9\u2028\x0b\x1c|"]),
    (b"data: lost", []),
]


@given(
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.lists(st.integers(0, 200), max_size=30),
    st.booleans(),
)
def test_events_are_the_same_wherever_the_stream_is_cut(
    end: bytes, cuts: list[int], marked: bool
) -> None:
    whole = (b"\xef\xbb\xbf" if marked else b"") + end.join(line for line, _ in LINES)
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    reader, found = EventReader(), list[str]()
    for first, last in pairwise(places):
        found += reader.feed(whole[first:last])
    assert found == [text for _, texts in LINES for text in texts]


def test_each_line_may_end_in_its_own_way() -> None:
    reader = EventReader()
    found = [
        text
        for part in (b"data: a\r\n\r", b"\ndata: b\n\r", b"data: c\r\r\n")
        for text in reader.feed(part)
    ]
    assert found == ["a", "b", "c"]


def test_a_line_of_megabytes_in_small_parts_takes_no_square_of_its_length() -> None:
    reader = EventReader()
    found = [text for _ in range(200_000) for text in reader.feed(b"data: aaaa")]
    assert found == []
    [data] = reader.feed(b"\n\n")
    assert len(data) == 200_000 * 10 - 6


# Errors.


@pytest.mark.parametrize("kind", ["hex", "rot13", "undefined", "idna", "no-such-thing", "utf-7"])
def test_an_error_in_a_strange_encoding_is_told(server: FakeServer, kind: str) -> None:
    def refuse(handler: Handler, body: Body) -> None:
        handler.send(400, f"application/json; charset={kind}", b'{"error": {"message": "bad"}}')

    server.always = refuse
    error = asked(opened(server)).error
    assert isinstance(error, BadInput)
    assert "it refuses the request: bad" in str(error)


@pytest.mark.parametrize(
    ("code", "status"),
    [(429, 429), ("503", 503), ("rate_limit", 0), (None, 0), (True, 0), (0, 0), ("9" * 5000, 0)],
)
def test_a_code_inside_a_stream_is_a_status_if_it_can_be_one(code: object, status: int) -> None:
    assert StreamedError({"message": "x", "code": code}).status == status
    assert StreamedError("words alone").status == 0


def test_an_error_quotes_nothing_of_the_server_by_itself() -> None:
    body = {"message": "your key is sk-secret"}
    assert "sk-" not in repr(StreamedError(body)) + repr(StatusError(401, {}, body))


def test_a_list_of_models_may_be_of_any_kind_of_json(server: FakeServer) -> None:
    server.models_answer = saying("application/vnd.api+json", b'{"data": [{"id": "m"}]}')
    assert connect(Load(server=server.url), 1, QUICK).info.name == "m"


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of this machine that it signed itself, with its key behind it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command, to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "crt")]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "crt").read_bytes() + (folder / "key").read_bytes())
    return both


@pytest.fixture
def secure(certificate: Path) -> Iterator[FakeServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FakeServer(context) as fake:
        yield fake


def refusal(server: FakeServer) -> GptcliError:
    with pytest.raises(Unavailable) as raised:
        opened(server)
    return raised.value


def test_a_certificate_of_the_environment_is_trusted_also_on_this_machine(
    secure: FakeServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert asked(opened(secure)).error is None


def test_a_certificate_that_is_not_trusted_is_named_as_the_reason(secure: FakeServer) -> None:
    error = refusal(secure)
    assert "TLS: self-signed certificate" in error.why
    assert "SSL_CERT_FILE" in (error.hint or "")


def test_tls_to_a_server_without_it_is_said(server: FakeServer) -> None:
    server.url = server.url.replace("http:", "https:")
    assert "TLS: wrong version number" in refusal(server).why


@pytest.mark.parametrize("content", [None, "nothing of the kind"])
def test_certificates_that_cannot_be_read_are_said(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    named = tmp_path / "named.pem"
    if content is not None:
        named.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(named))
    assert asked(opened(server)).error is None  # nothing is read where there is no TLS
    server.url = server.url.replace("http:", "https:")
    error = refusal(server)
    assert error.what == "certificates to trust"
    assert "SSL_CERT_FILE" in (error.hint or "")
