"""The rules by which sentencepiece rewrites characters before it cuts a text.

A model's precompiled character map is a double-array trie (Darts-clone) of the sources, in UTF-8,
whose values are places of NUL-ended targets. The usual one has 224 679 rules, so none is read
before a text needs it. Raises ValueError where it is no such map; what else is wrong in one makes
no rule.
"""

from __future__ import annotations

from array import array
from sys import byteorder
from typing import NamedTuple

MAX_KEPT = 2**17  # steps that are remembered
LONGEST_SOURCE = 2**8  # characters; the usual map has sources of up to 4
_LEAF, _LABEL = 1 << 31, (1 << 31) | 0xFF


class _Node(NamedTuple):
    """Where a character leads to in the trie: the unit, and the target of a source that ends."""

    unit: int
    target: str | None


_NOWHERE = _Node(0, None)


class CharsMap:
    """A precompiled character map; an empty one has no rules."""

    def __init__(self, blob: bytes) -> None:
        size = int.from_bytes(blob[:4], "little")
        if blob and (size % 4 or not 4 <= size < len(blob) - 4):
            raise ValueError("its character map has no whole trie")
        self._units = array("I")
        self._units.frombytes(blob[4 : 4 + size])
        if byteorder == "big":
            self._units.byteswap()
        self._targets = blob[4 + size :]
        last = max((unit ^ _LEAF for unit in self._units if unit & _LEAF), default=-1)
        if blob and (last >= len(self._targets) or self._targets[-1]):
            raise ValueError("its character map has a source without a target")
        self._known: dict[tuple[int, str], _Node] = {}

    def match(self, text: str, place: int) -> tuple[str, int]:
        """What the longest source at this place becomes, and its length; ("", 0) for none."""
        known, unit, end = self._known, 0, place
        found = ("", 0)
        while end < min(len(text), place + LONGEST_SOURCE):
            step = (unit, text[end])
            node = known.get(step) or self._learn(step)
            if not node.unit:
                break
            unit, end = node.unit, end + 1
            if node.target is not None:
                found = node.target, end - place
        return found

    def _learn(self, step: tuple[int, str]) -> _Node:
        if len(self._known) >= MAX_KEPT:
            self._known.clear()
        self._known[step] = found = self._step(*step)
        return found

    def _step(self, unit: int, character: str) -> _Node:
        for label in character.encode():
            place = self._base(unit) ^ label if self._units else 0
            if place >= len(self._units) or self._units[place] & _LABEL != label or not place:
                return _NOWHERE
            unit = place
        ends = self._units[unit] & (1 << 8)
        return _Node(unit, self._target(self._base(unit)) if ends else None)

    def _base(self, place: int) -> int:
        unit = self._units[place]
        return place ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6))

    def _target(self, place: int) -> str | None:
        leaf = self._units[place] if place < len(self._units) else 0
        if not leaf & _LEAF:
            return None
        begin = leaf ^ _LEAF
        return self._targets[begin : self._targets.index(0, begin)].decode(errors="replace")
