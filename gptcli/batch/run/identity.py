"""Which model a batch runs on, and how many sequences fit the memory; torch is not loaded.

A model is known by the content of its files, see `gptcli.checkpoints.integrity.content`, and beside
it by a revision: the Hub's commit, or of a folder a hash of its configuration and of samples of its
weights. Former versions of gptcli noted the revision alone.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from gptcli.checkpoints.adapters.opened import inspect_adapted
from gptcli.checkpoints.adapters.reference import Adapter
from gptcli.checkpoints.resolve import Progress, resolve
from gptcli.options import Load
from gptcli.system.memory import available
from gptcli.system.strict_json import open_model_file

SAMPLES, SAMPLE = 64, 4096  # blocks of a weights file that are hashed, and their bytes
MAX_SEQUENCES = 64  # sequences computed at a time: beyond it a CPU gains nothing
SEQUENCES_OF_OTHERS = 8  # for models whose memory is not known here
REQUESTS_OF_SERVERS = 32  # at the same time: enough for a server to fill its own batch
MEMORY_SHARE = 0.5  # of the free memory, that the KV cache may take
MAX_NUMBER_BYTES = 4  # bytes of a number in it, at most


@dataclass(frozen=True)
class Identity:
    """A model's name and revision, and how many sequences of it may be computed at a time.

    `folder`: where its files are; None with a server.
    """

    name: str
    revision: str | None
    most: int
    folder: Path | None = None
    adapters: tuple[Adapter, ...] = ()


def identify(load: Load, progress: Progress = None) -> Identity:
    """Find the model and check it; `progress` is for a download, see
    `gptcli.checkpoints.hub.download`.

    Raises as `gptcli.engines.open_engine`, but for the device.
    """
    if load.server is not None:
        return Identity(
            f"{load.model or ''}@{load.server}", None, load.concurrency or REQUESTS_OF_SERVERS
        )
    checkpoint = resolve(load, progress)
    manifest, _ = inspect_adapted(*checkpoint.parts)
    revision = checkpoint.revision or sampled(checkpoint.folder)
    if manifest.gpt2 is None:
        return Identity(
            checkpoint.title, revision, SEQUENCES_OF_OTHERS, checkpoint.folder, checkpoint.adapters
        )
    config = manifest.gpt2
    slot = config.n_layer * config.n_positions * 2 * config.n_embd * MAX_NUMBER_BYTES
    return Identity(
        checkpoint.title,
        revision,
        max(1, min(MAX_SEQUENCES, int(available() * MEMORY_SHARE) // slot)),
        checkpoint.folder,
        checkpoint.adapters,
    )


def sampled(folder: Path) -> str:
    """A name for the model in a folder, as former versions of gptcli noted it.

    It is of samples: other bytes may change unnoticed. It compares a model with what they noted.

    Raises BadModel and MissingInput for a file that is no regular one, or cannot be read.
    """
    hashed = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        with open_model_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            hashed.update(f"{path.name}\0{size}\0".encode())
            if path.suffix == ".json":
                hashed.update(file.read())
            for number in range(SAMPLES if path.suffix != ".json" else 0):
                file.seek(size * number // SAMPLES)
                hashed.update(file.read(SAMPLE))
    return f"folder-{hashed.hexdigest()[:40]}"
