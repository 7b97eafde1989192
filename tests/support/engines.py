"""The engines opened on a checkpoint, and what they complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptcli import native
from gptcli.engines import open_engine
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion, Engine, GenerateRequest, Request


def built_in(folder: Path, batch_size: int = 4) -> Engine:
    return open_engine(Load(model=str(folder)), batch_size)


def by_torch(folder: Path, batch_size: int = 4) -> Engine:
    """The built-in engine where there are no kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        return built_in(folder, batch_size)


def through_transformers(folder: Path, batch_size: int = 4) -> Engine:
    return open_engine(Load(model=str(folder)), batch_size, beams=True)


def requests(prompts: list[str], sampling: Sampling) -> list[Request]:
    return [GenerateRequest(id=str(n), prompt=p, sampling=sampling) for n, p in enumerate(prompts)]


def completions(engine: Engine, asked: list[Request]) -> list[Completion]:
    done = [event for event in engine.run(asked) if isinstance(event, Completion)]
    return sorted(done, key=lambda c: (int(c.id), c.index))
