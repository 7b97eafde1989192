"""A folder of a model, checked, with its adapters: the one place where they come together.

A GPT-2's tensors are changed here, for every network that reads them. Other architectures are
changed when transformers has loaded them, see `gptcli.engines.adapted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gptcli.checkpoints.adapters.overlay import with_adapters
from gptcli.checkpoints.adapters.parts import read_parts
from gptcli.checkpoints.adapters.reference import NOT_ADAPTED, Adapted, Adapter, contents
from gptcli.checkpoints.integrity.content import content
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.checkpoints.tokenization.files import has_tokenizer, names_in, tokenizer_files
from gptcli.errors import BadModel

EMBEDDINGS = ("wte", "embed_tokens", "embed_in", "word_embeddings", "lm_head")


def inspect_adapted(
    folder: Path, adapters: Sequence[Adapter], name: str
) -> tuple[CheckedCheckpoint, Adapted]:
    """The checked checkpoint as adapters make it, and what was applied.

    Raises as `inspect`; BadModel where an adapter does not fit, WriteFailed without room for it.
    """
    checked = inspect(folder)
    if not adapters:
        return checked, NOT_ADAPTED
    found = tokenizer_folder(folder, adapters)
    words = None if found == folder else found
    checked, applied = with_adapters(checked, adapters, name)
    return checked, Adapted(
        adapters=tuple(adapters),
        applied=applied,
        tokenizer_folder=words if words != folder else None,
    )


def content_of(folder: Path, adapters: Sequence[Adapter], name: str) -> dict[str, str]:
    """What decides what a model writes: its files and those of its adapters, with their scales.

    Raises BadModel, MissingInput.
    """
    return content(folder, name) | contents(adapters)


def tokenizer_folder(base: Path, adapters: Sequence[Adapter]) -> Path:
    """Where the tokenizer is: an adapter with embeddings of its own may bring the tokens for them.

    Raises BadModel where two adapters bring different ones.
    """
    found: dict[Path, dict[str, bytes]] = {}
    for adapter in adapters:
        if not has_tokenizer(names := names_in(adapter.folder)):
            continue
        modules = {module.rpartition(".")[2] for module, _ in read_parts(adapter).parts}
        if modules & {*EMBEDDINGS}:
            files = sorted(tokenizer_files(set(names)))
            found[adapter.folder] = {name: (adapter.folder / name).read_bytes() for name in files}
    if not found:
        return base
    first, *others = found
    if any(found[other] != found[first] for other in others):
        why = f"{first.name} and {others[0].name} bring different tokenizers"
        raise BadModel("adapters that do not fit", why, "Give one of them alone.")
    return first
