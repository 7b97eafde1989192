"""Bundles of TensorFlow that are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from support import tf_bundles
from support.tf_bundles import Array, Stored, gpt2, write

Change = Callable[[list[Stored]], list[Stored]]


def at(name: str, **values: Any) -> Change:
    """Change one line of the index."""
    return lambda stored: [
        replace(line, **values) if line.name == name else line for line in stored
    ]


def without(name: str) -> Change:
    return lambda stored: [line for line in stored if line.name != name]


def twice(stored: list[Stored]) -> list[Stored]:
    return [*stored, stored[0]]


def overlapping(stored: list[Stored]) -> list[Stored]:
    return [replace(line, offset=0) for line in stored]


def sliced(**values: Any) -> dict[str, Any]:
    """A bundle whose embedding is in two slices, of which something is wrong."""
    tensors = gpt2()
    cut = tf_bundles.partition(tensors, "model/wte", [3])

    def change(stored: list[Stored]) -> list[Stored]:
        lines = [
            replace(line, **values.get("part", {})) if line.name == "model/wte/part_1" else line
            for line in cut(stored)
        ]
        lines = [line for line in lines if line.name not in values.get("drop", ())]
        last = replace(lines[-1], **values.get("whole", {}))
        return [*lines[:-1], last]

    return {"tensors": tensors, "change": change}


def other(**tensors: Array) -> dict[str, Any]:
    return {"tensors": gpt2() | {name.replace("__", "/"): v for name, v in tensors.items()}}


WTE, FAR = "model/wte", tf_bundles.varint(2**60)


FULL = (None, None)


HOSTILE: dict[str, dict[str, Any]] = {
    "a missing tensor": {"change": without("model/h1/mlp/c_fc/b")},
    "no embedding": {"change": without(WTE)},
    "a tensor twice": {"change": twice},
    "a tensor of another shape": {"change": at("model/wpe", shape=(8, 12))},
    "a huge dimension": {"change": at(WTE, shape=(2**62, 8))},
    "a negative dimension": {"change": at(WTE, shape=(-1, 8))},
    "dimensions that overflow": {"change": at(WTE, shape=(2**33, 2**33))},
    "large dimensions and size": {"change": at(WTE, shape=(2**39, 2**39), size=2**80)},
    "many dimensions": {"change": at(WTE, shape=(1,) * 9)},
    "a dimension of nothing": {"change": at(WTE, shape=(0, 8), size=0)},
    "no dimensions": {"change": at(WTE, shape=(), size=4)},
    "a size that is not the shape's": {"change": at(WTE, size=4)},
    "a huge offset": {"change": at(WTE, offset=2**62)},
    "a negative offset": {"change": at(WTE, offset=-8)},
    "an offset near the end": {"change": at(WTE, offset=6000)},
    "a missing data file": {"change": at(WTE, shard=1)},
    "a negative data file": {"change": at(WTE, shard=-1)},
    "overlapping tensors": {"change": overlapping},
    "a wrong checksum": {"change": at(WTE, crc=1)},
    "texts for numbers": {"change": at(WTE, type=7)},
    "an unknown type": {"change": at(WTE, type=99)},
    "a reference to a type": {"change": at(WTE, type=101)},
    "whole numbers": {"change": at(WTE, type=3)},
    "a name that is no text": {"change": at(WTE, key=b"model/\xff\xfe")},
    "a name with a line": {"change": at(WTE, key=b"model/wte\n")},
    "a very long name": {"change": at(WTE, key=b"m" * 3000)},
    "a name that escapes": {"change": at(WTE, key=b"../../wte")},
    "an unknown variable": other(model__h0__attn__lora=np.zeros(8, "<f4")),
    "a layer twice": other(model__h00__ln_1__g=np.zeros(8, "<f4")),
    "a layer too many": other(model__h2__ln_1__g=np.zeros(8, "<f4")),
    "a gap in the layers": other(model__h9999__ln_1__g=np.zeros(8, "<f4")),
    "two models": {"tensors": {**gpt2(scope="a/"), **gpt2(scope="b/")}},
    "a slice that is missing": sliced(drop=["model/wte/part_1"]),
    "a slice of another shape": sliced(part={"shape": (29, 4)}),
    "a slice of another type": sliced(part={"type": 3}),
    "a slice in slices": sliced(part={"slices": (FULL,)}),
    "slices that leave a gap": sliced(whole={"slices": ((None, (0, 3)),)}),
    "a slice twice": sliced(whole={"slices": ((None, (0, 3)), (None, (0, 3)))}),
    "a slice outside": sliced(whole={"shape": (29, 7)}),
    "a slice with too many dimensions": sliced(whole={"slices": ((None, None, (0, 3)),)}),
    "a slice that begins nowhere": sliced(whole={"slices": ((None, (2**62, 3)),)}),
    "a negative slice": sliced(whole={"slices": ((None, (0, -3)),)}),
    "many slices": sliced(whole={"slices": ((None, (0, 3)),) * 2000}),
    "no data files": {"header": b"\x08\x00"},
    "a billion data files": {"header": b"\x08" + tf_bundles.varint(10**9)},
    "an unknown order of bytes": {"header": b"\x08\x01\x10\x07"},
    "a newer format": {"header": b"\x08\x01\x1a\x02\x10\x09"},
    "a header cut short": {"header": b"\x1a\xff\x01"},
    "a header that is no message": {"header": b"\x0f\x0f"},
    "a number without an end": {"header": b"\x08" + b"\xff" * 12},
    "another magic": {"magic": b"\0" * 8},
    "an unknown packing": {"kind": 9},
    "no packed data": {"kind": 1},
    "a packed bomb": {"pack": lambda _: tf_bundles.varint(2**31) + b"\0a" * 9},
    "a packed copy of nothing": {"pack": lambda _: b"\x09\x05\xff\xff"},
    "a packed block cut short": {"pack": lambda _: b"\x09\xf0"},
    "a block outside the file": {"handles": lambda h: [FAR + h[0][-2:]] * len(h)},
    "a block many times": {"handles": lambda h: [h[0]] * len(h)},
    "blocks backwards": {"handles": lambda h: h[::-1]},
    "a handle of nothing": {"handles": lambda h: [b""] * len(h)},
    "an endless block": {"handles": lambda h: [b"\x00" + tf_bundles.varint(2**63)] * len(h)},
}


def hostile(folder: Path, options: dict[str, Any]) -> tuple[Path, ...]:
    options = {"tensors": gpt2(), **options}
    return write(folder, options.pop("tensors"), **options)
