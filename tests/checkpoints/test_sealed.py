"""Sealed files: any damage to any byte is found, and libraries can read them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from gptcli.checkpoints.integrity import sealed
from gptcli.checkpoints.integrity.sealed import BrokenSeal, Sealed, StoredTensor
from gptcli.system import durable

PAGE = 128  # bytes: small ones here
ABOUT = {"layout": "test-1", "model": "owner/modèle"}
PIECES = {
    "values": StoredTensor("I8", (10, 100), random.Random(1).randbytes(1000)),
    "scales": StoredTensor("F32", (10,), memoryview(random.Random(2).randbytes(40))),
    "none": StoredTensor("F32", (0,), b""),
}


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "PIECE_BYTES", 400)
    monkeypatch.setattr(sealed, "BUFFER_BYTES", 150)


def written(path: Path, pieces: dict[str, StoredTensor] = PIECES) -> bytes:
    with durable.new_file(path) as new:
        sealed.write(new.descriptor, ABOUT, pieces)
        new.put()
    return path.read_bytes()


def data_of(found: Sealed, path: Path) -> dict[str, bytes]:
    whole = path.read_bytes()
    return {
        name: whole[tensor.offset : tensor.offset + tensor.nbytes]
        for name, tensor in found.tensors.items()
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "kept.safetensors"


@pytest.mark.parametrize("size", [0, 1, 159, 160, 161, 560, 4321])
def test_what_was_written_is_read(path: Path, size: int) -> None:
    pieces = PIECES | {"more": StoredTensor("U8", (size,), bytes(size))}
    written(path, pieces)
    found = sealed.read(path)
    assert found.about == ABOUT
    assert data_of(found, path) == {name: bytes(piece.data) for name, piece in pieces.items()}
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == {
        name: piece.shape for name, piece in pieces.items()
    }


def test_it_is_a_safetensors_file_with_aligned_data(path: Path) -> None:
    written(path)
    assert load_file(path)["values"].tobytes() == PIECES["values"].data
    assert sealed.read(path).tensors["values"].offset % sealed.ALIGNMENT == 0


def damages(whole: bytes) -> Iterator[bytes]:
    """Every byte with a wrong bit, pages swapped, zeroed and repeated, ends lost and added."""
    rng = random.Random(3)
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << rng.randrange(8)
        yield bytes(changed)
    pages = [whole[at : at + PAGE] for at in range(0, len(whole), PAGE)]
    for one in range(len(pages)):
        yield b"".join([*pages[:one], bytes(len(pages[one])), *pages[one + 1 :]])
        yield b"".join(pages[:one])
        for other in range(one + 1, len(pages) - 1):
            changed_pages = pages.copy()
            changed_pages[one], changed_pages[other] = pages[other], pages[one]
            yield b"".join(changed_pages)
            changed_pages[other] = changed_pages[one]
            yield b"".join(changed_pages)
    for lost in (1, 3, 4, 40):
        yield whole[:-lost]
        yield whole[:-lost] + bytes(lost)
    yield from (whole + b"\0", whole + whole, bytes(len(whole)))


def test_every_damage_is_found(path: Path) -> None:
    whole = written(path)
    tried = 0
    for damaged in damages(whole):
        if damaged == whole:
            continue
        path.unlink()  # a file that is cut to nothing and written again, ext4 writes to the disk
        path.write_bytes(damaged)
        with pytest.raises(BrokenSeal):
            sealed.read(path)
        tried += 1
    assert tried > 1500


def test_an_order_of_the_checksums_counts(path: Path) -> None:
    whole = written(path)
    path.write_bytes(whole[:-8] + whole[-4:] + whole[-8:-4])
    with pytest.raises(BrokenSeal, match="is wrong"):
        sealed.read(path)


def test_a_file_that_is_not_there_is_not_damaged(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sealed.read(path)


def test_what_cannot_be_read_is_damaged(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(BrokenSeal, match="not a regular file"):
        sealed.read(path)
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(BrokenSeal):
        sealed.read(path)
