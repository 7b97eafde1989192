"""GPT-2 in a shell, and in Python: `from gptcli import load`.

Importing this package imports nothing else; the public names arrive when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptcli.batch.api import run_batch
    from gptcli.batch.settings import Batch
    from gptcli.batch.tally import BatchResult
    from gptcli.errors import GptcliError
    from gptcli.model import Model, load
    from gptcli.options import Load, Sampling
    from gptcli.results import Chunk, Completion, Request, Score
    from gptcli.scoring.scores import TextScore
    from gptcli.scoring.settings import Scoring
    from gptcli.tasks.answers import Answer

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Batch",
    "BatchResult",
    "Chunk",
    "Completion",
    "GptcliError",
    "Load",
    "Model",
    "Request",
    "Sampling",
    "Score",
    "Scoring",
    "TextScore",
    "load",
    "run_batch",
]

_HOMES = {
    "Answer": "gptcli.tasks.answers",
    "Batch": "gptcli.batch.settings",
    "BatchResult": "gptcli.batch.tally",
    "Chunk": "gptcli.results",
    "Completion": "gptcli.results",
    "GptcliError": "gptcli.errors",
    "Load": "gptcli.options",
    "Model": "gptcli.model",
    "Request": "gptcli.results",
    "Sampling": "gptcli.options",
    "Score": "gptcli.results",
    "Scoring": "gptcli.scoring.settings",
    "TextScore": "gptcli.scoring.scores",
    "load": "gptcli.model",
    "run_batch": "gptcli.batch.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
