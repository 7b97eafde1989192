"""A process that gave up its files cannot open them again, in C neither."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from gptcli.checkpoints.formats.locked import landlock

needs_landlock = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
PROGRAM = """
import json, os, sys
from pathlib import Path
from gptcli.checkpoints.formats.locked import landlock

model, output, canary, lock = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
found = {"restricted": lock == "yes" and landlock.restrict([model], output)}
import h5py, numpy

def tried(what):
    try:
        return str(what())
    except BaseException as error:
        return type(error).__name__

with h5py.File(model / "a.h5") as file:
    found["inside"] = tried(lambda: file["inside"][0])
    found["external link"] = tried(lambda: file["external"][0])
    found["external values"] = tried(lambda: file["storage"][0])
    found["virtual"] = tried(lambda: file["virtual"][0])
found["h5py"] = tried(lambda: h5py.File(canary)["a"][0])
found["python"] = tried(lambda: len(canary.read_bytes()) > 0)
found["list"] = tried(lambda: len(os.listdir(canary.parent)) > 0)
found["passwd"] = tried(lambda: len(Path("/etc/passwd").read_bytes()) > 0)
found["write"] = tried(lambda: (model / "a.h5").open("r+b").close())
found["make"] = tried(lambda: (model / "new").write_text(""))
found["output"] = tried(lambda: output.write_text("abc"))
found["program"] = tried(lambda: os.posix_spawn("/bin/true", ["true"], {}) > 0)
print(json.dumps(found))
"""


def tried(folder: Path, lock: bool) -> dict[str, object]:
    """What a process can do with and without the lock."""
    model, canary = folder / "model", folder / "canary.h5"
    model.mkdir()
    (folder / "output").touch()
    with h5py.File(canary, "w") as file:
        file["a"] = np.full(4, 7.0)
        offset = file["a"].id.get_offset()
    with h5py.File(model / "a.h5", "w") as file:
        file["inside"] = np.full(4, 1.0)
        file["external"] = h5py.ExternalLink(str(canary), "/a")
        file.create_dataset("storage", (4,), "f8", external=[(str(canary), offset, 32)])
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(canary), "a", (4,))
        file.create_virtual_dataset("virtual", layout, fillvalue=-1)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, model, folder / "output", canary, "yes" if lock else "no"],
        check=True,
        capture_output=True,
    )
    found: dict[str, object] = json.loads(ended.stdout)
    return found


@needs_landlock
def test_c_code_cannot_open_another_file(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "free").mkdir()
    locked, free = tried(tmp_path / "locked", True), tried(tmp_path / "free", False)
    assert free == {
        "restricted": False,
        "inside": "1.0",
        **dict.fromkeys(("external link", "external values", "virtual", "h5py"), "7.0"),
        **dict.fromkeys(("python", "list", "passwd", "program"), "True"),
        "write": "None",
        "make": "0",
        "output": "3",
    }
    assert locked == {
        "restricted": True,
        "inside": "1.0",
        "external link": "KeyError",
        "external values": "OSError",
        "virtual": "-1.0",  # HDF5 fills what it cannot open
        "output": "3",
        **dict.fromkeys(
            ("h5py", "python", "list", "passwd", "write", "make", "program"), "PermissionError"
        ),
    }


def test_a_kernel_without_landlock_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_call", lambda *_: -1)
    assert landlock.version() == 0
    assert not landlock.restrict([Path("/")], Path("/"))
