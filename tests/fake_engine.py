"""An engine that says what it is told: `script` holds the chunks of every sequence.

Run as a program, it is the real command line with this engine inside: the chunks come as JSON in
FAKE_CHUNKS, the pause before each, in seconds, in FAKE_PAUSE.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from gptcli import engines
from gptcli.errors import BadInput, GptcliError
from gptcli.options import Load
from gptcli.results import Chunk, Completion, Event, ModelInfo, Request, Usage

INFO = ModelInfo(
    name="fake",
    revision=None,
    architecture="gpt2",
    context=64,
    vocabulary=512,
    parameters=1,
    dtype="float32",
    device="cpu",
)


@dataclass
class FakeEngine:
    """Sequences finish in reverse order, so that whoever needs them in order must sort."""

    script: tuple[str, ...] = (" there", " was")
    pause: float = 0.0
    error: GptcliError | None = None
    info: ModelInfo = INFO
    asked: list[Request] | None = None

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        for request in requests:
            assert request is not None
            if self.asked is not None:
                self.asked.append(request)
            for index in reversed(range(request.sampling.num_return_sequences)):
                yield from self._sequence(request, index)

    def _sequence(self, request: Request, index: int) -> Iterator[Event]:
        for text in () if self.error else self.script:
            time.sleep(self.pause)
            yield Chunk(id=request.id, index=index, text=text, tokens=(1,))
        done = Completion(
            id=request.id,
            index=index,
            prompt=request.prompt,
            text="".join(self.script),
            tokens=(1,) * len(self.script),
            finish_reason="length",
            usage=Usage(prompt_tokens=2, completion_tokens=len(self.script)),
            seed=7,
            model="fake",
            revision=None,
        )
        yield (
            replace(done, text="", finish_reason="error", error=self.error) if self.error else done
        )

    def cancel(self, id: str) -> None:
        """Nothing to cancel."""


def failing(why: str = "prompt too long") -> FakeEngine:
    """An engine that refuses every request."""
    return FakeEngine(error=BadInput(why, "70 tokens for 64", "Cut it."))


if __name__ == "__main__":
    from gptcli.cli.app import main

    def open_fake(
        load: Load, batch_size: int = 1, beams: bool = False, progress: object = None
    ) -> FakeEngine:
        time.sleep(float(os.environ.get("FAKE_LOADING", "0")))
        chunks = json.loads(os.environ.get("FAKE_CHUNKS", '[" there", " was"]'))
        return FakeEngine(tuple(chunks), float(os.environ.get("FAKE_PAUSE", "0")))

    engines.open_engine = open_fake
    main()
