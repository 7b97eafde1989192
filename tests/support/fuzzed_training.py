"""The readers of what programs of training leave behind, each with files that are nearly good."""

from __future__ import annotations

import pickle
import struct
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import strategies as st

from gptcli.checkpoints.config_json import OTHER_MODEL
from gptcli.checkpoints.formats.locked.readers import llmc, tf_bundle
from gptcli.checkpoints.formats.locked.readers.gpt2.characters import from_meta
from gptcli.checkpoints.formats.locked.source import Refused
from gptcli.system.strict_json import unsafe
from support import locked_readers, tf_bundles
from support.fuzzed_readers import Reader
from support.fuzzing import TEXTS, changed, json_files
from support.tf_bundles import Stored

WHOLE = st.sampled_from(
    [0, 1, -1, 2, 7, 8, 9, 29, 128, 2**16, 2**31 - 1, -(2**31), 2**32, 2**40, 2**62, 2**63, 2**64]
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "type": WHOLE,
    "shape": st.lists(WHOLE, max_size=4).map(tuple),
    "shard": WHOLE,
    "offset": WHOLE,
    "size": WHOLE,
    "crc": WHOLE,
    "key": st.one_of(TEXTS.map(str.encode), st.binary(max_size=9)),
    "slices": st.lists(
        st.lists(st.one_of(st.none(), st.tuples(WHOLE, WHOLE)), max_size=3).map(tuple), max_size=3
    ).map(tuple),
}
CHANGE = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda field: st.tuples(st.integers(0, 27), st.just(field), FIELDS[field])
)
SPOILT = st.one_of(  # where, and what stands there
    st.none(), st.none(), st.tuples(st.integers(0, 3000), st.binary(max_size=4))
)
TENSORS = tf_bundles.gpt2()


def spoilt(data: bytes, change: tuple[int, bytes] | None) -> bytes:
    """The data, with other bytes somewhere, or cut there."""
    if change is None:
        return data
    place, new = change
    return data[:place] + (new + data[place + len(new) :] if new else b"")


def opened(reader: ModuleType, folder: Path, *files: Path) -> None:
    """Read all of it; what is refused is a model that is corrupt."""
    try:
        locked_readers.convert(locked_readers.read(reader, *files), folder / "made")
    except Refused as error:
        raise unsafe(files[0], str(error), OTHER_MODEL) from None


def read_bundle(folder: Path, case: tuple[list[Any], bytes, Any, Any, bool]) -> None:
    """A bundle with other lines in its index, or other bytes."""
    changes, hparams, index, data, once_more = case

    def change(stored: list[Stored]) -> list[Stored]:
        for place, field, value in changes:
            stored[place] = replace(stored[place], **{field: value})
        return stored + stored[:1] * once_more

    files = tf_bundles.write(folder, TENSORS, change=change)
    for file, bytes_ in zip(files, (index, data), strict=False):
        file.write_bytes(spoilt(file.read_bytes(), bytes_))
    files[-1].write_bytes(hparams)
    opened(tf_bundle, folder, *files)


def read_llmc(folder: Path, case: tuple[dict[int, int], Any, list[bytes], list[int], Any]) -> None:
    """A model of llm.c, and its tokenizer."""
    head, cut, tokens, other, spoiling = case
    numbers = {0: 20240326, 1: 3, 2: 3, 3: 5, 4: 1, 5: 2, 6: 4, 7: 8, **head}
    data = struct.pack("<256i", *(numbers.get(place, 0) for place in range(256)))
    count = 32 + 12 + 12 * 16 + 9 * 4 + 16 + 8  # embeddings, matrices, biases, norms
    (folder / "a.bin").write_bytes(spoilt(data + bytes(4 * count), cut))
    magic, version, count, end = other
    head_of_tokens = struct.pack("<256i", magic, version, count, end, *[0] * 252)
    packed = b"".join(bytes([len(token)]) + token for token in tokens)
    (folder / "t.bin").write_bytes(spoilt(head_of_tokens + packed, spoiling))
    opened(llmc, folder, folder / "a.bin", folder / "t.bin")


def read_meta(folder: Path, case: tuple[Any, int, Any]) -> None:
    """nanoGPT's pickle of characters."""
    held, protocol, change = case
    file = folder / "meta.pkl"
    try:
        data = pickle.dumps(held, protocol)
    except (UnicodeError, RecursionError, pickle.PicklingError):
        data = b""
    file.write_bytes(spoilt(data, change))
    try:
        from_meta(file, 16)
    except Refused as error:
        raise unsafe(file, str(error), OTHER_MODEL) from None


META = {"vocab_size": 3, "itos": {0: "a", 1: "b", 2: " "}, "stoi": {"a": 0, "b": 1, " ": 2}}
INTS = WHOLE.filter(lambda number: -(2**31) <= number < 2**31)
READERS = [
    Reader(
        "bundles of TensorFlow",
        st.tuples(
            st.lists(CHANGE, max_size=3),
            json_files(st.just(tf_bundles.SIZES)),
            SPOILT,
            SPOILT,
            st.sampled_from([False] * 9 + [True]),
        ),
        read_bundle,
    ),
    Reader(
        "models of llm.c",
        st.tuples(
            st.dictionaries(st.integers(0, 8), INTS, max_size=2),
            SPOILT,
            st.lists(st.sampled_from([b"a", b"b", b"ab", b"aab", b"", b"c", b"bb"]), max_size=5),
            st.tuples(
                st.sampled_from([20240328] * 5 + [0]), st.sampled_from([2, 2, 1, 3]), INTS, INTS
            ),
            SPOILT,
        ),
        read_llmc,
    ),
    Reader(
        "pickles of characters",
        st.tuples(changed(st.just(META)), st.integers(0, 5), SPOILT),
        read_meta,
    ),
]
