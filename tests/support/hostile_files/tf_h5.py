"""HDF5 files that hold more than arrays, or are spoilt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

PREFIX = "transformer/tfgpt2lm_head_model/transformer/"


QUERY = PREFIX + "h_._0/attn/c_attn/weight:0"


Change = Callable[[h5py.File], object]


def _low(file: h5py.File, name: str, plan: Any, kind: Any = None, shape: Any = (8, 24)) -> None:
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(file.id, name.encode(), kind or h5py.h5t.IEEE_F32LE, space, plan)


def _plan() -> Any:
    return h5py.h5p.create(h5py.h5p.DATASET_CREATE)


def _external_storage(file: h5py.File) -> None:
    plan = _plan()
    plan.set_external(b"/etc/passwd", 0, 768)
    _low(file, "a", plan)


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((8, 24), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (8, 24))
    file.create_virtual_dataset("a", layout)


def _unlimited_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((8, 24), "f4", (None, 24))
    source = h5py.VirtualSource("/etc/passwd", "a", (8, 24), maxshape=(None, 24))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("a", layout)


def _filter(number: int) -> Change:
    def change(file: h5py.File) -> None:
        plan = _plan()
        plan.set_chunk((8, 24))
        plan.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3, 4))
        _low(file, "a", plan)

    return change


def _twice(file: h5py.File) -> None:
    plan = _plan()
    plan.set_chunk((8, 24))
    plan.set_deflate(1)
    plan.set_deflate(1)
    _low(file, "a", plan)


def _no_values(chunked: bool) -> Change:
    def change(file: h5py.File) -> None:
        plan = _plan()
        if chunked:
            plan.set_chunk((4, 4))
        _low(file, "a", plan)

    return change


def _null(file: h5py.File) -> None:
    file["a"] = h5py.Empty("f4")


def _huge(shape: tuple[int, ...], chunks: tuple[int, ...] | None = None) -> Change:
    def change(file: h5py.File) -> None:
        file.create_dataset("a", shape, "f4", chunks=chunks)

    return change


def _deep(file: h5py.File) -> None:
    file["/".join("abcdefgh" * 5)] = np.zeros(1, "f4")


def _cycle(file: h5py.File) -> None:
    file["a/b"] = file["transformer"]


def _loop(file: h5py.File) -> None:
    file["transformer/a"] = file["/"]


def _same(file: h5py.File) -> None:
    file["b"] = file[QUERY]


def _put(name: str, values: Any, **plan: Any) -> Change:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file.create_dataset(name, data=values, **plan)

    return change


def _remove(name: str) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


ZEROS = np.zeros((8, 24), "f4")


HOSTILE: dict[str, tuple[Change, str]] = {
    "an external link": (
        lambda file: file.__setitem__("a", h5py.ExternalLink("/etc/passwd", "/")),
        "link to another place",
    ),
    "an external link in place of a matrix": (
        lambda file: (
            file.__delitem__(QUERY),
            file.__setitem__(QUERY, h5py.ExternalLink("other.h5", "/a")),
        ),
        "link to another place",
    ),
    "a soft link": (lambda file: file.__setitem__("a", h5py.SoftLink("/b")), "link to another"),
    "a soft link to itself": (lambda file: file.__setitem__("a", h5py.SoftLink("/a")), "link to"),
    "a group in itself": (_loop, "stands elsewhere"),
    "a group in two places": (_cycle, "stands elsewhere"),
    "an array in two places": (_same, "stands elsewhere"),
    "values in another file": (_external_storage, "values in another file"),
    "a virtual array": (_virtual, "virtual"),
    "a virtual array without limit": (_unlimited_virtual, "virtual"),
    "an unknown filter": (_filter(32015), "packed in a way"),
    "LZF": (_put("a", ZEROS, compression="lzf"), "packed in a way"),
    "scale-offset": (_put("a", ZEROS, scaleoffset=2), "packed in a way"),
    "n-bit": (_filter(5), "packed in a way"),
    "gzip of gzip": (_twice, "packed in a way"),
    "an array never written": (_no_values(False), "has no values"),
    "an array never written, in pieces": (_no_values(True), "has 0 of its"),
    "an array of nothing": (_null, "has no shape"),
    "a huge array": (_huge((2**40, 2**20)), "larger than what the file can hold"),
    "a huge array in huge pieces": (_huge((2**32, 8), (2**29, 1)), "larger than what the file"),
    "a huge piece": (
        lambda file: file.create_dataset("a", (8,), "f4", chunks=(2**28,), maxshape=(None,)),
        "pieces larger than itself",
    ),
    "nine dimensions": (_put("a", np.zeros((1,) * 9, "f4")), "9 dimensions"),
    "strings": (_put("a", np.array([b"abc"])), "no plain numbers"),
    "strings of any length": (_put("a", ["abc", "d"]), "no plain numbers"),
    "records": (_put("a", np.zeros(3, [("a", "f4"), ("b", "i4")])), "no plain numbers"),
    "references": (
        lambda file: file.create_dataset("a", (2,), dtype=h5py.ref_dtype),
        "no plain numbers",
    ),
    "an enumeration": (_put("a", np.array([True, False])), "no plain numbers"),
    "complex numbers": (_put("a", np.zeros(3, "c8")), "no plain numbers"),
    "arrays in an array": (
        lambda file: file.create_dataset("a", (2,), np.dtype(("f4", (3,)))),
        "no plain numbers",
    ),
    "numbers of strange bits": (_put("a", np.zeros(3, np.longdouble)), "no plain numbers"),
    "opaque bytes": (_put("a", np.zeros(3, "V2")), "no plain numbers"),
    "a named type": (lambda file: file.__setitem__("a", np.dtype("f4")), "neither a group nor"),
    "groups 40 deep": (_deep, "groups deep"),
    "a long name": (_put("a" * 300, np.zeros(1, "f4")), "a name of 300"),
    "long paths": (_put("/".join(["a" * 60] * 5), np.zeros(1, "f4")), "a name of"),
    "another array": (_put("a", ZEROS), "lacks: a"),
    "cross-attention": (
        _put(PREFIX + "h_._0/crossattention/c_attn/weight:0", ZEROS),
        "lacks: transformer/",
    ),
    "whole numbers": (_put(QUERY, ZEROS.astype("i4")), "not the numbers of a model"),
    "a vector for a matrix": (_put(QUERY, np.zeros(24, "f4")), "the shape [24]"),
    "a number for a vector": (
        _put(PREFIX + "ln_f/gamma:0", np.float32(1)),
        "the shape []",
    ),
    "a matrix of another shape": (_put(QUERY, np.zeros((8, 23), "f4")), "wrong shape"),
    "one layer twice": (_put(PREFIX + "h_._00/ln_1/beta:0", np.zeros(8, "f4")), "are both"),
    "two embeddings": (_put(PREFIX + "wte/weight:0", np.zeros((12, 8), "f4")), "are both"),
    "a missing matrix": (_remove(QUERY), "missing tensors: h.0.attn.c_attn.weight"),
    "a missing layer": (_remove(PREFIX + "h_._1"), "missing tensors: h.1"),
    "no model": (_remove("transformer"), "no tensors of a GPT-2"),
}


Spoil = Callable[[bytearray], object]


def _set(at: int, data: bytes) -> Spoil:
    return lambda found: found.__setitem__(slice(at, at + len(data)), data)


def _everywhere(mark: bytes, after: int, new: bytes) -> Spoil:
    """Put other bytes behind each mark."""

    def change(data: bytearray) -> None:
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            data[at + after : at + after + len(new)] = new

    return change


def _own_trees(data: bytearray) -> None:
    """The first child of each tree of groups is the tree itself."""
    at = -1
    while (at := data.find(b"TREE", at + 1)) >= 0:
        data[at + 5] = 1  # a level above another tree
        data[at + 32 : at + 40] = at.to_bytes(8, "little")


def _one_child(data: bytearray) -> None:
    """All children of each tree of groups are the first one."""
    at = -1
    while (at := data.find(b"TREE", at + 1)) >= 0:
        data[at + 6] = 3
        for place in (48, 64):
            data[at + place : at + place + 8] = data[at + 32 : at + 40]


def _free_places(data: bytearray) -> None:
    """The first free place of each group's names says that it is the next, too."""
    at = -1
    while (at := data.find(b"HEAP", at + 1)) >= 0:
        begin = int.from_bytes(data[at + 24 : at + 32], "little")
        data[at + 16 : at + 24] = (8).to_bytes(8, "little")
        data[begin + 8 : begin + 24] = (8).to_bytes(8, "little") + (16).to_bytes(8, "little")


