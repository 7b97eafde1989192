"""The folder of a run: what lies in it, who may write to it, and whether it is one.

run.json                what the run is made from, and how far it is
log.jsonl               its events
data/                   token ids of the data
tokenizer/              of a new model
checkpoints/            one folder each
config.json, ...        the model, at the end
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gptcli.errors import CannotCreate, UsageError, WriteFailed
from gptcli.system import durable
from gptcli.system.file_lock import FileLock
from gptcli.system.os_errors import reason
from gptcli.training.durability.run_file import RunFile, read_run, write_run

RUN, LOG, LOCK = "run.json", "log.jsonl", ".lock"
DATA, TOKENIZER, CHECKPOINTS = "data", "tokenizer", "checkpoints"
OTHER_FOLDER = "Choose another folder with -o."
AGAIN = "Make room, then run the same command again: it goes on from there."
_FAILING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_BEFORE_RUN = {DATA, TOKENIZER, LOCK}  # what a run that was killed early leaves


class RunFolder:
    """A folder that this process alone writes to, until `close`."""

    def __init__(self, path: Path, name: str, lock: FileLock | None, run: RunFile | None) -> None:
        self.path, self.name, self._lock, self.run = path, name, lock, run

    @property
    def data(self) -> Path:
        """Token ids of the data."""
        return self.path / DATA

    @property
    def tokenizer(self) -> Path:
        """The tokenizer of a new model."""
        return self.path / TOKENIZER

    @property
    def checkpoints(self) -> Path:
        """The checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def log(self) -> Path:
        """The events."""
        return self.path / LOG

    def sweep(self) -> None:
        """Remove what killed runs left half made. Raises WriteFailed, CannotCreate."""
        with writing(self.path):
            for name in os.listdir(self.path):  # noqa: PTH208
                if _is_part(name) and (self.path / name).is_dir():
                    shutil.rmtree(self.path / name)

    def note(self, run: RunFile) -> None:
        """Replace run.json. Raises WriteFailed, CannotCreate."""
        with writing(self.path):
            write_run(self.path / RUN, run)
        self.run = run

    def close(self) -> None:
        """Let others write; a folder in which nothing was made is removed."""
        if self._lock is not None:
            self._lock.release()
        with suppress(OSError):
            os.rmdir(self.path)  # noqa: PTH106 - every call that changes a disk is one of os


def open_folder(name: str | None, force: bool) -> RunFolder:
    """Open the folder of a run, or make it. `force`: the run that is there is begun anew.

    Raises UsageError (no name), CannotCreate (it is something else, or cannot be made), Busy,
    BadInput (its run.json is damaged), WriteFailed. Nothing is changed then.
    """
    if not name:
        raise UsageError("--output", "it is missing", "Name the folder of the model: -o FOLDER.")
    if "\0" in name:
        raise UsageError("--output", "the name holds a NUL character", "Give another name.")
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - never raises
    with writing(path):
        if path.exists() and not path.is_dir():
            raise CannotCreate(name, "it is no folder", OTHER_FOLDER)
        _refuse_strange(path, name)
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / LOCK, name)
        try:
            _refuse_strange(path, name)  # nobody else writes now
            run = None if force else read_run(path / RUN)
        except BaseException:
            lock.release()
            raise
    return RunFolder(path, name, lock, run)


def _refuse_strange(path: Path, name: str) -> None:
    """Raise CannotCreate for a folder that holds what no run made; it is not written to at all."""
    if not path.is_dir() or (path / RUN).exists():
        return
    strange = sorted({*os.listdir(path)} - _BEFORE_RUN)  # noqa: PTH208
    strange = [entry for entry in strange if not _is_part(entry)]
    if strange:
        why = f"it holds {strange[0]:.60}, and is no folder of gptcli train"
        raise CannotCreate(name, why, OTHER_FOLDER)


def _is_part(name: str) -> bool:
    return name == durable.part_of(Path(RUN)).name or (
        name.startswith((f".{DATA}", f".{TOKENIZER}")) and name.endswith(".part")
    )


@contextmanager
def writing(path: Path, hint: str = AGAIN) -> Iterator[None]:
    """Turn what the system refuses into CannotCreate, a failing disk into WriteFailed."""
    try:
        yield
    except OSError as error:
        place = str(error.filename2 or error.filename or path)
        if error.errno in _FAILING:
            raise WriteFailed(place, reason(error), hint) from None
        raise CannotCreate(place, reason(error), OTHER_FOLDER) from None
