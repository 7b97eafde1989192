"""adapter_config.json, read without trust: LoRA and what belongs to it; the rest is refused.

Keys that are not known do no harm. What is known to change the result, and is not computed here, is
refused by name: an adapter is applied whole or not at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gptcli.checkpoints.adapters.patterns import BadPattern, matches, matching
from gptcli.checkpoints.adapters.reference import CONFIG
from gptcli.errors import BadModel
from gptcli.system.strict_json import Object, read_object

SAVE_AGAIN = "Save the adapter again with peft's save_pretrained."
MERGE = (
    "Merge it with peft, and use the model: PeftModel.from_pretrained(...).merge_and_unload()"
    ".save_pretrained(FOLDER)"
)
MAX_ALPHA, MAX_RANK, MAX_PATTERNS, MAX_TOKENS = 1e6, 2**16, 4096, 2**20
HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # the base stays as it is
UNKNOWN = {  # keys whose values change what is computed, in ways that are not computed here
    "target_parameters": "LoRA on bare parameters (target_parameters)",
    "layer_replication": "repeated layers (layer_replication)",
    "use_qalora": "QA-LoRA (use_qalora)",
    "use_bdlora": "BD-LoRA (use_bdlora)",
    "arrow_config": "Arrow routing (arrow_config)",
    "kasa_config": "KaSA (kasa_config)",
    "monteclora_config": "MonteCLoRA (monteclora_config)",
    "alora_invocation_tokens": "aLoRA, which begins at a token (alora_invocation_tokens)",
    "megatron_config": "Megatron's layers (megatron_config)",
}
TIED_NAMES = ("embed_tokens", "lm_head")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What decides how an adapter's tensors are applied."""

    folder: Path
    base: str | None
    base_revision: str | None
    base_sha256: str | None  # of the base's content, where we wrote the adapter
    rank: int | None
    alpha: float
    rslora: bool
    dora: bool
    ensure_tying: bool
    modules_to_save: tuple[str, ...] = ()
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    tokens: Mapping[str, tuple[int, ...]] | tuple[int, ...] = ()

    def scaling(self, module: str, rank: int) -> float:
        """What multiplies B A of a module whose tensors have this rank. Raises BadModel."""
        told = self._of(self.ranks, "rank_pattern", module, self.rank)
        if told is not None and told != rank:
            why = f"{CONFIG} says rank {told} for {module}, and its tensors have {rank}"
            raise BadModel("corrupt adapter", why, SAVE_AGAIN)
        alpha = self._of(self.alphas, "alpha_pattern", module, self.alpha)
        assert alpha is not None
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank

    def rows(self, module: str) -> tuple[int, ...] | None:
        """The token ids whose embeddings a module has of its own."""
        if isinstance(self.tokens, tuple):
            return self.tokens or None
        return next((ids for name, ids in self.tokens.items() if module.endswith(name)), None)

    def saves(self, module: str) -> bool:
        """Whether modules_to_save names a module."""
        return any(module.endswith(name) for name in self.modules_to_save)

    def _of(
        self, patterns: Mapping[str, float], key: str, module: str, default: float | None
    ) -> float | None:
        try:
            found = matching(patterns, module)
        except BadPattern as error:
            raise _bad(f"a pattern of {key}: {error}") from None
        return default if found is None else patterns[found]


