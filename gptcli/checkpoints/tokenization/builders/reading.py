"""Files of vocabularies read without trust: ids of tokens, merges, and lines that are tokens.

A vocabulary with a gap among its ids gets tokens that no text can hold: the library counts tokens
to give an added one its id, and would give it one that is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gptcli.checkpoints.file_kinds import HEAD_BYTES, MAX_TOKENIZER_BYTES
from gptcli.system.strict_json import corrupt, placeholder, read_bytes, read_object

MAX_GAP = 2**12  # ids without a token
# What the library cuts off the end of a line: Unicode's White_Space.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
_SPACES += "\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


def unused(id: int) -> str:
    """The token for an id that has none: no text holds it."""
    return f"\0unused {id}\0"


def ids_of(file: Path) -> dict[str, int]:
    """The ids of a vocabulary's tokens. Raises BadModel, MissingInput."""
    ids = {}
    for token, id in read_object(file, MAX_TOKENIZER_BYTES).items():
        if not isinstance(id, int) or isinstance(id, bool) or not 0 <= id < 2**31:
            raise corrupt(file, "a token's id is not a whole number")
        ids[token] = id
    return ids


def without_gaps(ids: dict[str, int]) -> dict[str, int]:
    """The ids, and a token that no text holds for each that is missing, where there are few."""
    taken = set(ids.values())
    if max(taken, default=-1) + 1 - len(taken) > MAX_GAP:
        return ids
    missing = (id for id in range(max(taken, default=-1)) if id not in taken)
    return ids | {unused(id): id for id in missing}


def merges_of(file: Path) -> list[tuple[str, str]]:
    """The merges of a BPE, in their order. Raises BadModel, MissingInput."""
    pairs = []
    for number, line in enumerate(_text(file).split("\n"), 1):
        if not line.strip("\r") or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.strip("\r").partition(" ")
        if not left or not right or " " in right:
            raise corrupt(file, f"line {number} is not two parts of a token")
        pairs.append((left, right))
    return pairs


def lines_of(file: Path) -> dict[str, int]:
    """The ids of tokens that stand one a line; of two that are equal, the later counts.

    Raises BadModel, MissingInput.
    """
    lines = _text(file).split("\n")
    return _numbered(line.rstrip(_SPACES) for line in (lines[:-1] if not lines[-1] else lines))


def _numbered(tokens: Iterable[str]) -> dict[str, int]:
    return {token: id for id, token in enumerate(tokens)}


def _text(file: Path) -> str:
    content = read_bytes(file, MAX_TOKENIZER_BYTES)
    if instead := placeholder(file, content[:HEAD_BYTES]):
        raise instead
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise corrupt(file, f"invalid UTF-8 at byte {error.start}") from None
