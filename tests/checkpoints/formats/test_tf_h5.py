"""tf_model.h5: the same numbers come out, and no file does harm."""

from __future__ import annotations

import json
import os
import subprocess
import time
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.foreign_files import (
    CONFIG,
    JSON,
    checked,
    made_of,
    random_tensors,
    scores,
    write_tf,
)

from gptcli.checkpoints.formats.conversion import convert
from gptcli.checkpoints.formats.locked.readers import flax_msgpack, tf_h5
from gptcli.checkpoints.formats.locked.readers.containers import hdf5
from gptcli.checkpoints.formats.locked.source import Job, Refused, Source
from gptcli.checkpoints.sources import ModelSource
from gptcli.errors import BadModel

REFEREE = Path(__file__).parents[2] / "support" / "transformers4_referee.py"
PYTHON = os.environ.get("TRANSFORMERS4_PYTHON")  # of a Python that CONTRIBUTING describes
TENSORS = random_tensors()
PREFIX = "transformer/tfgpt2lm_head_model/transformer/"
QUERY = PREFIX + "h_._0/attn/c_attn/weight:0"


def read(*files: Path, tied: bool = True) -> Source:
    return tf_h5.read(Job(folder=files[0].parent, files=files, options={"tied": tied}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tf_model.h5"


@pytest.mark.parametrize(
    "prefix",
    [
        PREFIX,
        "transformer/tfgpt2_model/transformer/",
        "transformer/tfgpt2lm_head_model_1/transformer/",
        "transformer/",
        "model_weights/transformer/a/b/",
    ],
)
def test_every_number_comes_out_under_its_name(prefix: str, path: Path) -> None:
    assert checked(read(write_tf(path, TENSORS, prefix)), TENSORS, JSON)


def test_layers_count_as_numbers(path: Path) -> None:  # their groups are in the order 0, 1, 10, 2
    tensors = random_tensors(replace(CONFIG, n_layer=11))
    assert checked(read(write_tf(path, tensors)), tensors, JSON | {"n_layer": 11})


@pytest.mark.parametrize("spelling", ["wte/weight:0", "shared/weight:0", "wte/embeddings:0"])
def test_the_embedding_has_several_names(spelling: str, path: Path) -> None:
    def rename(name: str) -> str:
        return spelling if name == "wte/embeddings:0" else name

    assert checked(read(write_tf(path, TENSORS, rename=rename)), TENSORS, JSON)


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
def test_numbers_of_any_size_and_order_are_read(dtype: str, path: Path) -> None:
    tensors = random_tensors(dtype=dtype)
    little = {name: values.astype(dtype.replace(">", "<")) for name, values in tensors.items()}
    assert checked(read(write_tf(path, tensors)), little, JSON)


PLANS: list[dict[str, Any]] = [
    {"chunks": True},
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"fletcher32": True},
    {"shuffle": True},
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: "+".join(plan))
def test_packed_arrays_are_read(plan: dict[str, Any], path: Path) -> None:
    assert checked(read(write_tf(path, TENSORS, **plan)), TENSORS, JSON)


@pytest.mark.parametrize("sides", [(1, 1), (3, 5), (7, 24), (8, 7)])
def test_pieces_of_any_shape_are_put_together(sides: tuple[int, int], path: Path) -> None:
    values = np.arange(7 * 24, dtype="f4").reshape(7, 24)
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=values, chunks=sides, compression="gzip", maxshape=(9, None))
    (found,) = hdf5.datasets(path)
    assert np.array_equal(found.read(), values)


def test_an_array_in_its_header_is_read(path: Path) -> None:
    values = np.arange(6, dtype="f4")
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(values.shape)
        made = h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F32LE, space, plan)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, values)
    (found,) = hdf5.datasets(path)
    assert np.array_equal(found.read(), values)


