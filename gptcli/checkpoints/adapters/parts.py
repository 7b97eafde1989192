"""The tensors of an adapter's file, sorted by the modules that they change.

What the file holds decides, not `target_modules`: public adapters name modules there that do not
exist. A tensor that is not understood refuses the whole adapter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gptcli.checkpoints.adapters.config import MERGE, SAVE_AGAIN, AdapterConfig, read_config
from gptcli.checkpoints.adapters.reference import CONFIG, PICKLE, SINGLE, Adapter
from gptcli.checkpoints.preflight import WRAPPERS
from gptcli.checkpoints.safetensors_headers import FLOATS, Tensor, read_header
from gptcli.errors import BadModel

PREFIX = "base_model.model."
_LORA = re.compile(
    r"(?P<module>.+)\.(?P<role>lora_A|lora_B|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector)(?:\.default)?(?:\.(?P<part>weight|bias))?"
)
_ROWS = re.compile(r"(?P<module>.+)\.token_adapter\.trainable_tokens_delta(?:\.default)?")
_WHOLE = re.compile(
    r"(?P<module>.+?)(?:\.base_layer|\.modules_to_save(?:\.default)?)?\.(weight|bias)"
)
_ROLES = {
    ("lora_A", "weight"): "down",
    ("lora_B", "weight"): "up",
    ("lora_B", "bias"): "up_bias",
    ("lora_embedding_A", None): "down",
    ("lora_embedding_B", None): "up",
    ("lora_magnitude_vector", None): "magnitude",
    ("lora_magnitude_vector", "weight"): "magnitude",
}


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """B A of one matrix: `down` is A (rank, in), `up` is B (out, rank).

    Of an embedding (rows, width) PEFT stores A as (rank, rows) and B as (width, rank).
    """

    down: Tensor
    up: Tensor
    scaling: float
    magnitude: Tensor | None = None  # of DoRA
    embedding: bool = False


@dataclass(frozen=True, kw_only=True)
class ParameterChange:
    """What an adapter does to one parameter.

    whole: takes its place; `own`: of this module alone, though a tied one shared the old.
    rows: takes the place of the rows `ids`. low_rank: is added. added: is added, times `scaling`.
    """

    whole: Tensor | None = None
    own: bool = False
    rows: Tensor | None = None
    ids: tuple[int, ...] = ()
    low_rank: LowRank | None = None
    added: Tensor | None = None
    scaling: float = 1.0


@dataclass(frozen=True)
class AdapterParts:
    """An adapter that was read: its parts by module and parameter (`weight` or `bias`)."""

    adapter: Adapter
    config: AdapterConfig
    parts: Mapping[tuple[str, str], ParameterChange]
    tensors: int


def read_parts(adapter: Adapter) -> AdapterParts:
    """Read configuration and header of an adapter. Raises BadModel, MissingInput."""
    config = read_config(adapter.folder)
    tensors = _tensors(adapter.folder)
    roles: dict[str, dict[str, Tensor]] = {}
    embeddings: set[str] = set()
    for name, tensor in tensors.items():
        module, role = _role(name, tensor)
        if role in roles.setdefault(module, {}):
            raise _refused(f'two tensors say the same of "{module}"')
        roles[module][role] = tensor
        if ".lora_embedding_" in name:
            embeddings.add(module)
    parts: dict[tuple[str, str], ParameterChange] = {}
    for module, found in roles.items():
        for part, made in _parts(config, module, found, module in embeddings).items():
            parts[module, part] = made
    return AdapterParts(adapter, config, parts, len(tensors))


def _tensors(folder: Path) -> dict[str, Tensor]:
    if not (folder / SINGLE).exists() and (folder / PICKLE).exists():
        why = f"{PICKLE} is a pickle, which can run code, not {SINGLE}"
        hint = f"If you trust it, load it with peft and save it again: {SAVE_AGAIN}"
        raise BadModel("unsafe adapter", why, hint)
    if not (folder / SINGLE).exists():
        raise BadModel("no weights", f"{folder} holds {CONFIG} and no {SINGLE}", SAVE_AGAIN)
    tensors = read_header(folder / SINGLE)
    if not tensors:
        raise _refused("it holds no tensor, so it changes nothing")
    strange = next((name for name, tensor in tensors.items() if tensor.dtype not in FLOATS), None)
    if strange is not None:
        raise _refused(f"{strange} is not floating-point")
    return tensors


def _role(name: str, tensor: Tensor) -> tuple[str, str]:
    """Which module a tensor changes, and how."""
    plain = WRAPPERS.sub("", name.removeprefix(PREFIX))
    if found := _LORA.fullmatch(plain):
        role = _ROLES.get((found["role"], found["part"]))
        if role is not None:
            return found["module"], role
    elif found := _ROWS.fullmatch(plain):
        return found["module"], "rows"
    elif (found := _WHOLE.fullmatch(plain)) and ".original_module" not in plain:
        return found["module"], found[2]
    why = f'tensor "{name[:120]}" is none that LoRA has'
    raise BadModel("unknown adapter", why, MERGE)


def _parts(
    config: AdapterConfig, module: str, found: dict[str, Tensor], embedding: bool
) -> dict[str, ParameterChange]:
    """What the tensors of one module do to its weight and its bias."""
    lowered = _low_rank(config, module, found, embedding)
    own = config.saves(module)
    parts: dict[str, ParameterChange] = {}
    rows, ids = found.get("rows"), config.rows(module)
    if rows is not None and (ids is None or rows.shape[:1] != (len(ids),)):
        raise _refused(f"the ids of {module}'s own tokens do not fit its tensor")
    weight = ParameterChange(
        whole=found.get("weight"),
        own=own,
        rows=rows,
        ids=ids or () if rows else (),
        low_rank=lowered,
    )
    if weight.whole or rows or lowered:
        parts["weight"] = weight
    if "bias" in found or "up_bias" in found:
        scaling = lowered.scaling if lowered else 1.0
        parts["bias"] = ParameterChange(
            whole=found.get("bias"), own=own, added=found.get("up_bias"), scaling=scaling
        )
    return parts


def _low_rank(
    config: AdapterConfig, module: str, found: dict[str, Tensor], embedding: bool
) -> LowRank | None:
    down, up, magnitude = (found.get(role) for role in ("down", "up", "magnitude"))
    if down is None and up is None and magnitude is None and "up_bias" not in found:
        return None
    if down is None or up is None:
        raise _refused(f"{module} has one of LoRA's two matrices, and not the other")
    if len(down.shape) != 2 or len(up.shape) != 2 or not down.shape[0] == up.shape[1] > 0:
        shapes = f"{list(down.shape)} and {list(up.shape)}"
        raise _refused(f"the matrices of {module} do not fit each other: {shapes}")
    if (magnitude is not None) != config.dora:
        there = "has none" if config.dora else "has one"
        raise _refused(
            f"use_dora is {str(config.dora).lower()}, and {module} {there} of its magnitudes"
        )
    scaling = config.scaling(module, down.shape[0])
    return LowRank(down=down, up=up, scaling=scaling, magnitude=magnitude, embedding=embedding)


def _refused(rule: str) -> BadModel:
    return BadModel("corrupt adapter", f"{SINGLE}: {rule}", SAVE_AGAIN)
