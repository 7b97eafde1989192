"""What is known of a model in another program's files, which must be converted first.

The headers are read where hostile files do no harm: in the process that converts. What stands in
`error` keeps it from being converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from gptcli.checkpoints import sources
from gptcli.checkpoints.sources import ModelSource
from gptcli.errors import GptcliError

SIZES = {  # by the names of `gptcli.models.facts`
    "context": "n_positions",
    "layers": "n_layer",
    "width": "n_embd",
    "heads": "n_head",
    "vocabulary": "vocab_size",
}


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """Another program's model; what its headers do not tell is left out."""

    path: Path
    source: ModelSource
    command: str  # that converts it
    sizes: Mapping[str, int] = field(default_factory=dict)
    parameters: int | None = None
    dtypes: tuple[str, ...] = ()  # of the numbers, the most frequent first
    tokenizer: tuple[str, ...] = ()  # the files that a conversion makes
    files: Mapping[str, int] = field(default_factory=dict)  # bytes by name
    notices: tuple[str, ...] = ()
    error: str = ""

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON; the keys are those of a model of ours."""
        return {
            "name": str(self.path),
            "source": "path",
            "path": str(self.source.folder),
            "format": self.source.kind,
            **{name: self.sizes.get(name) for name in SIZES},
            "dtypes": list(self.dtypes),
            "parameters": {"total": self.parameters},
            "tokenizer": {"files": list(self.tokenizer)},
            "bytes": sum(self.files.values()),
            "files": [{"name": name, "bytes": size} for name, size in self.files.items()],
            "passes": False,
            "command": None if self.error else self.command,
            "error": self.error or None,
            "notices": list(self.notices),
        }


def about_foreign(path: Path, source: ModelSource) -> ForeignModel:
    """Look at a model's headers. Raises nothing for what is in the files."""
    files = {file.name: file.stat().st_size for file in source.files if file.is_file()}
    command = sources.command(path, source)
    try:
        from gptcli.checkpoints.formats import conversion

        told = conversion.look(source)
    except GptcliError as error:
        return ForeignModel(
            path=path, source=source, command=command, files=files, error=error.message
        )
    config: Mapping[str, Any] = told["config"] or {}
    counts: dict[str, int] = {}
    for tensor in told["tensors"].values():
        dtype, shape = str(tensor["dtype"]), tensor["shape"]
        assert isinstance(shape, list)
        counts[dtype] = counts.get(dtype, 0) + prod(shape)
    return ForeignModel(
        path=path,
        source=source,
        command=command,
        sizes={name: config[key] for name, key in SIZES.items() if type(config.get(key)) is int},
        parameters=sum(counts.values()),
        dtypes=tuple(sorted(counts, key=lambda dtype: -counts[dtype])),
        tokenizer=tuple(sorted(told["texts"])),
        files=files,
        notices=tuple(told["notices"]),
    )
