"""Inputs packed by gzip and zstd: whole, one after the other, damaged, and without the package."""

from __future__ import annotations

import gzip
import os
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from support.batch_rows import of, read, texts, until_the_error

from gptcli.batch.input.row import Row
from gptcli.batch.input.sources import rows
from gptcli.batch.options import BatchInput
from gptcli.errors import BadInput, Unavailable

Pack = Callable[[bytes], bytes]


def _zstd(data: bytes) -> bytes:
    return (
        pytest.importorskip("zstandard", reason="needs zstandard").ZstdCompressor().compress(data)
    )


PACKERS = pytest.mark.parametrize(
    ("pack", "suffix"), [(gzip.compress, ".gz"), (_zstd, ".zst")], ids=["gzip", "zstd"]
)


def noise(lines: int) -> bytes:
    """Lines that hardly can be packed."""
    source = random.Random(1)
    return b"".join(source.randbytes(30).hex().encode() + b"\n" for _ in range(lines))


def _rows(data: bytes) -> Iterator[Row | None]:
    return rows(["-"], BatchInput(), BytesIO(data))


@PACKERS
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"one\ntwo\n"),
        ("a.jsonl", b'{"prompt": "one"}\n{"prompt": "two"}\n'),
        ("a.csv", b"prompt\none\ntwo\n"),
        ("a", b'{"prompt": "one"}\n{"prompt": "two"}\n'),
    ],
)
def test_a_packed_file_is_read_by_the_name_within(
    tmp_path: Path, pack: Pack, suffix: str, name: str, data: bytes
) -> None:
    path = tmp_path / (name + suffix)
    path.write_bytes(pack(data))
    assert texts(read(path)) == ["one", "two"]


@PACKERS
def test_first_bytes_tell_that_standard_input_is_packed(pack: Pack, suffix: str) -> None:
    assert texts(of(pack(b"one\ntwo\n"))) == ["one", "two"]


@PACKERS
def test_first_bytes_tell_it_of_a_file_whose_name_does_not(
    tmp_path: Path, pack: Pack, suffix: str
) -> None:
    (tmp_path / "a.txt").write_bytes(pack(b"one\n"))
    assert texts(read(tmp_path / "a.txt")) == ["one"]


@PACKERS
def test_streams_can_follow_one_another(pack: Pack, suffix: str) -> None:
    assert texts(of(pack(b"one\nt") + pack(b"") + pack(b"wo\n"))) == ["one", "two"]


@PACKERS
def test_rows_have_the_same_digests_as_unpacked(pack: Pack, suffix: str) -> None:
    data = noise(3000)
    assert of(pack(data)) == of(data)


@PACKERS
def test_packed_data_cut_short_is_one_error_behind_its_rows(pack: Pack, suffix: str) -> None:
    data = noise(20_000)
    whole = of(data)
    found, error = until_the_error(_rows(pack(data)[:-5000]))
    assert 1000 < len(found) < 20_000
    assert found == whole[: len(found)]
    assert "standard input: the packed data ends too early" in str(error)


def test_damaged_data_is_one_error_behind_its_rows() -> None:
    data = noise(20_000)
    packed = bytearray(gzip.compress(data))
    packed[-4] ^= 1  # in the checksum
    found, error = until_the_error(_rows(bytes(packed)))
    assert found == of(data)[: len(found)]
    assert len(found) > 15_000
    assert "the gzip data is damaged" in str(error)


@PACKERS
@pytest.mark.parametrize("rest", [b"x", b"more text that is not packed"])
def test_what_follows_packed_data_is_damage(pack: Pack, suffix: str, rest: bytes) -> None:
    data = noise(20_000)
    found, _ = until_the_error(_rows(pack(data) + rest))
    assert len(found) > 15_000


def test_padding_behind_packed_data_is_nothing() -> None:
    assert texts(of(gzip.compress(b"one\n") + b"\0" * 1000)) == ["one"]


@PACKERS
def test_a_file_damaged_from_the_beginning_is_known_at_once(
    tmp_path: Path, pack: Pack, suffix: str
) -> None:
    path = tmp_path / ("a.txt" + suffix)
    path.write_bytes(pack(b"")[:6])
    with pytest.raises(BadInput, match="ends too early"):
        rows([str(path)], BatchInput(), None)


@PACKERS
def test_a_packed_bomb_is_not_held_in_memory(tmp_path: Path, pack: Pack, suffix: str) -> None:
    path = tmp_path / ("a.txt" + suffix)
    path.write_bytes(pack(b"\0" * (64 << 20) + b"\nnext\n"))
    tracemalloc.start()
    try:
        found = read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert texts(found) == [None, "next"]
    assert peak < 48 << 20


def test_packed_rows_of_a_slow_pipe_come_as_soon_as_they_are_there() -> None:
    packed = gzip.GzipFile(fileobj=(out := BytesIO()), mode="wb")
    packed.write(b"one\n")
    packed.flush()
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        os.write(writing, out.getvalue())
        found = rows(["-"], BatchInput(), stream)
        seen = [next(found) for _ in range(3)]
        os.close(writing)
        with pytest.raises(BadInput):
            list(found)
    packed.close()
    assert [row.text for row in seen if row] == ["one"]


def test_without_the_package_zstd_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("zstandard", "compression", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / "a.txt.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd rest")
    with pytest.raises(Unavailable, match=r"pip install 'gptcli\[zstd\]'"):
        rows([str(path)], BatchInput(), None)
