"""Rows of a batch read from bytes, for the tests of its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import pytest

from gptcli.batch.input.row import Row
from gptcli.batch.input.sources import rows
from gptcli.batch.options import BatchInput
from gptcli.errors import BadInput


def of(data: bytes, **options: object) -> list[Row]:
    """The rows of standard input, read with these options of `BatchInput`."""
    found = rows(["-"], BatchInput(**options), BytesIO(data))  # type: ignore[arg-type]
    return [row for row in found if row is not None]


def read(*inputs: object, **options: object) -> list[Row]:
    """The rows of files."""
    found = rows([str(name) for name in inputs], BatchInput(**options), None)  # type: ignore[arg-type]
    return [row for row in found if row is not None]


def texts(found: list[Row]) -> list[str | None]:
    """Each row's text, None for one with an error."""
    return [None if row.error else row.text for row in found]


def errors(found: list[Row]) -> list[str]:
    """The messages of the rows that have an error."""
    return [str(row.error) for row in found if row.error]


def until_the_error(found: Iterator[Row | None]) -> tuple[list[Row], BadInput]:
    """The rows before the error that ends the reading, and the error."""
    before: list[Row] = []
    with pytest.raises(BadInput) as caught:
        before.extend(row for row in found if row is not None)
    return before, caught.value
