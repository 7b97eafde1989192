"""Files that are no sentencepiece model, or a hostile one: refused with the rule, soon, in 65."""

from __future__ import annotations

import resource
import struct
import time
from pathlib import Path

import pytest
from support.piece_models import (
    BYTES,
    LETTERS,
    PIECES,
    SPECIAL,
    Piece,
    field,
    message,
    varint,
    written,
)

from gptcli.checkpoints.tokenization.builders.sentencepiece import MAX_BYTES, build
from gptcli.checkpoints.tokenization.pieces import model, wire
from gptcli.errors import BadModel, MissingInput

GOOD = written()
SECONDS = 5.0  # the machine may be busy; most take milliseconds
MIB = 2**20


def charsmap(units: list[int], targets: bytes) -> bytes:
    """A normalizer with a character map."""
    trie = struct.pack(f"<{len(units)}I", *units)
    return message((2, len(trie).to_bytes(4, "little") + trie + targets))


def piece(*fields: bytes) -> bytes:
    """A model with one more piece, of these fields."""
    return GOOD + field(1, b"".join(fields))


NAN, INFINITE = float("nan"), float("inf")
# What each file holds, and what the refusal says.
HOSTILE: dict[str, tuple[bytes, str]] = {
    # the file
    "empty": (b"", "no pieces"),
    "text": (b"not a model", "field"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs"),
    "a page": (b"<!DOCTYPE html><html></html>", "web page"),
    "zeros": (bytes(1000), "the number 0"),
    "ones": (b"\xff" * 1000, "10 bytes"),
    "cut in a piece": (GOOD[:40], "longer than"),
    "cut in a length": (b"\x0a", "inside a number"),
    "a byte too much": (GOOD + b"\x0a", "inside a number"),
    # the wire
    "a length beyond the file": (b"\x0a" + varint(2**20) + b"a", "longer than"),
    "a length of 2^63": (b"\x0a" + varint(2**63), "longer than"),
    "a length of 65 bits": (b"\x0a" + varint(2**64), "64 bits"),
    "a length without an end": (b"\x0a" + b"\x80" * 100, "10 bytes"),
    "a group": (GOOD + varint(15 << 3 | 3), "wire type 3"),
    "a group's end": (GOOD + varint(15 << 3 | 4), "wire type 4"),
    "a wire type of 6": (GOOD + varint(15 << 3 | 6), "wire type 6"),
    "a field of number 2^29": (GOOD + varint(2**29 << 3) + b"\0", "the number"),
    "a piece that is a number": (field(1, 5), "wire type 0"),
    "a trainer that is a number": (GOOD + field(2, 5), "wire type 0"),
    "a text that is a number": (piece(field(1, 5)), "wire type 0"),
    "a score that is a text": (piece(field(1, "x"), field(2, "y")), "wire type 2"),
    "a score of 64 bits": (piece(field(1, "x"), b"\x11" + bytes(8)), "wire type 1"),
    "a kind that is a float": (piece(field(1, "x"), field(3, 1.0)), "wire type 5"),
    "a flag that is a text": (written(trainer=field(35, "x")), "wire type 2"),
    "a map that is a number": (written(normalizer=field(2, 1)), "wire type 0"),
    "fields in a piece, cut": (piece(b"\x0a\x05ab"), "longer than"),
    # the pieces
    "no pieces": (field(2, b"") + field(3, b""), "no pieces"),
    "empty pieces": (field(1, b"") * 1000, "empty"),
    "a NUL in a piece": (written([*PIECES, Piece("a\0b")]), "NUL"),
    "a piece that is not UTF-8": (piece(field(1, b"\xff")), "not UTF-8"),
    "a piece of half a pair": (piece(field(1, b"\xed\xa0\x80")), "not UTF-8"),
    "an endless piece": (written([*PIECES, Piece("a" * 100_000)]), "100000 characters"),
    "a piece twice": (written([*PIECES, Piece("abc")]), "2 pieces are written 'abc'"),
    "a control piece twice": (written([*SPECIAL, *PIECES]), "2 pieces are written"),
    "a word that is a control piece, too": (written([*PIECES, Piece("</s>")]), "2 pieces"),
    "a score of NaN": (written([*PIECES, Piece("x", NAN)]), "the score of 'x'"),
    "an infinite score": (written([*PIECES, Piece("x", INFINITE)]), "the score of 'x'"),
    "a kind of 0": (piece(field(1, "x"), field(3, 0)), "of the kind 0"),
    "a kind of 7": (piece(field(1, "x"), field(3, 7)), "of the kind 7"),
    "a negative kind": (piece(field(1, "x"), field(3, 2**64 - 1)), "of the kind"),
    "no unknown piece": (written(PIECES[1:]), "0 pieces stand for the unknown"),
    "two unknown pieces": (
        written([*PIECES, Piece("?", kind=2)]),
        "2 pieces stand for the unknown",
    ),
    "nothing but special pieces": (written(SPECIAL), "no piece stands for a text"),
    "bytes that are not announced": (written([*PIECES, *BYTES]), "byte_fallback"),
    "bytes that are not there": (written(trainer=field(35, 1)), "byte_fallback"),
    "half of the bytes": (written([*PIECES, *BYTES[:128]], field(35, 1)), "byte_fallback"),
    "bytes of another spelling": (
        written([*PIECES, *BYTES[:255], Piece("<0xff>", kind=6)], field(35, 1)),
        "byte_fallback",
    ),
    # the settings
    "an algorithm of 0": (written(trainer=field(3, 0)), "field 3 is 0"),
    "an algorithm of 5": (written(trainer=field(3, 5)), "field 3 is 5"),
    "a text for the unknown that is none": (written(trainer=field(44, b"\xff")), "not UTF-8"),
    # the character map
    "a map of three bytes": (written(normalizer=field(2, b"abc")), "no whole trie"),
    "a map without a trie": (written(normalizer=field(2, bytes(8))), "no whole trie"),
    "a trie larger than the map": (
        written(normalizer=field(2, (2**32 - 4).to_bytes(4, "little") + bytes(8))),
        "no whole trie",
    ),
    "a trie of half a unit": (
        written(normalizer=field(2, (6).to_bytes(4, "little") + bytes(20))),
        "no whole trie",
    ),
    "a map without targets": (
        written(normalizer=field(2, (8).to_bytes(4, "little") + bytes(8))),
        "no whole trie",
    ),
    "a target beyond the map": (
        written(normalizer=charsmap([0, 2**31 | 500], b"abc\0")),
        "without a target",
    ),
    "targets without an end": (
        written(normalizer=charsmap([0, 2**31], b"abc")),
        "without a target",
    ),
    "a way back that has no map": (GOOD + field(5, field(2, b"abcde")), "no whole trie"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_soon_with_its_rule(kind: str, tmp_path: Path) -> None:
    data, said = HOSTILE[kind]
    file = tmp_path / "spiece.model"
    file.write_bytes(data)
    began = time.process_time()
    with pytest.raises(BadModel, match=said) as caught:
        build(file, {}, "")
    assert caught.value.exit_code == 65
    assert "spiece.model" in str(caught.value)
    assert time.process_time() - began < SECONDS


def test_pieces_and_fields_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "spiece.model"
    monkeypatch.setattr(model, "MAX_PIECES", len(PIECES) - 1)
    file.write_bytes(GOOD)
    with pytest.raises(BadModel, match=f"more than {len(PIECES) - 1} pieces"):
        build(file, {}, "")
    monkeypatch.setattr(model, "MAX_PIECES", 2**19)
    monkeypatch.setattr(wire, "MAX_FIELDS", 50)
    many = field(9, 1) * 99
    for data in (GOOD + many, written(trainer=many), GOOD + field(1, many), GOOD + field(5, many)):
        file.write_bytes(data)
        with pytest.raises(BadModel, match="more than 50 fields"):
            build(file, {}, "")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "spiece.model"
    with file.open("wb") as stream:
        stream.truncate(2**40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadModel, match=f"larger than {MAX_BYTES} bytes"):
        build(file, {}, "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInput):
        build(tmp_path / "spiece.model", {}, "")


# A unit is a label, and where what follows lies: its own place, exclusive-or with the offset.
LETTER_A = ord("a")


def test_a_character_map_that_goes_round_ends_with_the_text(tmp_path: Path) -> None:
    """The node behind a is its own parent, so that its sources have no end."""
    units = [0] * 128
    units[0] = 0  # around place 0: what follows a byte lies where the byte says
    units[LETTER_A] = LETTER_A << 10 | LETTER_A  # around place 0 again
    file = tmp_path / "spiece.model"
    file.write_bytes(written(normalizer=charsmap(units, b"x\0")))
    began = time.process_time()
    raw = build(file, {}, "")
    assert len(raw.encode("a" * 3000).ids) >= 3000
    assert time.process_time() - began < SECONDS * 3


@pytest.mark.parametrize("text", ["a" * 20_000, "a 猫" * 7_000])
@pytest.mark.parametrize("algorithm", [1, 2, 3, 4])
def test_a_long_text_takes_time_as_it_is_long(text: str, algorithm: int, tmp_path: Path) -> None:
    runs = [Piece("a" * length, -1.0 / length) for length in range(2, 33)]
    file = tmp_path / "spiece.model"
    file.write_bytes(written([*PIECES, *runs], field(3, algorithm)))
    began = time.process_time()
    build(file, {}, "").encode(text)
    assert time.process_time() - began < SECONDS * 2


def test_good_files_are_no_false_alarms(tmp_path: Path) -> None:
    file = tmp_path / "spiece.model"
    more = {
        "unknown fields": GOOD + field(200, b"x") + field(201, 5) + field(202, 1.0),
        "two halves of a trainer": written(trainer=field(3, 2)) + field(2, field(24, 1)),
        "an old value and a new one": written(trainer=field(3, 9) + field(3, 2)),
        "all letters": written([*SPECIAL, *LETTERS]),
        "tests of its own": GOOD + field(4, field(1, field(1, "abc"))),
    }
    for name, data in more.items():
        file.write_bytes(data)
        assert build(file, {}, "").encode("abc").ids, name
