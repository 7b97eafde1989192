"""Servers that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.served import InProcess, ServedProcess, serving


@pytest.fixture(scope="session")
def served() -> Iterator[ServedProcess]:
    """A real process that serves tiny-tales."""
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def tales_engine():
    """tiny-tales, opened once."""
    from gptcli.engines import open_engine
    from gptcli.options import Load

    return open_engine(Load(model="tiny-tales", offline=True), 8)


@pytest.fixture(scope="session")
def app(tales_engine) -> Iterator[InProcess]:
    """The application over tiny-tales, in this process."""
    with InProcess(tales_engine) as running:
        yield running
