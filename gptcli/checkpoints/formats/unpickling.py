"""Turn pickled weights into safetensors: a program of its own, run once and locked in.

A pickle is a program. torch's restricted reader (weights_only) runs none of it but what makes
tensors; should that ever fail, little is left to reach: no network where the system allows to leave
it, no other process, no file outside the model's folder to read and none but the output to write,
limits of memory, time and size, an environment without secrets (see
`gptcli.checkpoints.formats.conversion`, which starts this by its path). It imports nothing of
gptcli. Its arguments are the output, whether a tied head is left out, and the pickles; it answers
with one line of JSON.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

DTYPES = {
    "float64": "F64",
    "int64": "I64",
    "float32": "F32",
    "int32": "I32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
HEAD = re.compile(r"(.*\.)?(lm_head|embed_out|decoder)\.weight")
UNKNOWN = re.compile(r"GLOBAL ([\w.]+)|(?<![\w.])([\w.]+)`? (?:was|is) not an allowed")
# What a reader of tensors never does, as Python's audit hooks name it.
FORBIDDEN = re.compile(
    r"socket\.(?!gethostname).*|subprocess\..*|os\.(system|exec|fork|forkpty|spawn|posix_spawn|kill"
    r"|killpg|startfile|remove|rename|rmdir|mkdir|chmod|chown|link|symlink|truncate|putenv|setxattr"
    r"|removexattr|chflags|lockf|add_dll_directory)|shutil\..*|pty\..*|ctypes\..*|tempfile\..*"
    r"|pickle\..*|urllib\..*|http\..*|ftplib\..*|smtplib\..*|webbrowser\..*|sqlite3\..*|signal\..*"
)
MEGA = 2**20
SLACK_BYTES = 1024 * MEGA  # bytes of address space beyond what the weights take
PATIENCE, SPEED = 120, 5 * MEGA  # seconds of computing, and bytes a second beyond


class Refused(Exception):
    """The file holds what is no tensor, or asks for more than making tensors."""


def main(output: Path, tied: bool, pickles: Sequence[Path]) -> dict[str, object]:
    """Convert; returns what is to be answered. Raises Refused, OSError, and whatever torch does."""
    _leave_the_network()
    import torch

    torch.set_num_threads(1)
    size = sum(file.stat().st_size for file in pickles)
    with output.open("xb") as file:
        _limit(size)
        _watch([file.resolve().parent for file in pickles])  # in the cache they are links
        tensors = _loaded(pickles)
        dropped = _twins(tensors) if tied else []
        for name in dropped:
            del tensors[name]
        _write(file, tensors)
        file.flush()
        os.fsync(file.fileno())
    return {"tensors": len(tensors), "dropped": dropped}


def _leave_the_network() -> None:
    """On Linux: go into a network without any way out, where one may; end with the parent."""
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        new_net, new_user = 0x40000000, 0x10000000
        # Only root may do the first; who may not becomes nobody in a space of its own.
        if libc.unshare(new_net) != 0:
            libc.unshare(new_net | new_user)


def _limit(size: int) -> None:
    """Bound memory, time and the size of files, as far as this system can."""
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": PATIENCE + size // SPEED,
        "RLIMIT_FSIZE": 2 * size + 64 * MEGA,
    }
    with suppress(OSError, ValueError):  # what torch itself takes is known from /proc only
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        wanted["RLIMIT_AS"] = pages * resource.getpagesize() + 3 * size + SLACK_BYTES
    for name, value in wanted.items():
        with suppress(OSError, ValueError, AttributeError):
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (bound, bound))


def _watch(folders: Sequence[Path]) -> None:
    """Refuse, from here on, whatever a reader of tensors never does. It cannot be taken back."""
    own = (*folders, sys.prefix, sys.base_prefix, *filter(None, sys.path))
    roots = tuple(os.path.realpath(str(folder)) + os.sep for folder in own)

    def hook(event: str, args: Any) -> None:
        if event == "open":
            path, mode, flags = args
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) or any(
                c in (mode or "") for c in "wax+"
            )
            inside = isinstance(path, int) or os.path.realpath(os.fsdecode(path)).startswith(roots)
            if writes or not inside:
                raise PermissionError(1, "may not be opened while a pickle is read", str(path))
        elif FORBIDDEN.fullmatch(event):
            raise Refused(f"it tried {event}")

    sys.addaudithook(hook)


def _loaded(pickles: Sequence[Path]) -> dict[str, Any]:
    """All tensors of all files by name."""
    import torch

    tensors: dict[str, Any] = {}
    for path in pickles:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"  # the other formats cannot be mapped
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        if not isinstance(state, dict):
            raise Refused(f"{path.name} holds a {type(state).__name__}, not tensors by name")
        for name, tensor in state.items():
            _check(path.name, name, tensor)
            if name in tensors:
                raise Refused(f"tensor {name!r} stands in two files")
            tensors[name] = tensor
    if not tensors:
        raise Refused("there are no tensors")
    return tensors


def _check(file: str, name: object, tensor: Any) -> None:
    """Raises Refused for what safetensors cannot hold."""
    import torch

    if not isinstance(name, str) or not name or name == "__metadata__":
        raise Refused(f"{file}: {name!r:.80} is no name of a tensor")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise Refused(f"{file}: {name} is a {type(tensor).__name__}, not a tensor")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise Refused(f"{file}: {name} is a tensor of a kind that safetensors lacks ({dtype})")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise Refused(f"{file}: {name} is larger than what the file holds of it")


def _twins(tensors: Mapping[str, Any]) -> list[str]:
    """The heads that are an embedding once more, number for number in the same place."""
    places: dict[tuple[object, ...], list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            places.setdefault(place, []).append(name)
    heads = [name for name in tensors if HEAD.fullmatch(name)]
    shared = {name: names for names in places.values() for name in names}
    return [
        name for name in heads if any(not HEAD.fullmatch(other) for other in shared.get(name, ()))
    ]


def _write(file: Any, tensors: Mapping[str, Any]) -> None:
    """The safetensors format: length of the header, header, then the data, tensor by tensor."""
    import torch

    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers wants to know
    # Larger numbers first, so that all lie aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    data = json.dumps(header).encode("ascii")
    data += b" " * (-len(data) % 8)
    file.write(len(data).to_bytes(8, "little") + data)
    for name in names:
        if tensors[name].numel():
            flat = tensors[name].detach().contiguous().reshape(-1).view(torch.uint8)
            file.write(memoryview(flat.numpy()))


def _said(error: BaseException) -> str:
    """What went wrong, as a part of a sentence."""
    text = str(error)
    if found := UNKNOWN.search(text):
        return f"it asks for {found[1] or found[2]}, which makes no tensor"
    if isinstance(error, Refused):
        return text
    if isinstance(error, MemoryError):
        return "it takes more memory than its size allows"
    if type(error).__name__ == "UnpicklingError" or "weights_only" in text:
        # Its text says how to read it all the same.
        return "it is no pickle of tensors"
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    return f"torch cannot read it ({type(error).__name__}: {lines[0][:200]})"


if __name__ == "__main__":
    answer: dict[str, object]
    try:
        answer = main(Path(sys.argv[1]), sys.argv[2] == "tied", [Path(arg) for arg in sys.argv[3:]])
    except Exception as error:
        answer = {"error": _said(error), "errno": getattr(error, "errno", None)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)  # what was read must not run while Python ends, either
