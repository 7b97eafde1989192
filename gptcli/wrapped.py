"""An engine around another one: what both a recorder and a filter pass on unchanged."""

from __future__ import annotations

from collections.abc import Callable

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.protocol import Engine, ModelInfo


class WrappedEngine:
    """Passes on everything but `run`; see `gptcli.protocol.Engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def info(self) -> ModelInfo:
        """The wrapped engine's."""
        return self._engine.info

    @property
    def tokenizer(self) -> Tokenizer:
        """The wrapped engine's."""
        return self._engine.tokenizer

    def count(self, text: str) -> int:
        """As the wrapped engine does."""
        return self._engine.count(text)

    def say_waits(self, say: Callable[[str], object]) -> None:
        """As the wrapped engine does, if it waits for a server."""
        if hasattr(self._engine, "say_waits"):
            self._engine.say_waits(say)

    def cancel(self, id: str) -> None:
        """As the wrapped engine does."""
        self._engine.cancel(id)
