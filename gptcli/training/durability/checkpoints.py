"""Checkpoints of a run: whole or not at all, the newest that is sound is found, old ones removed.

Each is a folder `step-000123` that `-m` reads. It is written under a hidden name, every file and
the folder flushed, and renamed; it is removed under a hidden name, too. So whatever has a name is
whole, and hidden folders are rubbish. A bad disk can still damage one: state.json has a checksum of
itself and one of each other file.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from gptcli.checkpoints.integrity.sealed import StoredTensor
from gptcli.system import durable
from gptcli.system.checksums import file_digest
from gptcli.system.os_errors import reason
from gptcli.training.durability import tensor_file
from gptcli.training.durability.state import (
    MAX_STATE_BYTES,
    KeptState,
    TrainingState,
    decoded,
    encoded,
)

STATE = "state.json"
NAME = re.compile(r"step-(\d{6,12})")


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model: small ones by their bytes, tensors by file and name."""

    small: Mapping[str, bytes]
    tensors: Mapping[str, Mapping[str, StoredTensor]]


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint that is whole; `damaged` says what is wrong with newer ones."""

    path: Path
    state: TrainingState
    files: Mapping[str, str]
    damaged: tuple[str, ...]


class Checkpoints:
    """The checkpoints of one run in a folder of their own."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self._run = folder, run

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.folder / f"step-{step:06}"

    def steps(self) -> list[int]:
        """The steps that have one, sound or not, in order."""
        found = (NAME.fullmatch(name) for name in _listed(self.folder))
        return sorted(int(match[1]) for match in found if match)

    def save(self, state: TrainingState, files: ModelFiles) -> Path:
        """Write a checkpoint; it is durable when this returns. Raises OSError."""
        _make(self.folder)
        part = self.folder / f".step-{state.step:06}.part"
        _remove(part)
        os.mkdir(part)  # noqa: PTH102 - every call that changes a disk is one of os
        try:
            digests = {name: _write(part / name, data) for name, data in files.tensors.items()}
            digests |= {name: _write(part / name, data) for name, data in files.small.items()}
            kept = KeptState(run=self._run, state=state, files=digests)
            _write(part / STATE, encoded(kept))
            durable.sync_folder(part / STATE)
            place = self.path(state.step)
            self._discard(place)  # a damaged one
            durable.put(part, place)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)  # what is left of it takes room
            raise
        return place

    def newest(self) -> FoundCheckpoint | None:
        """The newest sound checkpoint of this run; None where the run has none.

        Raises ValueError where it has some and all are damaged; OSError.
        """
        damaged: list[str] = []
        for step in reversed(self.steps()):
            try:
                kept = self._checked(self.path(step))
            except ValueError as error:
                damaged.append(f"{self.path(step).name} ({error})")
                continue
            if kept.run == self._run:
                return FoundCheckpoint(self.path(step), kept.state, kept.files, tuple(damaged))
        if damaged:
            raise ValueError("; ".join(damaged))
        return None

    def is_sound(self, step: int) -> bool:
        """Whether the checkpoint of a step is as it was written, and of this run."""
        try:
            return self._checked(self.path(step)).run == self._run
        except ValueError:
            return False

    def keep(self, steps: Iterable[int]) -> None:
        """Remove all but the checkpoints of these steps, and what killed runs left. Raises OSError.

        It is called when what is to stay is durable.
        """
        wanted = {self.path(step).name for step in steps}
        for name in _listed(self.folder):
            if NAME.fullmatch(name) and name not in wanted:
                self._discard(self.folder / name)
            elif name.startswith(".step-"):
                _remove(self.folder / name)

    def _checked(self, path: Path) -> KeptState:
        """Raises ValueError, with what is wrong, for a checkpoint that is not as it was written."""
        try:
            data = durable.read_small(path / STATE, MAX_STATE_BYTES)
            if data is None:
                raise ValueError(f"{STATE} is missing")
            try:
                kept = decoded(data)
            except ValueError as error:
                raise ValueError(f"{STATE}: {error}") from None
            if kept.state.step != int(path.name.rpartition("-")[2]):
                raise ValueError(f"{STATE} is that of step {kept.state.step}")
            if kept.run == self._run:
                _check_files(path, kept.files)
        except OSError as error:
            raise ValueError(reason(error)) from None
        return kept

    def _discard(self, path: Path) -> None:
        """Remove a checkpoint: a kill in the middle leaves only what has a hidden name."""
        if not path.exists():
            return
        old = path.with_name(f".{path.name}.old")
        _remove(old)
        os.rename(path, old)  # noqa: PTH104 - as above
        _remove(old)


def _check_files(path: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        try:
            same = file_digest(path / name, "sha256")[0] == digest
        except FileNotFoundError:
            raise ValueError(f"{name} is missing") from None
        if not same:
            raise ValueError(f"{name} has other bytes than were written")


def _write(path: Path, data: bytes | Mapping[str, StoredTensor]) -> str:
    """Write a new file and flush it; gives its SHA-256."""
    with durable.making(path) as descriptor:
        if not isinstance(data, bytes):
            return tensor_file.write(descriptor, data)
        durable.write_all(descriptor, data)
    return sha256(data).hexdigest()


def _make(folder: Path) -> None:
    if not folder.is_dir():
        os.mkdir(folder)  # noqa: PTH102 - as above
        durable.sync_folder(folder)


def _remove(path: Path) -> None:
    """Remove a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        durable.remove(path)


def _listed(folder: Path) -> list[str]:
    """The names in a folder; none where it is not there."""
    return sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208