def test_heads_of_other_tasks_are_left_out_by_name(path: Path) -> None:
    write_tf(path, TENSORS)
    with h5py.File(path, "a") as file:
        file["score/model/score/kernel:0"] = np.zeros((8, 2), "f4")
        file["multiple_choice_head/model/multiple_choice_head/summary/bias:0"] = np.zeros(1, "f4")
        file["optimizer_weights/iteration:0"] = np.int64(3)
    source = read(path)
    assert checked(source, TENSORS, JSON)
    assert len(source.left_out) == 3
    assert source.left_out["score/model/score/kernel:0"] == "the head of a classifier"


def test_the_head_is_the_embedding_also_where_the_configuration_unties_it(path: Path) -> None:
    source = read(write_tf(path, TENSORS), tied=False)
    wanted = TENSORS | {"lm_head.weight": TENSORS["wte.weight"]}
    assert checked(source, wanted, JSON | {"tie_word_embeddings": False})
    assert "TensorFlow's GPT-2 has the embedding" in source.notices[0]


def test_a_head_of_its_own_counts_where_the_configuration_unties_it(path: Path) -> None:
    write_tf(path, TENSORS)
    head = np.arange(96, dtype="f4").reshape(8, 12)
    with h5py.File(path, "a") as file:
        file["lm_head/model/lm_head/kernel:0"] = head
    assert checked(
        read(path, tied=False),
        TENSORS | {"lm_head.weight": head.T},
        JSON | {"tie_word_embeddings": False},
    )
    assert list(read(path).left_out) == ["lm_head/model/lm_head/kernel:0"]


def test_shards_are_one_model(path: Path) -> None:
    names = list(TENSORS)
    files = [
        write_tf(path.with_name(f"tf_model-0000{part}-of-00002.h5"), {n: TENSORS[n] for n in some})
        for part, some in ((1, names[:15]), (2, names[15:]))
    ]
    assert checked(read(*files), TENSORS, JSON)


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


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_plain_array_of_a_gpt2_is_refused(case: str, path: Path) -> None:
    change, told = HOSTILE[case]
    write_tf(path, TENSORS)
    with h5py.File(path, "a") as file:
        change(file)
    _assert_refused(path, told)


def _assert_refused(path: Path, told: str) -> None:
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
    assert peak < 2**23
    assert time.process_time() - begin < 5


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


@pytest.mark.parametrize("libver", ["latest", ("v110", "v110")])
def test_later_kinds_of_hdf5_are_refused(libver: Any, path: Path) -> None:
    _assert_refused(write_tf(path, TENSORS, libver=libver), "of another kind than Keras writes")


def test_a_later_kind_of_group_is_refused(path: Path) -> None:
    write_tf(path, TENSORS)
    with h5py.File(path, "a") as file:
        made = file.create_group("a", track_order=True)
        for number in range(20):
            made.create_group(str(number))
    _assert_refused(path, "of another kind than Keras writes")


@pytest.mark.parametrize("case", SPOILT)
def test_spoilt_files_are_refused(case: str, path: Path) -> None:
    spoil, told = SPOILT[case]
    data = bytearray(write_tf(path, TENSORS).read_bytes())
    spoil(data)
    path.write_bytes(data)
    _assert_refused(path, told)


def test_arrays_that_share_bytes_are_refused(path: Path) -> None:
    write_tf(path, TENSORS)
    with h5py.File(path) as file:
        one, other = (
            file[f"{PREFIX}h_._{layer}/attn/c_attn/weight:0"].id.get_offset() for layer in (0, 1)
        )
    data = path.read_bytes()
    assert data.count(other.to_bytes(8, "little")) == 1
    moved = data.replace(other.to_bytes(8, "little"), (one + 4).to_bytes(8, "little"))
    path.write_bytes(moved)
    _assert_refused(path, "shares its bytes with")
    path.write_bytes(data.replace(other.to_bytes(8, "little"), b"\xf0" + b"\xff" * 6 + b"\x7f"))
    _assert_refused(path, "HDF5 cannot read it")


