"""The process without rights that reads another program's files: started, and its answer taken.

It is told the paths of the files, and has nothing else: no standard input, no variable of the
environment but those that Python and the libraries need. What it answers is as little trusted as
the files: who asks checks it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypedDict, cast

from gptcli.checkpoints.config_json import OTHER_MODEL
from gptcli.checkpoints.sources import ModelSource
from gptcli.errors import BadModel, Unavailable, WriteFailed

PROGRAM = Path(__file__).parent / "locked" / "program.py"
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


class ToldProof(TypedDict):
    """`gptcli.checkpoints.formats.locked.source.Proof`, as the process answers it."""

    ids: list[list[int]]
    logprobs: list[list[float]]


class ToldSource(TypedDict):
    """What the process answers, see `gptcli.checkpoints.formats.locked.program`."""

    format: str
    tensors: dict[str, dict[str, object]]
    left_out: dict[str, str]
    config: dict[str, object] | None
    texts: dict[str, str]
    notices: list[str]
    proof: ToldProof | None


def run(
    output: Path, source: ModelSource, options: Mapping[str, object], *, look: bool = False
) -> ToldSource:
    """What the process answers; it writes the tensors to `output`, with `look` none of them.

    Raises BadModel, Unavailable (a library is not installed), WriteFailed.
    """
    request = {
        "reader": source.reader,
        "folder": str(source.folder.absolute()),
        "files": [str(file.absolute()) for file in source.files],
        "output": str(output.resolve()),
        "options": options,
        "look": look,
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
    return cast("ToldSource", answer)


def _refused(why: str) -> BadModel:
    return BadModel("unsafe model file", why, OTHER_MODEL)


def _ended(code: int) -> str:
    if code == -signal.SIGXCPU:
        return "took too long"
    return f"died of signal {-code}" if code < 0 else f"ended with {code}"
