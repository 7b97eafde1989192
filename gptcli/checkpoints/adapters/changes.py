"""What adapters make of a base's parameters: W + scale (W' - W), summed over the adapters.

W' is what PEFT computes with, in float32: W + s B A (LoRA), the same with columns of given lengths
(DoRA), given rows, or another matrix. Each parameter is computed when it is asked for. Where head
and embedding are one matrix, what changes only one of them makes them two, as in PEFT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from gptcli.checkpoints.adapters.numbers import floats
from gptcli.checkpoints.adapters.parts import AdapterParts, LowRank, ParameterChange
from gptcli.checkpoints.adapters.reference import CONFIG
from gptcli.checkpoints.safetensors_headers import Tensor
from gptcli.errors import BadModel

if TYPE_CHECKING:
    from gptcli.checkpoints.adapters.numbers import Array

OTHER_BASE = "Give its own base with -m, or leave -m out and name the adapter there."


class AdapterBase(Protocol):
    """The parameters of a model that adapters change."""

    label: str  # how messages call it
    embedding: str | None  # names of parameters
    head: str | None
    tied: bool  # head and embedding are one

    def find(self, module: str, part: str) -> str | None:
        """The name of a module's weight or bias; None where there is none."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape as it is stored."""
        ...

    def turned(self, name: str) -> bool:
        """Whether a matrix is stored as (in, out)."""
        ...

    def floats(self, name: str) -> Array:
        """The numbers in float32."""
        ...


@dataclass(frozen=True)
class Changes:
    """Which parameters change, and how: for each one its parts with their scales."""

    base: AdapterBase
    parts: dict[str, tuple[tuple[float, ParameterChange], ...]]
    tied: bool  # afterwards

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a parameter afterwards: a vocabulary may have grown."""
        wholes = [part.whole.shape for _, part in self.parts[name] if part.whole is not None]
        return wholes[0] if wholes else self.base.shape(name)

    def value(self, name: str) -> Array:
        """A changed parameter in float32. Raises MissingInput, BadModel."""
        base = _resized(self.base.floats(name), self.parts[name])
        turned = self.base.turned(name)
        made = [(scale, _changed(base, part, turned)) for scale, part in self.parts[name]]
        if len(made) == 1 and made[0][0] == 1:
            return made[0][1]
        total: Array = base.copy()
        for scale, changed in made:
            changed -= base
            changed *= scale
            total += changed
        return total


def changes(base: AdapterBase, adapters: Sequence[AdapterParts]) -> Changes:
    """Fit adapters to a base. Raises BadModel, naming both, where one does not fit."""
    found: dict[str, list[tuple[float, ParameterChange]]] = {}
    tied = base.tied
    for adapter in adapters:
        parts = _by_parameter(base, adapter)
        if base.tied:
            tied = _tie(base, adapter, parts) and tied
        for name, part in parts.items():
            found.setdefault(name, []).append((adapter.adapter.scale, part))
    if base.tied and not tied:
        for name in (
            str(base.embedding),
            str(base.head),
        ):  # two matrices now, also where one is as it was
            found.setdefault(name, [])
    made = Changes(base, {name: tuple(parts) for name, parts in found.items()}, tied)
    _check_vocabulary(made)
    return made


def _by_parameter(base: AdapterBase, adapter: AdapterParts) -> dict[str, ParameterChange]:
    parts: dict[str, ParameterChange] = {}
    for (module, kind), part in adapter.parts.items():
        name = base.find(module, kind)
        if name is None:
            raise _misfit(base, adapter, f"{module}.{kind} is not in {base.label}")
        if name in parts:
            raise _misfit(base, adapter, f"two modules of it are {name} of {base.label}")
        _check_shape(base, adapter, name, part)
        parts[name] = part
    return parts


def _tie(base: AdapterBase, adapter: AdapterParts, parts: dict[str, ParameterChange]) -> bool:
    """Let head and embedding follow each other as in PEFT; whether they are still one."""
    embedding, head = str(base.embedding), str(base.head)
    one, other = parts.get(embedding, ParameterChange()), parts.get(head, ParameterChange())
    every = adapter.config.ensure_tying
    shared = _shared(one, other, every)
    if one.rows is not None and other.rows is None:
        other = replace(other, rows=one.rows, ids=one.ids)
    if every and one.low_rank is not None:
        other = replace(other, low_rank=one.low_rank)
    one, other = (
        replace(one, whole=shared[0], own=False),
        replace(other, whole=shared[1], own=False),
    )
    for name, part in ((embedding, one), (head, other)):
        if part != ParameterChange():
            parts[name] = part
    return one == other


def _shared(
    one: ParameterChange, other: ParameterChange, every: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The new matrices of embedding and head; one that is not of its module alone is both's."""
    first, second = one.whole, other.whole
    if first is None or second is None:
        if first is not None and (every or not one.own):
            second = first
        elif second is not None and (every or not other.own):
            first = second
    elif not one.own and not other.own and (floats(first) == floats(second)).all():
        second = first
    return first, second