def _packed(path: Path, change: Callable[[bytes], bytes], mask: int = 0, **plan: Any) -> None:
    """An array of one piece, packed, whose bytes are changed."""
    write_tf(path, TENSORS)
    with h5py.File(path, "a") as file:
        del file[QUERY]
        made = file.create_dataset(QUERY, data=ZEROS, chunks=ZEROS.shape, **plan)
        raw = made.id.read_direct_chunk((0, 0))[1]
        made.id.write_direct_chunk((0, 0), change(raw), mask)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "a bomb": lambda _: zlib.compress(bytes(2**24)),
    "a byte more": lambda _: zlib.compress(bytes(769)),
    "a byte less": lambda _: zlib.compress(bytes(767)),
    "nothing packed": lambda _: zlib.compress(b""),
    "half of it": lambda raw: raw[: len(raw) // 2],
    "not packed": lambda _: bytes(768),
    "another checksum": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
}


@pytest.mark.parametrize("case", PACKED)
def test_a_piece_is_never_unpacked_to_more_than_its_array(case: str, path: Path) -> None:
    _packed(path, PACKED[case], compression="gzip")
    _assert_refused(path, "a piece is damaged")


def test_a_changed_byte_does_not_pass_its_checksum(path: Path) -> None:
    _packed(path, lambda raw: b"\x01" + raw[1:], fletcher32=True)
    _assert_refused(path, "its checksum is another one")
    _packed(path, lambda raw: raw[:3], fletcher32=True)
    _assert_refused(path, "a piece is damaged")


def test_a_piece_that_was_stored_without_its_filter_is_read(path: Path) -> None:
    _packed(path, lambda _: ZEROS.tobytes(), mask=1, compression="gzip")
    assert checked(read(path), TENSORS | {"h.0.attn.c_attn.weight": ZEROS}, JSON)


def test_a_file_that_is_cut_while_it_is_read_is_refused(path: Path) -> None:
    source = read(write_tf(path, TENSORS))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(Refused, match="shorter meanwhile"):
        made_of(source)


def test_memory_is_one_array_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for plan in ({}, {"compression": "gzip", "chunks": (2**16,)}):
            for number in range(6):
                name = f"{len(plan)}{number}"
                file.create_dataset(name, data=np.full(2**20, number, "f4"), **plan)
    tracemalloc.start()
    try:
        for array in hdf5.datasets(path):
            assert array.read()[-1] == int(array.name[-1])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * 2**22


def test_the_reader_works_in_the_process_without_rights(tmp_path: Path) -> None:
    path = write_tf(tmp_path / "tf_model.h5", TENSORS, compression="gzip")
    (tmp_path / "config.json").write_text(json.dumps(JSON))
    (tmp_path / "staging").mkdir()
    source = ModelSource(kind="x", reader="tf_h5", folder=tmp_path, files=(path,), companions=True)
    assert convert(source, tmp_path / "staging").tensors == len(TENSORS)
    with h5py.File(path, "a") as file:
        file["a"] = h5py.ExternalLink("/etc/passwd", "/")
    (tmp_path / "other").mkdir()
    with pytest.raises(BadModel, match="link to another place"):
        convert(source, tmp_path / "other")


@pytest.mark.skipif(PYTHON is None, reason="TRANSFORMERS4_PYTHON names no Python")
def test_scores_are_those_of_tensorflow_and_flax(tmp_path: Path) -> None:
    subprocess.run([str(PYTHON), REFEREE, tmp_path / "them"], check=True)
    kinds = sorted((tmp_path / "them").iterdir())
    assert len(kinds) == 10
    for kind in kinds:
        flax = kind.name.startswith("flax")
        files = sorted(kind.glob("*.msgpack" if flax else "*.h5"))
        job = Job(folder=kind, files=tuple(files), options={"tied": "untied" not in kind.name})
        source = (flax_msgpack if flax else tf_h5).read(job)
        found = scores(source, kind, np.load(kind / "ids.npy"))
        wanted = np.load(kind / "logits.npy")
        assert np.abs(wanted).max() > 0.5
        assert np.abs(found - wanted).max() < 1e-4, kind.name
