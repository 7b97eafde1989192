"""What a measure was made from, so that the same numbers can be had again: the model's files, the
sets and lists by their digests, the seed, the versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gptcli.audit.statistics import RESAMPLES
from gptcli.checkpoints.adapters.opened import content_of
from gptcli.checkpoints.integrity.content import digest_of
from gptcli.protocol import ModelInfo
from gptcli.system.versions import versions

FORMAT = 1
_LIBRARIES = ("numpy", "torch", "transformers", "tokenizers")


def record_of(
    command: str, models: Mapping[str, ModelInfo], seed: int, **more: object
) -> dict[str, object]:
    """The record of a measure; `models` by what they are called in it.

    Raises BadModel and MissingInput for the models' files.
    """
    return {
        "gptcli_audit": FORMAT,
        "command": command,
        **{name: model_of(info) for name, info in models.items()},
        **more,
        "seed": seed,
        "resamples": RESAMPLES,
        "versions": versions(_LIBRARIES),
    }


def model_of(info: ModelInfo) -> dict[str, object]:
    """A model, with the SHA-256 of each file of its own and of its adapters.

    `sha256` is one for all of them: that of their list, as sha256sum writes it.
    """
    files = {}
    if info.folder is not None:
        files = content_of(info.folder, info.adapted.adapters, info.name)
    return {
        "name": info.name,
        "revision": info.revision,
        "parameters": info.parameters,
        "dtype": info.dtype,
        "device": info.device,
        "sha256": digest_of(files) if files else None,
        "files": files,
    }


def same_files(record: Mapping[str, Any]) -> bool:
    """Whether the two models of a record have the same files."""
    first, second = (record[name]["sha256"] for name in ("model_a", "model_b"))
    return bool(first == second and first)
