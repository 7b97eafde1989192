"""GPT-2 in a shell, and in Python: `from gptcli import load`.

Importing this package imports nothing else; the public names arrive when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptcli.api import Model, load
    from gptcli.batch.api import run_batch
    from gptcli.batch.options import Batch
    from gptcli.batch.run.tally import BatchResult
    from gptcli.errors import GptcliError
    from gptcli.options import Load, Sampling
    from gptcli.protocol import (
        ChoiceLogprobs,
        Chunk,
        Completion,
        Event,
        GenerateRequest,
        LoglikelihoodRequest,
        Request,
        RollingRequest,
        Window,
        WindowLogprobs,
    )
    from gptcli.protocol import ChoiceLogprobs as Score
    from gptcli.scoring.options import Scoring
    from gptcli.scoring.scores import TextScore
    from gptcli.tasks.answers import Answer

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Batch",
    "BatchResult",
    "ChoiceLogprobs",
    "Chunk",
    "Completion",
    "Event",
    "GenerateRequest",
    "GptcliError",
    "Load",
    "LoglikelihoodRequest",
    "Model",
    "Request",
    "RollingRequest",
    "Sampling",
    "Score",
    "Scoring",
    "TextScore",
    "Window",
    "WindowLogprobs",
    "load",
    "run_batch",
]

_HOMES = {
    "Answer": "gptcli.tasks.answers",
    "Batch": "gptcli.batch.options",
    "BatchResult": "gptcli.batch.run.tally",
    "ChoiceLogprobs": "gptcli.protocol",
    "Chunk": "gptcli.protocol",
    "Completion": "gptcli.protocol",
    "Event": "gptcli.protocol",
    "GenerateRequest": "gptcli.protocol",
    "GptcliError": "gptcli.errors",
    "Load": "gptcli.options",
    "LoglikelihoodRequest": "gptcli.protocol",
    "Model": "gptcli.api",
    "Request": "gptcli.protocol",
    "RollingRequest": "gptcli.protocol",
    "Sampling": "gptcli.options",
    "Scoring": "gptcli.scoring.options",
    "TextScore": "gptcli.scoring.scores",
    "Window": "gptcli.protocol",
    "WindowLogprobs": "gptcli.protocol",
    "load": "gptcli.api",
    "run_batch": "gptcli.batch.api",
}
_FORMER = {"Score": "ChoiceLogprobs"}  # names that scripts may still have


def __getattr__(name: str) -> Any:
    name = _FORMER.get(name, name)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
