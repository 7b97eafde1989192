"""The Hugging Face cache as folders: where it is, and which models have one.

Found without huggingface_hub, whose import takes longer than all of this: its constants are read
from the same variables in the same order, and a test holds the two equal. Not here: the files
in a model's folder are read by `gptcli.checkpoints.resolve` and `gptcli.models`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MODELS = "models--"  # what the name of a model's folder begins with


def cache_folder() -> Path:
    """Where the cache is (HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME); it need not exist."""
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:  # what a download in this process would use
        return Path(constants.HF_HUB_CACHE)
    default = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))  # noqa: PTH111
    home = _expanded(os.environ.get("HF_HOME", os.path.join(default, "huggingface")))  # noqa: PTH118
    hub = os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))  # noqa: PTH118
    return Path(_expanded(os.environ.get("HF_HUB_CACHE", hub)))


def storage(repo_id: str) -> Path:
    """The folder of a model, whether it is there or not."""
    return cache_folder() / f"{MODELS}{repo_id.replace('/', '--')}"


def model_ids() -> Iterator[str]:
    """The ids of all models that have a folder, complete or not; of any shape, as found."""
    with suppress(OSError), os.scandir(cache_folder()) as entries:
        for entry in entries:
            if entry.name.startswith(MODELS):
                yield entry.name.removeprefix(MODELS).replace("--", "/")


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111


def is_cached(path: Path) -> bool:
    """Whether a path leads into the cache, which holds what was downloaded and nothing else."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(cache_folder()))
