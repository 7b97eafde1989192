"""Hostile files of every format through the real command: refused, and nothing is written.

`GPTCLI_HOSTILE=all` runs all of them, which takes some minutes; without it a few of each reader's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hostile_files.every import HOSTILE

Cli = Callable[..., tuple[int, str, str]]
FEW = (
    "GGUF: a text of 2**62 bytes",
    "TensorFlow 1: a packed bomb",
    "HDF5: an external link in place of a matrix",
    "bytes of HDF5: trees in themselves",
    "Flax: maps 100 000 deep",
    "MLX: a bomb that is an array",
    "Keras' archive: Lambda",
    "llm.c: a huge vocabulary",
)
ALL = os.environ.get("GPTCLI_HOSTILE") == "all"


def test_there_are_many_of_every_kind() -> None:
    kinds = [name.partition(":")[0] for name in HOSTILE]
    assert all(kinds.count(kind) >= 15 for kind in kinds)
    assert {name.partition(":")[0] for name in FEW} <= set(kinds)


@pytest.mark.parametrize("name", HOSTILE if ALL else FEW)
def test_hostile_files_end_in_65_and_leave_nothing(name: str, tmp_path: Path, main_in: Cli) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    path = HOSTILE[name](folder)
    before = sorted(file.name for file in folder.rglob("*"))
    code, out, err = main_in("models", "convert", str(path), "-o", str(tmp_path / "new"), "--json")
    assert (code, out) == (65, "")
    line, told = err.splitlines()
    assert line.startswith("gptcli: error: ")
    assert json.loads(told)["error"]["exit"] == 65
    assert "Error(" not in err
    assert sorted(file.name for file in folder.rglob("*")) == before
    assert [file.name for file in tmp_path.iterdir()] == ["source"]
