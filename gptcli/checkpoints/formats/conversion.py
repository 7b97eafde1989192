"""Models of other programs converted to ours, in a process without rights.

Never done by itself: only `gptcli models convert` starts it. The files are read by
`gptcli.checkpoints.formats.locked.program` in a process of its own, which is told their paths and
has nothing else: no standard input, no variable of the environment but those that Python and the
libraries need. What comes out is checked as any checkpoint is, before it is moved to its place in
one step. A record says what was made of what: digests of the source's files and of every tensor.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypedDict, cast

from gptcli.checkpoints.config_json import CONFIG, OTHER_MODEL
from gptcli.checkpoints.hf_cache import cache_folder
from gptcli.checkpoints.hub.offer import small_files
from gptcli.checkpoints.integrity import digests
from gptcli.checkpoints.integrity.noted import write_note
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.safetensors_headers import INDEX, NOTE, SINGLE
from gptcli.checkpoints.sources import ModelSource
from gptcli.checkpoints.tokenization.files import names_in
from gptcli.errors import (
    BadModel,
    CannotCreate,
    GptcliError,
    Unavailable,
    UsageError,
    WriteFailed,
)
from gptcli.system import durable
from gptcli.system.os_errors import reason
from gptcli.system.strict_json import read_object

PROGRAM = Path(__file__).parent / "locked" / "program.py"
RECORD = "conversion.json"
MAX_ANSWER_BYTES = 2**28  # of the process: it can hold a tokenizer
NEEDED = (  # by Python and by torch
    *("PATH", "HOME", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR"),
)
SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "",
    "HDF5_PLUGIN_PRELOAD": "::",  # no filters of other libraries
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
}
COMPANION_FILES = {"README.md", "LICENSE"}  # what goes along into another folder, too
MARGIN_BYTES = 2**26  # bytes that must stay free


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A model in safetensors; `left_out` are the source's other tensors, each with its reason."""

    source: ModelSource
    folder: Path
    tensors: int
    size: int  # bytes of the weights
    left_out: Mapping[str, str]
    notices: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "path": str(self.folder),
            "file": SINGLE,
            "format": self.source.kind,
            "tensors": self.tensors,
            "bytes": self.size,
            "left_out": dict(self.left_out),
            "notices": list(self.notices),
        }


def check_target(source: ModelSource, output: str | None, force: bool) -> Path:
    """The folder that the result goes to. Raises UsageError, CannotCreate."""
    folder = source.folder
    if output is None:
        if not source.companions:
            why = f"{source.shown} is {source.kind}, which becomes a folder of its own"
            raise UsageError(str(folder), why, "Name the new folder with -o FOLDER.")
        if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(cache_folder())):
            why = "it is in the cache, which holds what was downloaded and nothing else"
            raise UsageError(str(folder), why, "Give another folder with -o FOLDER.")
        target, what = folder, [SINGLE, INDEX]
    else:
        if not output or "\0" in output:
            raise UsageError("--output", "it is no name of a folder", "Give another name.")
        target = Path(os.path.expanduser(output))  # noqa: PTH111 - never raises
        if os.path.lexists(target) and not target.is_dir():
            raise CannotCreate(output, "it is not a folder", "Give another name.")
        what = sorted(os.listdir(target)) if target.is_dir() else []  # noqa: PTH208
    there = [name for name in what if os.path.lexists(target / name)]
    if there and not force:
        raise CannotCreate(f"{target}", f"it holds {there[0]} already", "Overwrite with --force.")
    return target


def convert(source: ModelSource, staging: Path) -> Converted:
    """Make a model of another program's files in the empty folder `staging`, and check it.

    Raises BadModel (damaged or hostile files, or what comes out is no model), MissingInput,
    Unavailable (a reader's library is not installed), WriteFailed.
    """
    options = dict(source.options)
    if source.companions:
        config = read_object(source.folder / CONFIG)
        options["tied"] = config.get("tie_word_embeddings") is not False
    size = sum(file.stat().st_size for file in source.files)
    if shutil.disk_usage(staging).free < size + MARGIN_BYTES:
        raise WriteFailed(str(staging.parent), "no space left on device", "Make room.")
    answer = _run(staging / SINGLE, source, options)
    try:
        if source.companions:
            _copy_companions(source.folder, staging)
        for name, text in _texts(answer).items():
            durable.save(staging / name, text.encode())
        durable.save(staging / RECORD, _record(source, answer))
        write_note(staging)
        durable.sync_folder(staging / SINGLE)
    except OSError as error:
        raise failed(Path(error.filename2 or error.filename or staging), error) from None
    inspect(staging)
    return Converted(
        source=source,
        folder=staging,
        tensors=len(answer["tensors"]),
        size=(staging / SINGLE).stat().st_size,
        left_out=answer["left_out"],
        notices=tuple(answer["notices"]),
    )