def read_config(folder: Path) -> AdapterConfig:
    """The configuration of an adapter's folder. Raises BadModel, MissingInput."""
    said = read_object(folder / CONFIG)
    _refuse_kinds(said)
    alpha = _number(said, "lora_alpha")
    if alpha is None:
        why = f"{CONFIG} has no lora_alpha, which says how strongly it is applied"
        raise BadModel("corrupt adapter", why, SAVE_AGAIN)
    rank = _number(said, "r")
    own = said.get("gptcli")
    digest = own.get("base_sha256") if isinstance(own, Mapping) else None
    saved = said.get("modules_to_save") or []
    if not isinstance(saved, list) or not all(isinstance(name, str) for name in saved):
        raise _bad("modules_to_save is no list of names")
    return AdapterConfig(
        folder=folder,
        base=_text(said, "base_model_name_or_path"),
        base_revision=_text(said, "revision"),
        base_sha256=digest if isinstance(digest, str) and _SHA256.fullmatch(digest) else None,
        rank=None if rank is None else _rank(rank, "r"),
        alpha=alpha,
        rslora=_switch(said, "use_rslora"),
        dora=_switch(said, "use_dora"),
        ensure_tying=_ties(said),
        modules_to_save=tuple(saved),
        ranks={name: _rank(value, name) for name, value in _patterns(said, "rank_pattern").items()},
        alphas=_patterns(said, "alpha_pattern"),
        tokens=_tokens(said.get("trainable_token_indices")),
    )


def _refuse_kinds(said: Object) -> None:
    kind = said.get("peft_type")
    if kind != "LORA":
        named = f"peft_type {kind!r:.60}" if kind else f"{CONFIG} names no peft_type"
        raise BadModel("unknown adapter", f"{named}: only LoRA and its kinds are applied", MERGE)
    for key, name in UNKNOWN.items():
        if said.get(key):
            raise BadModel("unknown adapter", f"{name} is not applied here", MERGE)
    start = said.get("init_lora_weights")
    if start not in HARMLESS_STARTS:
        why = f"init_lora_weights {start!r:.60} changes the base's own weights"
        hint = "Convert it to LoRA: save_pretrained(..., path_initial_model_for_weight_conversion)."
        raise BadModel("unknown adapter", why, hint)


def _bad(rule: str) -> BadModel:
    return BadModel("corrupt adapter", f"{CONFIG}: {rule}", SAVE_AGAIN)


def _text(said: Object, key: str) -> str | None:
    value = said.get(key)
    return value if isinstance(value, str) and value else None


def _switch(said: Object, key: str) -> bool:
    value = said.get(key)
    if value not in (None, True, False):
        raise _bad(f"{key} is neither true nor false")
    return bool(value)


def _ties(said: Object) -> bool:
    """Whether PEFT keeps head and embedding one: it does so for two names of modules alone."""
    if not _switch(said, "ensure_weight_tying"):
        return False
    targets, saved = said.get("target_modules"), said.get("modules_to_save")
    if isinstance(targets, str):
        try:
            if any(matches(targets, name) for name in TIED_NAMES):
                return True
        except BadPattern:
            return False
        targets = []
    named = [*(targets if isinstance(targets, list) else []), *(saved or [])]  # type: ignore[misc]
    return any(str(name).rpartition(".")[2] in TIED_NAMES for name in named)


def _number(said: Object, key: str) -> float | None:
    value = said.get(key)
    return None if value is None else _checked(value, key)


def _checked(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_ALPHA:
        raise _bad(f"{key[:60]} is no number up to {MAX_ALPHA:g}")
    return value


def _rank(value: float, key: str) -> int:
    if value != int(value) or not 1 <= value <= MAX_RANK:
        raise _bad(f"{key[:60]} is no rank from 1 to {MAX_RANK}")
    return int(value)


def _patterns(said: Object, key: str) -> dict[str, float]:
    value = said.get(key) or {}
    if not isinstance(value, Mapping) or len(value) > MAX_PATTERNS:
        raise _bad(f"{key} is no object of at most {MAX_PATTERNS} patterns")
    return {name: _checked(number, f"{key} of {name}") for name, number in value.items()}


def _tokens(value: object) -> Mapping[str, tuple[int, ...]] | tuple[int, ...]:
    if isinstance(value, Mapping):
        return {str(name): _ids(ids) for name, ids in value.items()}
    return _ids(value or [])


def _ids(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_TOKENS:
        raise _bad("trainable_token_indices is no list of ids")
    if not all(type(id) is int and id >= 0 for id in value) or len(set(value)) < len(value):
        raise _bad("trainable_token_indices holds what is no id, or one twice")
    return tuple(value)
