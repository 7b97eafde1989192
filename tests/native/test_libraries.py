"""Which libraries are taken: those that fit this processor and these bindings, or none."""

from __future__ import annotations

import ctypes
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gptcli import native
from gptcli.native import structures

MORE = ("more", ctypes.c_int64)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`native.library` is looked for anew, in this test and in the next one."""
    native.library.cache_clear()
    yield
    monkeypatch.undo()
    native.library.cache_clear()


def with_structures(monkeypatch: pytest.MonkeyPatch, *found: type[ctypes.Structure]) -> None:
    monkeypatch.setattr(structures, "STRUCTURES", found)


@pytest.mark.skipif(
    sys.platform not in ("linux", "darwin") or not shutil.which("cc"),
    reason="they need Linux or macOS, and a compiler",
)
def test_they_are_there_where_they_can_be() -> None:
    library = native.library()
    assert library is not None
    assert library.kind == native.kinds()[-1]


@pytest.mark.parametrize(
    ("best", "found"),
    [
        ("baseline", ["baseline"]),
        ("dotprod", ["baseline", "dotprod"]),
        ("avx512", ["baseline", "avx2", "avx512"]),
        ("avx512vnni", ["baseline", "avx2", "avx512", "avx512vnni"]),
        ("another", []),
        ("", []),
    ],
)
def test_a_processor_runs_its_kind_and_those_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: str, found: list[str]
) -> None:
    for kind in {kind for family in native.FAMILIES for kind in family}:
        (tmp_path / f"network.{kind}.so").touch()
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    monkeypatch.setattr(native, "_kind", lambda: best)
    assert native.kinds() == found


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "spoil",
    [Path.unlink, lambda file: file.write_bytes(b"\x7fELF, and nothing more")],
    ids=["not compiled", "broken"],
)
def test_a_library_that_cannot_be_used_is_replaced_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object]
) -> None:
    kinds = native.kinds()
    if len(kinds) < 2:
        pytest.skip("this processor runs less than two kinds of kernels")
    folder = Path(shutil.copytree(native.FOLDER, tmp_path / "kernels"))
    spoil(folder / f"network.{kinds[-1]}.so")
    monkeypatch.setattr(native, "FOLDER", folder)
    library = native.library()
    assert library is not None
    assert library.kind == kinds[-2]


@pytest.mark.usefixtures("here")
def test_libraries_of_another_version_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "ABI", native.ABI + 1)
    assert all(native.opened(kind) is None for kind in native.kinds())
    assert native.library() is None


@pytest.mark.parametrize("structure", structures.STRUCTURES, ids=lambda item: item.__name__)
def test_libraries_that_lay_a_structure_out_otherwise_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, structure: type[ctypes.Structure]
) -> None:
    """As if someone had added a field to it in one of the two languages."""
    grown = type(structure.__name__, (ctypes.Structure,), {"_fields_": [*structure._fields_, MORE]})
    others = [item for item in structures.STRUCTURES if item is not structure]
    with_structures(monkeypatch, *others, grown)
    assert all(native.opened(kind) is None for kind in native.kinds())


@pytest.mark.parametrize(
    ("structure", "first", "second"),
    [
        (structures.MatrixStruct, "in_features", "out_features"),
        (structures.SegmentStruct, "start", "first"),
        (structures.CacheStruct, "keys", "values"),
        (structures.PackingStruct, "count", "in"),
    ],
)
def test_libraries_with_two_fields_exchanged_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, structure: type[ctypes.Structure], first: str, second: str
) -> None:
    other = {first: second, second: first}
    fields = [(other.get(name, name), kind) for name, kind in structure._fields_]
    swapped = type(structure.__name__, (ctypes.Structure,), {"_fields_": fields})
    assert ctypes.sizeof(swapped) == ctypes.sizeof(structure)
    others = [item for item in structures.STRUCTURES if item is not structure]
    with_structures(monkeypatch, *others, swapped)
    assert all(native.opened(kind) is None for kind in native.kinds())


@pytest.mark.usefixtures("here")
def test_a_structure_that_one_side_does_not_know_is_enough_to_take_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_structures(monkeypatch, *structures.STRUCTURES[1:])
    assert native.library() is None


def test_libraries_that_are_not_there_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    assert native.kinds() == []
    assert native.opened("avx2") is None


@pytest.mark.parametrize("name", ["ABI", "BLOCK", "KEYS", "GROUP"])
def test_both_languages_have_the_same_constants(name: str) -> None:
    text = "".join(file.read_text() for file in sorted(native.FOLDER.glob("*.h")))
    values = re.findall(rf"^#define {name} (\d+)", text, re.MULTILINE)
    assert values == [str(getattr(structures, name))]
