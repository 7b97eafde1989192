"""An adapter that was found: what it is called, where it lies, how strongly it is applied."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gptcli.checkpoints.integrity.content import published

CONFIG, SINGLE = "adapter_config.json", "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
CONFIG_OF_MODELS = "config.json"


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A folder with an adapter; `scale` multiplies all that it changes."""

    name: str  # the folder as given, or the Hub id
    folder: Path
    scale: float = 1.0
    revision: str | None = None  # a Hub repository's commit

    @property
    def pinned(self) -> str:
        """The value of `--adapter` that means the very same from any folder."""
        named = str(self.folder.absolute())
        if self.revision is not None:
            named = f"{self.name}@{self.revision}"
        return f"{named}={self.scale!r}"


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What adapters made of a model: `applied` says in words what each of them changed.

    tokenizer_folder: where one of them brings the tokens, too.
    """

    adapters: tuple[Adapter, ...] = ()
    applied: tuple[str, ...] = ()
    tokenizer_folder: Path | None = None


NOT_ADAPTED = Adapted()


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and no whole model."""
    return (folder / CONFIG).exists() and not (folder / CONFIG_OF_MODELS).exists()


def contents(adapters: Sequence[Adapter]) -> dict[str, str]:
    """The SHA-256 of each adapter's files, by names that tell place and scale, not the folder.

    So one adapter is the same wherever it lies. Raises MissingInput, BadModel.
    """
    found: dict[str, str] = {}
    for number, adapter in enumerate(adapters, 1):
        files = published([adapter.folder / CONFIG, adapter.folder / SINGLE], adapter.name)
        for path, digest in files.items():
            found[f"adapter {number} x{adapter.scale:g} {path.name}"] = digest
    return found


def fingerprint(adapters: Sequence[Adapter]) -> str:
    """A digest of all adapters with their scales; empty without any. Errors as `contents`."""
    if not adapters:
        return ""
    lines = [f"{name}\0{digest}" for name, digest in contents(adapters).items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
