"""An engine that says what it is told: `script` holds the chunks of every sequence.

Run as a program, it is the real command line with this engine inside: the chunks come as JSON in
FAKE_CHUNKS, the pause before each, in seconds, in FAKE_PAUSE.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from gptcli import engines
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadInput, GptcliError
from gptcli.options import Load
from gptcli.protocol import (
    ChoiceLogprobs,
    Chunk,
    Completion,
    Event,
    GenerateRequest,
    Likelihood,
    LoglikelihoodRequest,
    ModelInfo,
    RankedLogprob,
    Request,
    RollingRequest,
    Usage,
    Window,
    WindowLogprobs,
)

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
    """Sequences finish in reverse order, so that whoever needs them in order must sort.

    `reply` gives the text for a request in place of the script, `liking` the log-probability of a
    choice, `expecting` that of the token of a window in some place; a token is four characters,
    unless there is a tokenizer.
    """

    script: tuple[str, ...] = (" there", " was")
    pause: float = 0.0
    error: GptcliError | None = None
    info: ModelInfo = INFO
    asked: list[Request] | None = None
    reply: Callable[[GenerateRequest], str] | None = None
    liking: Callable[[LoglikelihoodRequest, str], float] = lambda request, choice: (
        -float(len(choice))
    )
    cancelled: set[str] = field(default_factory=set)
    tokenizer: Tokenizer | None = None
    expecting: Callable[[Window, int], float] = lambda window, place: -1.0

    def run(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        for request in requests:
            if request is None:
                continue
            if self.asked is not None:
                self.asked.append(request)
            match request:
                case RollingRequest():
                    yield self._score_window(request)
                case LoglikelihoodRequest():
                    yield self._score(request)
                case GenerateRequest():
                    for index in reversed(range(request.results)):
                        yield from self._sequence(request, index)

    def _score(self, request: LoglikelihoodRequest) -> ChoiceLogprobs:
        choices = (
            Likelihood(choice, (token,), (self.liking(request, choice),))
            for token, choice in enumerate(request.choices)
        )
        return ChoiceLogprobs(
            id=request.id,
            prompt=request.prompt,
            choices=() if self.error else tuple(choices),
            usage=Usage(prompt_tokens=self.count(request.prompt), completion_tokens=0),
            model="fake",
            revision=None,
            error=self.error,
        )

    def _score_window(self, request: RollingRequest) -> WindowLogprobs:
        window = request.window
        if self.error:
            return request.refused(self.error, self.info)
        alike = {"rank": 1, "entropy": 1.0} if window.detailed else {}
        found = (
            RankedLogprob(
                id,
                self.expecting(window, place),
                among=(self.expecting(window, place) / 2,) * len(window.among),
                **alike,
            )
            for place, id in enumerate(window.ids[window.first :], window.first)
        )
        return WindowLogprobs(
            id=request.id,
            tokens=tuple(found),
            usage=Usage(prompt_tokens=len(window.ids) - 1, completion_tokens=0),
            model="fake",
            revision=None,
        )

    def _sequence(self, request: GenerateRequest, index: int) -> Iterator[Event]:
        script = (
            self.script if self.reply is None else re.findall(".{1,4}", self.reply(request), re.S)
        )
        written = ""
        for text in () if self.error else script:
            if request.id in self.cancelled:
                break
            time.sleep(self.pause)
            written += text
            yield Chunk(id=request.id, index=index, text=text, tokens=(1,))
        done = Completion(
            id=request.id,
            index=index,
            prompt=request.prompt,
            text=written,
            tokens=(1,) * len(script),
            finish_reason="cancelled" if request.id in self.cancelled else "length",
            usage=Usage(prompt_tokens=2, completion_tokens=len(script)),
            seed=7,
            model="fake",
            revision=None,
        )
        yield (
            replace(done, text="", finish_reason="error", error=self.error) if self.error else done
        )

    def count(self, text: str) -> int:
        return -(-len(text) // 4)

    def cancel(self, id: str) -> None:
        self.cancelled.add(id)


def failing(why: str = "prompt too long") -> FakeEngine:
    """An engine that refuses every request."""
    return FakeEngine(error=BadInput(why, "70 tokens for 64", "Cut it."))


if __name__ == "__main__":
    from gptcli.cli.main import main

    def open_fake(
        load: Load,
        batch_size: int = 1,
        beams: bool = False,
        progress: object = None,
        text: bool = True,
    ) -> FakeEngine:
        time.sleep(float(os.environ.get("FAKE_LOADING", "0")))
        chunks = json.loads(os.environ.get("FAKE_CHUNKS", '[" there", " was"]'))
        return FakeEngine(tuple(chunks), float(os.environ.get("FAKE_PAUSE", "0")))

    engines.open_engine = open_fake
    main()
