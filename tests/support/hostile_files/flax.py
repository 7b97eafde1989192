"""MessagePack that holds no GPT-2 of Flax."""

from __future__ import annotations

from typing import Any

import numpy as np

from gptcli.checkpoints.formats.locked.readers.containers import msgpack
from support.foreign_files import (
    array,
    extension,
    flax_tree,
    packed,
    random_tensors,
)

TENSORS = random_tensors()


def _in_place_of_ln_f(data: Any) -> bytes:
    """A file whose ln_f/scale is other bytes."""
    tree = flax_tree(TENSORS)
    mark = np.frombuffer(b"here it goes....", "f4")
    tree["transformer"]["ln_f"]["scale"] = mark
    old = packed(mark)
    found = packed(tree)
    assert found.count(old) == 1
    return found.replace(old, data)


GOOD = packed(flax_tree(TENSORS))


ONES = np.ones(8, "f4")


EIGHT = ONES.tobytes()


def _changed(**changes: Any) -> bytes:
    return packed(flax_tree(TENSORS) | changes)


def _chunked(**changes: Any) -> bytes:
    good = {msgpack.CHUNKED: True, "shape": {"0": 8}, "chunks": {"0": ONES}}
    return _in_place_of_ln_f(packed(good | changes))


def _nested(depth: int) -> bytes:
    return b"\x81\xa1a" * depth + packed(ONES)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "cut short"),
    "a number": (b"\x07", "no map of arrays"),
    "a text": (packed("abc"), "no map of arrays"),
    "an array": (packed(ONES), "no map of arrays"),
    "an empty map": (packed({}), "no tensors of a GPT-2"),
    "half of it": (GOOD[: len(GOOD) // 2], "beyond its end"),
    "a byte less": (GOOD[:-1], "beyond its end"),
    "a byte more": (GOOD + b"\0", "1 bytes lie behind"),
    "two of them": (GOOD * 2, "lie behind its end"),
    "a map of 4 billion": (b"\xdf\xff\xff\xff\xff" + GOOD, "a map larger than itself"),
    "a map of 65535": (b"\xde\xff\xff" + GOOD, "larger than itself"),
    "a list": (b"\x9f" + GOOD, "begins no value"),
    "a list of 4 billion": (b"\xdd\xff\xff\xff\xff", "begins no value"),
    "bytes": (packed(b"abc"), "begins no value"),
    "a float": (b"\xcb" + bytes(8), "begins no value"),
    "a code that is none": (b"\xc1", "begins no value"),
    "maps 40 deep": (_nested(40), "deeper ones"),
    "maps 100 000 deep": (b"\x81\xa1a" * 100_000, "deeper ones"),
    "20 000 values": (
        b"\xdf"
        + (20_000).to_bytes(4, "big")
        + b"".join(b"\xa4" + number.to_bytes(4, "big") + b"\x01" for number in range(20_000)),
        "more values",
    ),
    "a key twice": (b"\x82" + 2 * (packed("a") + packed(ONES)), "a key twice"),
    "a number for a key": (b"\x81\x01" + packed(ONES), "no text"),
    "a key of 4 GiB": (b"\x81\xdb\xff\xff\xff\xff" + bytes(300), "a name of 4294967295"),
    "a long key": (b"\x81\xda\x01\x2c" + b"a" * 300 + packed(ONES), "a name of 300"),
    "long paths": (
        packed({"a" * 99: {"b" * 99: {"c" * 99: ONES}}}),
        "a name of",
    ),
    "a text for an array": (_in_place_of_ln_f(packed("abc")), "is no array"),
    "nothing for an array": (_in_place_of_ln_f(b"\xc0"), "is no array"),
    "a list for an array": (_in_place_of_ln_f(packed((1, 2))), "begins no value"),
    "another extension": (_in_place_of_ln_f(extension(bytes(16), 2)), "extension of type 2"),
    "pickled bytes": (_in_place_of_ln_f(extension(b"\x80\x04.", 99)), "extension of type 99"),
    "an extension of 4 GiB": (_in_place_of_ln_f(b"\xc9\xff\xff\xff\xff\x01"), "beyond its end"),
    "an extension of nothing": (_in_place_of_ln_f(extension(b"")), "no list of three"),
    "no list in an array": (_in_place_of_ln_f(extension(packed("abc"))), "no list of three"),
    "no shape": (_in_place_of_ln_f(extension(packed(("a", "float32", EIGHT)))), "without a shape"),
    "nine dimensions": (_in_place_of_ln_f(array((1,) * 8 + (8,), "float32", EIGHT)), "a shape"),
    "a negative size": (_in_place_of_ln_f(array((-8,), "float32", EIGHT)), "negative size"),
    "negative sizes": (_in_place_of_ln_f(array((-2, -4), "float32", EIGHT)), "negative size"),
    "a huge size": (_in_place_of_ln_f(array((2**40,), "float32", EIGHT)), "32 bytes instead of"),
    "huge sizes": (_in_place_of_ln_f(array((2**62,) * 8, "float32", EIGHT)), "instead of"),
    "a size too few": (_in_place_of_ln_f(array((7,), "float32", EIGHT)), "32 bytes instead of 28"),
    "objects": (_in_place_of_ln_f(array((4,), "object", EIGHT)), "no plain numbers"),
    "a type of Python": (_in_place_of_ln_f(array((8,), "O8,f4", EIGHT)), "no plain numbers"),
    "strings": (_in_place_of_ln_f(array((1,), "S32", EIGHT)), "no plain numbers"),
    "big-endian": (_in_place_of_ln_f(array((8,), ">f4", EIGHT)), "no plain numbers"),
    "complex numbers": (_in_place_of_ln_f(array((4,), "complex64", EIGHT)), "no plain numbers"),
    "no type": (_in_place_of_ln_f(extension(packed(((8,), 7, EIGHT)))), "no plain numbers"),
    "no bytes": (_in_place_of_ln_f(extension(packed(((8,), "float32", "abc")))), "no plain numb"),
    "more bytes than the array": (
        _in_place_of_ln_f(extension(packed(((8,), "float32", EIGHT)) + b"\0")),
        "32 bytes instead of 32",
    ),
    "whole numbers": (_in_place_of_ln_f(packed(ONES.astype("i4"))), "not the numbers of a model"),
    "a matrix for a vector": (_in_place_of_ln_f(packed(np.ones((2, 4), "f4"))), "the shape [2, 4]"),
    "a number for a vector": (_in_place_of_ln_f(array((), "float32", bytes(4), 3)), "the shape []"),
    "a vector of another length": (_in_place_of_ln_f(packed(np.ones(7, "f4"))), "a wrong shape"),
    "an empty vector": (_in_place_of_ln_f(packed(np.ones(0, "f4"))), "a wrong shape"),
    "pieces of nothing": (_chunked(chunks={}), "not its own"),
    "pieces that are none": (_chunked(chunks=7), "not its own"),
    "pieces in pieces": (_chunked(chunks={"0": {msgpack.CHUNKED: True}}), "not its own"),
    "too few pieces": (_chunked(shape={"0": 2**60}), "not its own"),
    "pieces with a gap": (_chunked(chunks={"0": ONES[:4], "2": ONES[4:]}), "not its own"),
    "a shape that is none": (_chunked(shape={"0": True}), "not its own"),
    "a negative shape": (_chunked(shape={"0": -8}), "not its own"),
    "more than pieces": (_chunked(more=ONES), "not its own"),
    "pieces of two types": (
        _chunked(chunks={"0": ONES[:4], "1": ONES[4:].astype("f8")}),
        "several kinds",
    ),
    "another array": (_changed(more=ONES), "lacks: more"),
    "cross-attention": (
        _changed(h={"0": {"crossattention": {"c_attn": {"bias": ONES}}}}),
        "lacks: h/0/crossattention",
    ),
    "one vector twice": (_changed(ln_f={"scale": ONES}), "are both ln_f.weight"),
    "a layer more": (_changed(h={"2": {"ln_1": {"scale": ONES}}}), "lacks: h/2/ln_1/scale"),
    "a layer less": (
        packed({"transformer": flax_tree(TENSORS)["transformer"] | {"h": {}}}),
        "missing tensors",
    ),
}
