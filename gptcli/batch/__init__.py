"""Many prompts from files: read row by row, answered by one engine, written durably in order.

`run_batch` is the whole of it, `forecast_batch` says what that would take; both arrive when first
used, with what they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptcli.batch.api import Frame, forecast_batch, run_batch
    from gptcli.batch.input.inputs import Prompts
    from gptcli.batch.options import Batch, BatchInput
    from gptcli.batch.run.tally import BatchResult

__all__ = ["Batch", "BatchInput", "BatchResult", "Frame", "Prompts", "forecast_batch", "run_batch"]

_HOMES = {
    "Batch": "gptcli.batch.options",
    "BatchResult": "gptcli.batch.run.tally",
    "Frame": "gptcli.batch.api",
    "Prompts": "gptcli.batch.input.inputs",
    "BatchInput": "gptcli.batch.options",
    "forecast_batch": "gptcli.batch.api",
    "run_batch": "gptcli.batch.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
