"""flax_model.msgpack: the same numbers come out, and no file does harm."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.foreign_files import (
    JSON,
    array,
    checked,
    extension,
    flax_tree,
    made_of,
    packed,
    random_tensors,
    write_flax,
)

from gptcli.checkpoints.formats.conversion import convert
from gptcli.checkpoints.formats.locked.readers import flax_msgpack
from gptcli.checkpoints.formats.locked.readers.containers import msgpack
from gptcli.checkpoints.formats.locked.source import Job, Refused, Source
from gptcli.checkpoints.sources import ModelSource

TENSORS = random_tensors()
UNTIED = JSON | {"tie_word_embeddings": False}
HEAD = np.arange(96, dtype="f4").reshape(12, 8)


def read(*files: Path, tied: bool = True) -> Source:
    return flax_msgpack.read(Job(folder=files[0].parent, files=files, options={"tied": tied}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flax_model.msgpack"


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_every_number_comes_out_under_its_name(dtype: str, path: Path) -> None:
    tensors = random_tensors(dtype=dtype)
    assert checked(read(write_flax(path, tensors)), tensors, JSON)


@pytest.mark.parametrize("wrap", [lambda tree: tree["transformer"], lambda tree: {"params": tree}])
def test_the_model_may_lie_in_another_one(wrap: Callable[[Any], Any], path: Path) -> None:
    path.write_bytes(packed(wrap(flax_tree(TENSORS))))
    assert checked(read(path), TENSORS, JSON)


@pytest.mark.parametrize("spelling", ["bfloat16", "V2"])
def test_bfloat16_keeps_its_bits(spelling: str, path: Path) -> None:
    words = {name: (values.view("<u4") >> 16).astype("<u2") for name, values in TENSORS.items()}

    def pack(value: Any) -> bytes:
        if isinstance(value, dict):
            items = b"".join(packed(key) + pack(item) for key, item in value.items())
            return bytes([0x80 + len(value)]) + items
        return array(value.shape, spelling, value.tobytes())

    path.write_bytes(pack(flax_tree(words)))
    source = read(path)
    assert {tensor.dtype for tensor in source.tensors} == {"BF16"}
    assert all(np.array_equal(tensor.read(), words[tensor.name]) for tensor in source.tensors)


def test_an_array_in_pieces_is_put_together(path: Path) -> None:
    tree = flax_tree(TENSORS)
    values = tree["transformer"]["wte"]["embedding"]
    pieces = np.split(values.reshape(-1), [7, 50])
    tree["transformer"]["wte"]["embedding"] = {
        msgpack.CHUNKED: True,
        "shape": {str(place): side for place, side in enumerate(values.shape)},
        "chunks": {str(place): piece for place, piece in enumerate(pieces)},
    }
    path.write_bytes(packed(tree))
    assert checked(read(path), TENSORS, JSON)


def test_shards_are_one_model(path: Path) -> None:
    names = list(TENSORS)
    files = [
        write_flax(path.with_name(f"flax_model-0000{part}-of-00002.msgpack"), some)
        for part, some in (
            (1, {name: TENSORS[name] for name in names[:15]}),
            (2, {name: TENSORS[name] for name in names[15:]}),
        )
    ]
    assert checked(read(*files), TENSORS, JSON)
    with pytest.raises(Refused, match="stands in"):
        read(*files, write_flax(path, TENSORS))


def test_a_head_counts_where_the_configuration_unties_it(path: Path) -> None:
    tensors = TENSORS | {"lm_head.weight": HEAD}
    write_flax(path, tensors)
    assert checked(read(path, tied=False), tensors, UNTIED)
    source = read(path)
    assert checked(source, TENSORS, JSON)
    assert source.left_out == {"lm_head/kernel": "config.json ties the head to the embedding"}
    with pytest.raises(Refused, match="missing tensors: lm_head"):
        checked(read(write_flax(path, TENSORS), tied=False), TENSORS, UNTIED)


def test_heads_of_other_tasks_are_left_out_by_name(path: Path) -> None:
    tree = flax_tree(TENSORS) | {"score": {"kernel": np.zeros((8, 2), "f4")}}
    path.write_bytes(packed(tree))
    source = read(path)
    assert checked(source, TENSORS, JSON)
    assert source.left_out == {"score/kernel": "the head of a classifier"}


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


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_plain_array_of_a_gpt2_is_refused(case: str, path: Path) -> None:
    data, told = HOSTILE[case]
    path.write_bytes(data)
    tracemalloc.start()
    begin = time.process_time()
    try:
        with pytest.raises(Refused) as refused:
            checked(read(path), TENSORS, JSON)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told in str(refused.value)
    assert len(str(refused.value)) < 2000
    assert peak < 2**25
    assert time.process_time() - begin < 5


def test_a_file_cut_anywhere_is_refused(path: Path) -> None:
    for size in range(0, len(GOOD), 97):
        path.write_bytes(GOOD[:size])
        with pytest.raises(Refused):
            read(path)


def test_a_file_that_is_cut_while_it_is_read_is_refused(path: Path) -> None:
    source = read(write_flax(path, TENSORS))
    path.write_bytes(GOOD[: len(GOOD) // 2])
    with pytest.raises(Refused, match="shorter meanwhile"):
        made_of(source)


def test_memory_is_one_array_at_a_time(path: Path) -> None:
    path.write_bytes(packed({str(n): np.full(2**20, n, "f4") for n in range(6)}))
    tracemalloc.start()
    try:
        for name, stored in msgpack.arrays(path).items():
            assert stored.read()[-1] == int(name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * 2**22


def test_the_reader_works_in_the_process_without_rights(path: Path, tmp_path: Path) -> None:
    write_flax(path, TENSORS)
    (tmp_path / "config.json").write_text(json.dumps(JSON))
    (tmp_path / "staging").mkdir()
    files = (path,)
    source = ModelSource(
        kind="x", reader="flax_msgpack", folder=tmp_path, files=files, companions=True
    )
    assert convert(source, tmp_path / "staging").tensors == len(TENSORS)
