"""The end of a run: the model of the best checkpoint, or of the last, becomes that of the folder.

Each file appears at once and whole, the weights last; done again, it does no harm.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gptcli.checkpoints.hub.offer import small_files
from gptcli.checkpoints.safetensors_headers import INDEX, SINGLE
from gptcli.checkpoints.tokenization.files import names_in
from gptcli.system import durable
from gptcli.training.durability.checkpoints import STATE
from gptcli.training.durability.folder import RUN

OPTIMIZER = "optimizer.safetensors"
ADAPTER = "adapter_model.safetensors"
_WEIGHTS = (SINGLE, ADAPTER)
_OF_A_RUN = (STATE, OPTIMIZER)
_OF_MODELS = (
    *("config.json", "generation_config.json", "adapter_config.json", "README.md", "loss.svg"),
    *("loss.png", "memorisation.json", *_WEIGHTS, INDEX),
)


def put_model(checkpoint: Path, folder: Path) -> None:
    """Give a folder the model of a checkpoint. Raises OSError."""
    names = [name for name in sorted(os.listdir(checkpoint)) if name not in _OF_A_RUN]  # noqa: PTH208
    for name in sorted(names, key=_WEIGHTS.__contains__):
        part = durable.part_of(folder / name)
        durable.remove(part)
        try:  # the same bytes under two names take no room, and no time
            os.link(checkpoint / name, part)
        except OSError:  # a file system without hard links
            shutil.copyfile(checkpoint / name, part)
            durable.flush_file(part)
        os.replace(part, folder / name)  # noqa: PTH105 - every call that changes a disk is one of os
    durable.sync_folder(folder / SINGLE)


def remove_model(folder: Path) -> None:
    """Take away the model that an earlier run left in its folder. Raises OSError."""
    names = {*_OF_MODELS} | small_files(names_in(folder))
    for name in sorted(names - {RUN}):
        durable.remove(folder / name)
    durable.sync_folder(folder / SINGLE)