def _copy_companions(folder: Path, staging: Path) -> None:
    names = set(names_in(folder))
    for name in sorted(small_files(names) | (COMPANION_FILES & names)):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, staging / name)
            durable.flush_file(staging / name)


def _texts(answer: _Answer) -> dict[str, str]:
    """The files that the process made beside the weights."""
    texts = dict(answer["texts"])
    if answer["config"] is not None:
        texts[CONFIG] = json.dumps(answer["config"], indent=2) + "\n"
    strange = sorted(texts.keys() - small_files(texts))
    if strange:
        raise BadModel("unsafe model file", f"it would make {strange[0]!r:.80}", OTHER_MODEL)
    return texts


def _record(source: ModelSource, answer: _Answer) -> bytes:
    """What was made of what, as JSON."""
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": digests.digest(file)}
        for file in source.files
    }
    record = {
        "format": answer["format"],
        "files": files,
        "tensors": answer["tensors"],
        "left_out": answer["left_out"],
        "notices": answer["notices"],
    }
    return (json.dumps(record, indent=2) + "\n").encode()


def place(staging: Path, target: Path, whole: bool) -> None:
    """Move the checked weights to their place; with `whole`, and the small files beside them.

    Each file appears at once and whole. Raises CannotCreate, WriteFailed.
    """
    try:
        if whole and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            durable.put(staging, target)
            return
        durable.remove(target / NOTE)  # of what was there
        names = sorted(os.listdir(staging)) if whole else [RECORD, SINGLE, NOTE]  # noqa: PTH208
        for name in sorted(names, key=(SINGLE, NOTE).__contains__):  # these come last
            durable.put(staging / name, target / name)
        if (target / INDEX).exists():  # of older shards, which the new file takes the place of
            durable.remove(target / INDEX)
            durable.sync_folder(target / INDEX)
    except OSError as error:
        raise failed(target, error) from None


def failed(path: Path, error: OSError) -> GptcliError:
    """The error for a folder that cannot be made or written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return WriteFailed(str(path), reason(error), "Make room, or give another folder with -o.")
    return CannotCreate(str(path), reason(error), "Give another folder with -o FOLDER.")


class _Answer(TypedDict):
    """What the process answers, see `gptcli.checkpoints.formats.locked.program`."""

    format: str
    tensors: dict[str, object]
    left_out: dict[str, str]
    config: dict[str, object] | None
    texts: dict[str, str]
    notices: list[str]


def _run(output: Path, source: ModelSource, options: Mapping[str, object]) -> _Answer:
    """What the process answers. Raises BadModel, Unavailable, WriteFailed."""
    request = {
        "reader": source.reader,
        "folder": str(source.folder.absolute()),
        "files": [str(file.absolute()) for file in source.files],
        "output": str(output.resolve()),
        "options": options,
    }
    with TemporaryFile(dir=output.parent) as said:  # a file, so that its size is limited too
        done = subprocess.run(
            # -P: no module of ours may stand in for one of Python's.
            [sys.executable, "-P", str(PROGRAM), json.dumps(request)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in NEEDED if name in os.environ} | SETTINGS,
            cwd=output.parent,
            close_fds=True,
            check=False,
        )
        said.seek(0)
        text = said.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
    answer: object = None
    with suppress(ValueError):
        answer = json.loads(text or "null")
    if not isinstance(answer, dict):
        raise _refused(f"{source.shown}: the process that read it {_ended(done.returncode)}")
    if "missing" in answer:
        why = f"{source.kind} needs the package {answer['missing']}, which is not installed"
        raise Unavailable(source.shown, why, "Run: pip install 'gptcli[formats]'")
    if "error" in answer:
        number = answer.get("errno")
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise WriteFailed(str(output.parent.parent), os.strerror(number).lower(), "Make room.")
        raise _refused(str(answer["error"]))
    return cast("_Answer", answer)


def _refused(why: str) -> BadModel:
    return BadModel("unsafe model file", why, OTHER_MODEL)


def _ended(code: int) -> str:
    if code == -signal.SIGXCPU:
        return "took too long"
    return f"died of signal {-code}" if code < 0 else f"ended with {code}"
