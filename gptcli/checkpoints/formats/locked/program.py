"""The program that reads other programs' files: run once, in a process of its own, locked in.

`gptcli.checkpoints.formats.conversion` starts it by its path. Its argument is one JSON object: the
reader's name, the files, the output and options. Only the output is written: the tensors, as
safetensors. Everything else, such as a configuration or the files of a tokenizer, goes into the
answer, one JSON object on standard output.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[4]))  # the package that started this

from gptcli.checkpoints.config_json import CONFIG, gpt2_config
from gptcli.checkpoints.formats.locked import confinement, landlock, writing
from gptcli.checkpoints.formats.locked.source import Job, Refused, Source, check_complete
from gptcli.errors import GptcliError

READERS = {
    "flax_msgpack": 2,
    "gguf_file": 32,
    "keras_hub": 4,
    "llmc": 1,
    "mlx": 18,
    "nanogpt": 1,
    "pickles": 2,
    "tf_bundle": 1,
    "tf_h5": 4,
}
"""Each reader's module in `readers`, and how many times larger the result may be than the files;
quantized and compressed numbers grow."""
MARGIN_BYTES = 2**26  # that the result, and the answer, may have beyond


def main(request: dict[str, Any]) -> dict[str, object]:
    """Convert, or with `look` only look; returns what is to be answered.

    Raises Refused, GptcliError, OSError, ModuleNotFoundError, and whatever a reader's library does.
    """
    name = request["reader"]
    job = Job(
        folder=Path(request["folder"]),
        files=tuple(map(Path, request["files"])),
        options=request["options"],
    )
    output = Path(request["output"])
    most = READERS[name] * job.size + MARGIN_BYTES
    confinement.leave_the_network()
    with output.open("xb") as file:
        landlock.restrict(job.files, output)
        reader = import_module(f"gptcli.checkpoints.formats.locked.readers.{name}")
        # While they may still be loaded.
        for library in ("numpy", *getattr(reader, "LIBRARIES", ())):
            import_module(library)
        confinement.limit(job.size, most)
        # In the cache files are links.
        confinement.watch([job.folder.resolve(), *(file.resolve().parent for file in job.files)])
        source = reader.read(job)
        check(source)
        total = sum(tensor.nbytes for tensor in source.tensors)
        if total > most - MARGIN_BYTES // 2:
            raise Refused(f"its tensors would take {total} bytes, of a file of {job.size}")
        if request.get("look"):
            return _answer(source, {})
        _check_room(file.fileno(), total)
        digests = writing.write(file, source.tensors)
        file.flush()
        os.fsync(file.fileno())
    return _answer(source, digests)


def check(source: Source) -> None:
    """Compare a GPT-2's tensors with its configuration. Raises Refused and BadModel."""
    if not source.tensors:
        raise Refused("there are no tensors")
    if source.config is not None:
        config, _ = gpt2_config(source.config, {}, Path(CONFIG))
        check_complete(config, source.tensors)


def _check_room(descriptor: int, size: int) -> None:
    disk = os.fstatvfs(descriptor)
    if disk.f_bavail * disk.f_frsize < size + MARGIN_BYTES:
        import errno

        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _answer(source: Source, digests: dict[str, str]) -> dict[str, object]:
    tensors = {
        tensor.name: {
            "from": tensor.origin,
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "sha256": digests.get(tensor.name),
        }
        for tensor in source.tensors
    }
    return {
        "format": source.format,
        "tensors": tensors,
        "left_out": dict(source.left_out),
        "config": None if source.config is None else dict(source.config),
        "texts": dict(source.texts),
        "notices": list(source.notices),
        "proof": None if source.proof is None else asdict(source.proof),
    }


def said(error: BaseException) -> str:
    """What went wrong, as a part of a sentence."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, GptcliError):
        return f"{error.what}: {error.why}" if error.why else error.what
    if isinstance(error, MemoryError):
        return "it takes more memory than its size allows"
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    return f"it cannot be read ({type(error).__name__}: {lines[0][:200]})"


if __name__ == "__main__":
    answer: dict[str, object]
    try:
        answer = main(json.loads(sys.argv[1]))
    except ModuleNotFoundError as error:
        answer = {"missing": error.name}
    except Exception as error:
        answer = {"error": said(error), "errno": getattr(error, "errno", None)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)  # what was read must not run while Python ends, either
