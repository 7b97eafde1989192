"""Engines: the only code that knows torch. `open_engine` gives the right one for a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from gptcli.options import Load
from gptcli.results import Event, ModelInfo, Request


class Engine(Protocol):
    """Something that continues text."""

    info: ModelInfo

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Continue every request, as many at a time as the engine has slots.

        Requests are pulled only when a slot is free; None stands for "none right now". A request
        that cannot be served gives a Completion with `error`, and the others go on.
        """
        ...

    def cancel(self, id: str) -> None:
        """End the request `id` at its next step; its completions say `cancelled`."""
        ...


def open_engine(load: Load, batch_size: int = 1, beams: bool = False) -> Engine:
    """Resolve, check and load the model, with `batch_size` slots.

    `beams` asks for an engine that can do beam search. Raises Unavailable, MissingInput, BadModel.
    """
    raise NotImplementedError
