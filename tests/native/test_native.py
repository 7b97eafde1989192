"""The libraries in C: found where they fit, left alone where they do not."""

from __future__ import annotations

import ctypes
import platform
import shutil
import sys
from pathlib import Path

import pytest

from gptcli import native
from gptcli.checkpoints.preflight import inspect
from gptcli.engines import open_engine, placement
from gptcli.engines.gpt2.on_torch.network import TorchNetwork
from gptcli.options import Load
from gptcli.protocol import Completion, GenerateRequest

MORE = ("more", ctypes.c_int64)
HERE = sys.platform == "linux" and platform.machine() == "x86_64"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.skipif(
    not HERE or not shutil.which("cc"), reason="they need x86-64 Linux and a compiler"
)
def test_they_are_there_where_they_can_be() -> None:
    assert native.library() is not None or not native.kinds()
    assert (Path(native.__file__).parent / "processor.so").exists()


def test_without_them_a_text_is_written_all_the_same(
    tales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(model=str(tales), dtype="float16")
    request = GenerateRequest(id="a", prompt="Once upon a time")
    texts = []
    for library in (native.library(), None):
        monkeypatch.setattr(native, "library", lambda library=library: library)
        done = [e for e in open_engine(load).run([request]) if isinstance(e, Completion)]
        texts.append(done[0].usage.completion_tokens)
    assert texts[0] == texts[1] > 0


def test_libraries_of_another_version_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "ABI", native.ABI + 1)
    assert all(native.opened(kind) is None for kind in native.kinds())


@pytest.mark.parametrize("structure", native.STRUCTURES, ids=lambda item: item.__name__)
def test_libraries_that_lay_a_structure_out_otherwise_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, structure: type[ctypes.Structure]
) -> None:
    """As if someone had added a field to it in one of the two languages."""
    grown = type(structure.__name__, (ctypes.Structure,), {"_fields_": [*structure._fields_, MORE]})
    others = [item for item in native.STRUCTURES if item is not structure]
    monkeypatch.setattr(native, "STRUCTURES", (*others, grown))
    assert all(native.opened(kind) is None for kind in native.kinds())


def test_libraries_with_two_fields_exchanged_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ins, outs = ("in_features", ctypes.c_int64), ("out_features", ctypes.c_int64)
    fields = [{ins: outs, outs: ins}.get(field, field) for field in native.MatrixStruct._fields_]
    swapped = type("Matrix", (ctypes.Structure,), {"_fields_": fields})
    assert ctypes.sizeof(swapped) == ctypes.sizeof(native.MatrixStruct)
    others = [item for item in native.STRUCTURES if item is not native.MatrixStruct]
    monkeypatch.setattr(native, "STRUCTURES", (*others, swapped))
    assert all(native.opened(kind) is None for kind in native.kinds())


def test_without_libraries_that_fit_torch_does_the_work(
    tales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "STRUCTURES", native.STRUCTURES[1:])
    native.library.cache_clear()
    try:
        network = placement.open_network(Load(), "x", inspect(tales), "cpu")[0]
        assert isinstance(network, TorchNetwork)
    finally:
        monkeypatch.undo()
        native.library.cache_clear()


def test_libraries_that_are_not_there_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_folder", lambda: tmp_path)
    assert native.kinds() == []
    assert native.opened("avx2") is None
