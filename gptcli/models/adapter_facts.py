"""All that is known of an adapter without its base: `gptcli models info ADAPTER`.

Nothing is raised for what is in the folder: a fault stands in `error`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gptcli.checkpoints.adapters.parts import AdapterParts, read_parts
from gptcli.checkpoints.adapters.reference import Adapter
from gptcli.checkpoints.adapters.said import lines_of
from gptcli.checkpoints.resolve import Checkpoint
from gptcli.errors import GptcliError
from gptcli.models.cache import snapshot_files


@dataclass(frozen=True, kw_only=True)
class AboutAdapter:
    """What is known of an adapter; `read` is None for one that cannot be applied."""

    checkpoint: Checkpoint
    read: AdapterParts | None
    files: Mapping[str, int]  # bytes by name
    error: str = ""

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        config = self.read.config if self.read else None
        return {
            "name": self.checkpoint.name,
            "kind": "adapter",
            "source": self.checkpoint.source,
            "revision": self.checkpoint.revision,
            "path": str(self.checkpoint.folder),
            "base": config.base if config else None,
            "base_revision": config.base_revision if config else None,
            "base_sha256": config.base_sha256 if config else None,
            "rank": config.rank if config else None,
            "alpha": config.alpha if config else None,
            "scales": list(self.scales),
            "tensors": self.read.tensors if self.read else None,
            "applies": list(lines_of(self.read)) if self.read else [],
            "bytes": sum(self.files.values()),
            "files": [{"name": name, "bytes": size} for name, size in self.files.items()],
            "passes": not self.error,
            "error": self.error or None,
        }

    @property
    def scales(self) -> tuple[float, ...]:
        """What B A is multiplied by, of all modules."""
        parts = self.read.parts.values() if self.read else ()
        return tuple(sorted({part.low_rank.scaling for part in parts if part.low_rank}))


def about_adapter(checkpoint: Checkpoint) -> AboutAdapter:
    """Look at an adapter's folder."""
    deep = checkpoint.source != "path"
    files = {file.name: file.size for file in snapshot_files(checkpoint.folder, deep)}
    adapter = Adapter(name=checkpoint.name, folder=checkpoint.folder, revision=checkpoint.revision)
    try:
        return AboutAdapter(checkpoint=checkpoint, read=read_parts(adapter), files=files)
    except GptcliError as error:
        return AboutAdapter(checkpoint=checkpoint, read=None, files=files, error=str(error))
