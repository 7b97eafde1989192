"""The networks that run a GPT-2 on a CPU, and servers that answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.fake_server import FakeServer

from gptcli import native


@pytest.fixture
def kernels() -> native.Library:
    """Our kernels."""
    library = native.library()
    if library is None:
        pytest.skip("no compiled kernels here")
    return library


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if none had been compiled."""
    monkeypatch.setattr(native, "library", lambda: None)


@pytest.fixture(params=["kernels", "no_kernels"])
def each_network(request: pytest.FixtureRequest) -> str:
    """Our kernels, then torch without them."""
    request.getfixturevalue(request.param)
    return str(request.param)


@pytest.fixture
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key and no proxy of the machine that the tests run on."""
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in ("GPTCLI_API_KEY", "OPENAI_API_KEY", *proxies):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server on loopback."""
    with FakeServer() as fake:
        yield fake
