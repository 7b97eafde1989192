"""The networks that run a GPT-2 on a CPU."""

from __future__ import annotations

import pytest

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
