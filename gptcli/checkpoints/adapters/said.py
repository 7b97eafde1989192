"""What was applied of adapters, in words: nothing is left out, so that all can be counted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gptcli.checkpoints.adapters.changes import Changes
from gptcli.checkpoints.adapters.parts import AdapterParts, ParameterChange
from gptcli.system.units import counted

_LAYER = re.compile(r"(?P<before>.*?)\.(?P<number>\d+)\.(?P<after>.*)")


def said(adapters: Sequence[AdapterParts], found: Changes) -> tuple[str, ...]:
    """A line for each adapter: its scale, and what it does to which modules."""
    lines = []
    for adapter in adapters:
        scale = adapter.adapter.scale
        parts = "; ".join(lines_of(adapter))
        lines.append(
            f"adapter {adapter.adapter.name} is applied at scale {scale:g}:"
            f" {counted(adapter.tensors, 'tensor')}: {parts}"
        )
    if found.base.tied and not found.tied:
        lines.append("the head is no longer the token embedding: an adapter changes one of them")
    return tuple(lines)


def lines_of(adapter: AdapterParts) -> Iterator[str]:
    """What an adapter does, modules of the same kind in one text."""
    groups: dict[tuple[str, str], list[int]] = {}
    for (module, kind), part in adapter.parts.items():
        found = _LAYER.fullmatch(module)
        name = found["after"] if found else module
        for what in _what(part, kind):
            groups.setdefault((what, name), []).append(int(found["number"]) if found else -1)
    for (what, name), numbers in groups.items():
        where = f" of layers {_ranges(sorted(numbers))}" if min(numbers) >= 0 else ""
        yield f"{what} on {name}{where}"


def _what(part: ParameterChange, kind: str) -> Iterator[str]:
    if part.whole is not None:
        yield f"a new {kind}"
    if part.rows is not None:
        yield f"{counted(len(part.ids), 'new token row')}"
    if part.added is not None:
        yield f"an added {kind} times {part.scaling:g}"
    if part.low_rank is not None:
        pair = part.low_rank
        name = "DoRA" if pair.magnitude is not None else "LoRA"
        yield f"{name} of rank {pair.down.shape[0]} times {pair.scaling:g}"


def _ranges(numbers: list[int]) -> str:
    """0, 1, 2, 5 as 0-2, 5."""
    shown: list[list[int]] = []
    for number in numbers:
        if shown and number == shown[-1][-1] + 1:
            shown[-1][1:] = [number]
        else:
            shown.append([number])
    return ", ".join("-".join(map(str, span)) for span in shown)
