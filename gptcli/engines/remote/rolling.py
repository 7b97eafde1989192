"""Windows of ids in flight: turns an echo into WindowLogprobs, without ranks and entropies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gptcli.engines.remote.echo_tokenizer import EchoTokenizer, Logprobs
from gptcli.engines.remote.inflight import PostStream, ServerTraits
from gptcli.engines.remote.scoring import echoed
from gptcli.errors import BadInput, GptcliError
from gptcli.protocol import (
    Event,
    ModelInfo,
    RankedLogprob,
    RollingRequest,
    Usage,
    WindowLogprobs,
)


@dataclass(eq=False)
class RollingInFlight:
    """A request for the log-probabilities of a window's tokens."""

    request: RollingRequest
    info: ModelInfo
    traits: ServerTraits
    tokenizer: EchoTokenizer
    begun: bool = False

    def __post_init__(self) -> None:
        self._logprobs: Logprobs = ()

    async def send(self, ask: PostStream) -> None:
        """See `InFlight`. Raises BadInput where the text of the window has other tokens."""
        ids, first = self.request.window.ids, self.request.window.first
        found = self.tokenizer.logprobs(ids)
        if found is None:
            text = self.tokenizer.decode(ids)
            [piece] = await echoed(ask, self.info.name, [text], self.traits)
            if self.tokenizer.read(text, piece) != ids:
                why = "the server joins tokens where the context or the window ends"
                raise BadInput("text", why, "Begin it with a space, or run the model here")
            found = self.tokenizer.logprobs(ids) or ()
        if any(math.isnan(value) for value in found[first:]):
            raise ValueError("a log-probability that is no number")
        self._logprobs = found

    def finish(self, error: GptcliError | None = None, cancelled: bool = False) -> Iterator[Event]:
        """The WindowLogprobs."""
        window, whole = self.request.window, error is None and not cancelled
        pairs = list(zip(window.ids, self._logprobs, strict=False)) if whole else []
        yield WindowLogprobs(
            id=self.request.id,
            tokens=tuple(RankedLogprob(id, logprob) for id, logprob in pairs[window.first :]),
            usage=Usage(prompt_tokens=len(window.ids) if whole else 0, completion_tokens=0),
            model=self.info.name,
            revision=None,
            error=error,
            notices=("cancelled",) if cancelled else (),
        )
