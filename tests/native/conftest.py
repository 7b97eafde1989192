"""The kernels for each kind of processor in turn."""

from __future__ import annotations

import pytest

from gptcli import native


@pytest.fixture(params=native.kinds() or ["none"])
def library(request: pytest.FixtureRequest) -> native.Library:
    """The kernels for each kind of processor that this one is, as if it were no other."""
    found = native.opened(request.param)
    if found is None:
        pytest.skip("there was no compiler, or none for this processor")
    return found
