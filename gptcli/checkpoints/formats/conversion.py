"""Pickled weights (pytorch_model.bin) converted to safetensors, in a process without rights.

Never done by itself: only `gptcli models convert` starts it. The pickle is read by
`gptcli.checkpoints.formats.unpickling` in a process of its own, which is told two paths and has
nothing else: no standard input, no variable of the environment but those that Python and torch
need. What comes out is checked as any checkpoint is, before it is moved to its place in one step.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gptcli.checkpoints.config_json import CONFIG, OTHER_MODEL
from gptcli.checkpoints.file_kinds import refuse_placeholder
from gptcli.checkpoints.hf_cache import cache_folder
from gptcli.checkpoints.hub.offer import SMALL_FILES
from gptcli.checkpoints.integrity.noted import write_note
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.safetensors_headers import INDEX, MAX_INDEX_BYTES, NOTE, PICKLED, SINGLE
from gptcli.errors import BadModel, CannotCreate, GptcliError, UsageError, WriteFailed
from gptcli.system import durable
from gptcli.system.os_errors import reason
from gptcli.system.strict_json import corrupt, open_model_file, read_object, unsafe

PROGRAM = Path(__file__).with_name("unpickling.py")
SHARD = re.compile(r"[A-Za-z0-9._-]+\.bin")
NEEDED = (  # by Python and by torch
    *("PATH", "HOME", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR"),
)
SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
}
COMPANION_FILES = SMALL_FILES | {"README.md", "LICENSE"}  # what goes along into another folder
MARGIN_BYTES = 2**26  # bytes that must stay free


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Weights in safetensors; `dropped` are tied heads, which are not written once more."""

    folder: Path
    tensors: int
    size: int
    dropped: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "path": str(self.folder),
            "file": SINGLE,
            "tensors": self.tensors,
            "bytes": self.size,
            "left_out": list(self.dropped),
        }


def pickles(folder: Path) -> list[Path]:
    """The files that hold a model's pickled weights; nothing of them is read.

    Raises BadModel where there are none, or an index names what is no such file beside it.
    """
    single, index = (folder / name for name in PICKLED)
    if single.exists():
        found = [single]
    elif index.exists():
        places = read_object(index, MAX_INDEX_BYTES).get("weight_map")
        listed = list(places.values()) if isinstance(places, dict) else []
        for name in listed:
            if not isinstance(name, str) or not SHARD.fullmatch(name):
                raise unsafe(index, f"shard {name!r:.80} is not a .bin beside it", OTHER_MODEL)
        if not listed:
            raise corrupt(index, "weight_map is not an object that names shards")
        found = [folder / name for name in sorted({str(name) for name in listed})]
    else:
        why = f"{folder} holds neither {PICKLED[0]} nor {PICKLED[1]}"
        raise BadModel("nothing to convert", why, "Name a folder with pickled weights.")
    for file in found:
        open_model_file(file).close()
        refuse_placeholder(file)
    return found


def check_target(folder: Path, output: str | None, force: bool) -> Path:
    """The folder that the result goes to. Raises UsageError, CannotCreate."""
    if output is None:
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


def convert(folder: Path, staging: Path) -> Converted:
    """Make a model of `folder`'s pickled weights in the empty folder `staging`, and check it.

    Raises BadModel (the pickle asks for anything but tensors, or what comes out is no model),
    MissingInput, WriteFailed.
    """
    files = pickles(folder)
    tied = read_object(folder / CONFIG).get("tie_word_embeddings") is not False
    size = sum(file.stat().st_size for file in files)
    if shutil.disk_usage(staging).free < size + MARGIN_BYTES:
        raise WriteFailed(str(staging.parent), "no space left on device", "Make room.")
    answer = _run(staging / SINGLE, tied, files)
    try:
        for name in COMPANION_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, staging / name)
                durable.flush_file(staging / name)
        write_note(staging)
        durable.sync_folder(staging / SINGLE)
    except OSError as error:
        raise failed(Path(error.filename2 or error.filename or staging), error) from None
    inspect(staging)
    dropped = answer.get("dropped")
    return Converted(
        folder=staging,
        tensors=int(str(answer["tensors"])),
        size=(staging / SINGLE).stat().st_size,
        dropped=tuple(map(str, dropped)) if isinstance(dropped, list) else (),
    )


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
        names = sorted(os.listdir(staging)) if whole else [SINGLE, NOTE]  # noqa: PTH208
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


def _run(output: Path, tied: bool, files: list[Path]) -> dict[str, object]:
    """What the process answers. Raises BadModel, WriteFailed."""
    # -P: no module of ours may stand in for one of Python's.
    command = [sys.executable, "-P", str(PROGRAM), str(output.resolve())]
    command += ["tied" if tied else "untied", *(str(file.absolute()) for file in files)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in NEEDED if name in os.environ} | SETTINGS,
        cwd=output.parent,
        close_fds=True,
        check=False,
    )
    answer: object = None
    with suppress(ValueError):
        answer = json.loads(done.stdout.decode("utf-8", "replace") or "null")
    if not isinstance(answer, dict):
        raise _refused(files, f"the process that read it {_ended(done.returncode)}")
    if "error" in answer:
        number = answer.get("errno")
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise WriteFailed(str(output.parent.parent), os.strerror(number).lower(), "Make room.")
        raise _refused(files, str(answer["error"]))
    return answer


def _refused(files: list[Path], why: str) -> BadModel:
    name = files[0].name if len(files) == 1 else "pytorch_model.bin"
    return BadModel("unsafe model file", f"{name}: {why}", OTHER_MODEL)


def _ended(code: int) -> str:
    if code == -signal.SIGXCPU:
        return "took too long"
    return f"died of signal {-code}" if code < 0 else f"ended with {code}"
