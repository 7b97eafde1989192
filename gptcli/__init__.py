"""GPT-2 in a shell, and in Python: `from gptcli import load`.

Importing this package imports nothing else; the public names arrive when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptcli.api import Model, load
    from gptcli.batch.api import forecast_batch, run_batch
    from gptcli.batch.input.inputs import Prompts
    from gptcli.batch.options import Batch, BatchInput
    from gptcli.batch.run.tally import BatchResult
    from gptcli.errors import (
        BadConfig,
        BadInput,
        BadModel,
        BadTask,
        Busy,
        CannotCreate,
        GptcliError,
        MissingInput,
        TooManyFailures,
        Unavailable,
        UsageError,
        WriteFailed,
    )
    from gptcli.options import Load, Sampling
    from gptcli.protocol import (
        Alternative,
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
        TokenLogprob,
        Usage,
        Window,
        WindowLogprobs,
    )
    from gptcli.protocol import ChoiceLogprobs as Score
    from gptcli.scoring.options import Scoring
    from gptcli.scoring.scores import RegionScore, TextScore, TokenScore, WordScore
    from gptcli.tasks.answers import Answer, AnswerChunk

__version__ = "0.1.0"
__all__ = [
    "Alternative",
    "Answer",
    "AnswerChunk",
    "BadConfig",
    "BadInput",
    "BadModel",
    "BadTask",
    "Batch",
    "BatchInput",
    "BatchResult",
    "Busy",
    "CannotCreate",
    "ChoiceLogprobs",
    "Chunk",
    "Completion",
    "Event",
    "GenerateRequest",
    "GptcliError",
    "Likelihood",
    "Load",
    "LoglikelihoodRequest",
    "MissingInput",
    "Model",
    "ModelInfo",
    "Prompts",
    "RankedLogprob",
    "RegionScore",
    "Request",
    "RollingRequest",
    "Sampling",
    "Score",
    "Scoring",
    "TextScore",
    "TokenLogprob",
    "TokenScore",
    "TooManyFailures",
    "Unavailable",
    "Usage",
    "UsageError",
    "Window",
    "WindowLogprobs",
    "WordScore",
    "WriteFailed",
    "forecast_batch",
    "load",
    "run_batch",
]

_HOMES = {
    "Alternative": "gptcli.protocol",
    "Answer": "gptcli.tasks.answers",
    "AnswerChunk": "gptcli.tasks.answers",
    "BadConfig": "gptcli.errors",
    "BadInput": "gptcli.errors",
    "BadModel": "gptcli.errors",
    "BadTask": "gptcli.errors",
    "Batch": "gptcli.batch.options",
    "BatchInput": "gptcli.batch.options",
    "BatchResult": "gptcli.batch.run.tally",
    "Busy": "gptcli.errors",
    "CannotCreate": "gptcli.errors",
    "ChoiceLogprobs": "gptcli.protocol",
    "Chunk": "gptcli.protocol",
    "Completion": "gptcli.protocol",
    "Event": "gptcli.protocol",
    "GenerateRequest": "gptcli.protocol",
    "GptcliError": "gptcli.errors",
    "Likelihood": "gptcli.protocol",
    "Load": "gptcli.options",
    "LoglikelihoodRequest": "gptcli.protocol",
    "MissingInput": "gptcli.errors",
    "Model": "gptcli.api",
    "ModelInfo": "gptcli.protocol",
    "Prompts": "gptcli.batch.input.inputs",
    "RankedLogprob": "gptcli.protocol",
    "Request": "gptcli.protocol",
    "RegionScore": "gptcli.scoring.scores",
    "RollingRequest": "gptcli.protocol",
    "Sampling": "gptcli.options",
    "Scoring": "gptcli.scoring.options",
    "TextScore": "gptcli.scoring.scores",
    "TokenLogprob": "gptcli.protocol",
    "TokenScore": "gptcli.scoring.scores",
    "TooManyFailures": "gptcli.errors",
    "Unavailable": "gptcli.errors",
    "Usage": "gptcli.protocol",
    "UsageError": "gptcli.errors",
    "Window": "gptcli.protocol",
    "WindowLogprobs": "gptcli.protocol",
    "WordScore": "gptcli.scoring.scores",
    "WriteFailed": "gptcli.errors",
    "forecast_batch": "gptcli.batch.api",
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