def _check_shape(
    base: AdapterBase, adapter: AdapterParts, name: str, part: ParameterChange
) -> None:
    there = base.shape(name)
    rows_may_differ = name in (base.embedding, base.head)
    for tensor, inner in ((part.whole, there), (part.added, there)):
        if tensor is None or tensor.shape == inner:
            continue
        if not (rows_may_differ and tensor.shape[1:] == inner[1:] and tensor.shape[:1] > (0,)):
            raise _misshaped(base, adapter, name, tensor.shape)
    wide = part.whole.shape if part.whole is not None else there
    if part.rows is not None and (part.rows.shape[1:] != wide[1:] or max(part.ids) >= wide[0]):
        raise _misshaped(base, adapter, name, part.rows.shape)
    if part.low_rank is not None:
        shape = _low_rank_shape(part.low_rank, base.turned(name))
        if shape != wide or len(wide) != 2:
            raise _misshaped(base, adapter, name, shape)
        magnitude = part.low_rank.magnitude
        outputs = wide[1] if part.low_rank.embedding or base.turned(name) else wide[0]
        if magnitude is not None and magnitude.shape != (outputs,):
            raise _misshaped(base, adapter, name, magnitude.shape)


def _low_rank_shape(pair: LowRank, turned: bool) -> tuple[int, ...]:
    """The shape of the matrix that two matrices change."""
    inner, outer = pair.down.shape[1], pair.up.shape[0]
    return (inner, outer) if turned or pair.embedding else (outer, inner)


def _check_vocabulary(found: Changes) -> None:
    """Raise BadModel where adapters make vocabularies of several sizes."""
    sizes = set()
    for name in {found.base.embedding, found.base.head} - {None}:
        parts = found.parts.get(str(name), ())
        wholes = {part.whole.shape[0] for _, part in parts if part.whole is not None}
        kept = {found.base.shape(str(name))[0]} if not wholes else set()
        if any(part.whole is None for _, part in parts):
            kept = {found.base.shape(str(name))[0]}
        sizes |= wholes | kept
    if len(sizes) > 1:
        named = " and ".join(map(str, sorted(sizes)))
        why = f"vocabularies of {named} tokens come together in {found.base.label}"
        raise BadModel("adapters that do not fit", why, "Give one of them alone.")


def _misshaped(
    base: AdapterBase, adapter: AdapterParts, name: str, shape: tuple[int, ...]
) -> BadModel:
    there = list(base.shape(name))
    return _misfit(base, adapter, f"it has {list(shape)} for {name}, and {base.label} has {there}")


def _misfit(base: AdapterBase, adapter: AdapterParts, why: str) -> BadModel:
    made_for = f" ({CONFIG} names {adapter.config.base} as its base)" if adapter.config.base else ""
    return BadModel(f"adapter {adapter.adapter.name}", f"{why}{made_for}", OTHER_BASE)


def _resized(base: Array, parts: Sequence[tuple[float, ParameterChange]]) -> Array:
    """The base with as many rows as a new matrix has; new rows are those of that matrix."""
    import numpy

    whole = next((part.whole for _, part in parts if part.whole is not None), None)
    if whole is None or whole.shape == base.shape:
        return base
    kept = base[: whole.shape[0]]
    more: Array = numpy.concatenate([kept, floats(whole)[len(kept) :]])
    return more


def _changed(base: Array, part: ParameterChange, turned: bool) -> Array:
    """W', of one adapter alone; a new array."""
    found: Array = base.copy() if part.whole is None else floats(part.whole)
    if part.rows is not None:
        found[list(part.ids)] = floats(part.rows)
    if part.added is not None:
        found += part.scaling * floats(part.added)
    return found if part.low_rank is None else _lowered(found, part.low_rank, turned)


def _lowered(base: Array, pair: LowRank, turned: bool) -> Array:
    """W + s B A, with outputs of the magnitudes' lengths where there are any."""
    import numpy

    up, down = floats(pair.up), floats(pair.down)
    columns = turned or pair.embedding  # an output is a column of what is stored
    found: Array = down.T @ up.T if columns else up @ down
    found *= numpy.float32(pair.scaling)
    found += base
    if pair.magnitude is not None:
        axis = 0 if columns else 1
        lengths = numpy.linalg.norm(found, axis=axis, keepdims=True)
        magnitude = floats(pair.magnitude)
        found *= (magnitude[None, :] if columns else magnitude[:, None]) / lengths
    return found
