"""Whether a base is the one that an adapter was made for, where the adapter says so.

PEFT's files name the base by its name alone, which says little. What we write keeps a digest of the
base's content, and that decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gptcli.checkpoints.adapters.parts import AdapterParts
from gptcli.checkpoints.integrity.content import content, digest_of
from gptcli.errors import BadModel


def check_base(adapters: Sequence[AdapterParts], folder: Path, label: str) -> None:
    """Raise BadModel where an adapter says that it was made for another model than this one."""
    if not any(adapter.config.base_sha256 for adapter in adapters):
        return
    here = digest_of(content(folder, label))
    for adapter in adapters:
        told = adapter.config.base_sha256
        if told is not None and told != here:
            made_for = adapter.config.base or "another model"
            why = f"it was made for {made_for} ({told[:12]}), and {label} is {here[:12]}"
            hint = "Give its own base with -m, with the very files that it was trained on."
            raise BadModel(f"adapter {adapter.adapter.name}", why, hint)