SPOILT: dict[str, tuple[Spoil, str]] = {
    "nothing": (lambda data: data.clear(), "no HDF5"),
    "the signature alone": (lambda data: data.__delitem__(slice(8, None)), "no HDF5"),
    "another signature": (_set(0, b"PK"), "no HDF5"),
    "bytes before it": (lambda data: data.__setitem__(slice(0, 0), bytes(512)), "no HDF5"),
    "half of it": (lambda data: data.__delitem__(slice(len(data) // 2, None)), "cut short"),
    "one byte less": (lambda data: data.pop(), "cut short"),
    "a version of the future": (_set(8, b"\x09"), "of another kind than Keras writes"),
    "addresses of 4 bytes": (_set(13, b"\x04"), "of another kind than Keras writes"),
    "addresses of 255 bytes": (_set(13, b"\xff"), "of another kind than Keras writes"),
    "lengths of 0 bytes": (_set(14, b"\x00"), "of another kind than Keras writes"),
    "another beginning": (_set(24, b"\x08"), "of another kind than Keras writes"),
    "a driver": (_set(48, bytes(8)), "one of several parts"),
    "an end beyond the end": (_set(40, b"\xff" * 7), "cut short"),
    "a root beyond the end": (_set(64, b"\xff\xff\xff\x7f"), "HDF5 cannot read it"),
    "a root in the first bytes": (_set(64, bytes(8)), "HDF5 cannot read it"),
    "names of no length": (_everywhere(b"HEAP", 8, bytes(8)), "free places goes round"),
    "names of any length": (_everywhere(b"HEAP", 8, b"\xff" * 8), "bytes of names"),
    "free places beyond the end": (_everywhere(b"HEAP", 16, b"\xff" * 8), "free places"),
    "trees without an end": (_everywhere(b"TREE", 6, b"\xff\xff"), "stands in two places"),
    "trees in themselves": (_own_trees, "a tree of its names goes round"),
    "trees with one child": (_one_child, "stands in two places"),
    "free places that go round": (_free_places, "a list of free places goes round"),
    "lists without an end": (_everywhere(b"SNOD", 6, b"\xff\xff"), "HDF5 cannot read it"),
}
