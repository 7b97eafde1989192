"""What the engine needs to know of a request in flight, and what is known of its server."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gptcli.errors import GptcliError
from gptcli.protocol import Event, Request

BYTES_PER_TOKEN = 3  # of UTF-8; English has about four, so that what is cut to fit by this does fit
PostStream = Callable[[dict[str, object]], AsyncGenerator[object, None]]
"""Posts a body and gives the messages of the answer, as JSON."""


def estimate(text: str) -> int:
    """About how many tokens a text is, rather too many: a third of its UTF-8 bytes."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


@dataclass
class ServerTraits:
    """What a server was seen to do; one object for all requests of an engine.

    one_text: it ignores or refuses `n`, so each text is asked for by itself. one_prompt: it takes
    no list of prompts. scores_checked: its echoed log-probabilities agree with themselves.
    scores_fault: why it cannot be trusted to score, once that is known.
    """

    one_text: bool = False
    one_prompt: bool = False
    scores_checked: bool = False
    scores_fault: str = ""


class InFlight(Protocol):
    """A request in flight."""

    @property
    def request(self) -> Request:
        """What was asked."""
        ...

    @property
    def begun(self) -> bool:
        """Whether anything was given out, which cannot be taken back."""
        ...

    async def send(self, ask: PostStream) -> None:
        """Ask the server for what is missing and take the answer. Raises one of FAILURES."""
        ...

    def finish(self, error: GptcliError | None = None, cancelled: bool = False) -> Iterator[Event]:
        """The last events."""
        ...
