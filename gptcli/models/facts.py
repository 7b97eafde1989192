"""All that is known of one model without loading it: `gptcli models info`.

Every part is found for itself, so that a broken model still shows what can be read of it: what
keeps it from running stands in `error`. Counts and sizes come from config.json and from the
headers of the weights, without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from gptcli.chat_templates import choose
from gptcli.checkpoints import sources
from gptcli.checkpoints.config_json import CONFIG
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.checkpoints.resolve import Checkpoint, missing
from gptcli.checkpoints.safetensors_headers import INDEX, SINGLE, read_tensors
from gptcli.checkpoints.tokenization.kinds import describe, recognise
from gptcli.checkpoints.tokenization.roles import model_config, named_roles
from gptcli.errors import BadModel, GptcliError
from gptcli.models.cache import snapshot_files
from gptcli.models.card import CardFields, read_card
from gptcli.models.entries import nature
from gptcli.models.parts import Memory, Parameters, memory, parameters
from gptcli.system.strict_json import Object, read_object

SETTINGS = {  # what a configuration says, under the names that architectures give it
    "layers": ("n_layer", "num_hidden_layers"),
    "width": ("n_embd", "hidden_size"),
    "heads": ("n_head", "num_attention_heads"),
    "vocabulary": ("vocab_size",),
}


@dataclass(frozen=True, kw_only=True)
class TemplateInfo:
    """How one chats with a model: by the checkpoint's own template, or by one of ours."""

    kind: str  # own, eos, transcript
    file: str | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class TokenizerInfo:
    """How a model's text becomes tokens: the kind, the class that the files name, and the files."""

    kind: str | None = None
    class_name: str | None = None
    files: tuple[str, ...] = ()
    error: str = ""

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "kind": self.kind,
            "class": self.class_name,
            "files": list(self.files),
            "error": self.error or None,
        }


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a model; None where it is not known, or means nothing for it."""

    checkpoint: Checkpoint
    format: str | None  # of a model that must be converted first
    architecture: str | None
    context: int | None
    settings: Mapping[str, int]
    dtypes: tuple[str, ...]  # of the stored numbers, the most frequent first
    total: int | None  # parameters
    tied: bool | None
    parts: Parameters | None  # of a GPT-2
    memory: Memory | None  # of a GPT-2
    tokenizer: TokenizerInfo
    template: TemplateInfo
    card: CardFields | None
    files: Mapping[str, int]  # bytes by name
    missing: tuple[str, ...]
    error: str  # why it cannot run; empty if preflight passes
    notices: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        parts = self.parts.to_dict() if self.parts else {}
        template = {"kind": self.template.kind, "file": self.template.file}
        return {
            "name": self.checkpoint.name,
            "source": self.checkpoint.source,
            "revision": self.checkpoint.revision,
            "path": str(self.checkpoint.folder),
            "format": self.format,
            "architecture": self.architecture,
            "context": self.context,
            **{name: self.settings.get(name) for name in SETTINGS},
            "dtypes": list(self.dtypes),
            "parameters": {"total": self.total, **parts},
            "head_tied": self.tied,
            "memory": self.memory.to_dict() if self.memory else None,
            "tokenizer": self.tokenizer.to_dict(),
            "chat_template": template | {"error": self.template.error or None},
            "card": self.card,
            "bytes": sum(self.files.values()),
            "files": [{"name": name, "bytes": size} for name, size in self.files.items()],
            "missing": list(self.missing),
            "passes": not self.error,
            "error": self.error or None,
            "notices": list(self.notices),
        }


def about(checkpoint: Checkpoint) -> About:
    """Look at a model's folder. Raises nothing for what is in it."""
    folder = checkpoint.folder
    deep = checkpoint.source != "path"  # anything may lie below a folder of one's own
    kind = nature(folder)
    manifest, error = _inspected(folder)
    lacking = missing(folder)
    if lacking and not error:
        error = f"incomplete: no {', '.join(lacking)}"
    elif kind.state == "other" and not error:
        error = kind.fault
    tokenizer = _tokenizer(folder)
    error = error or tokenizer.error
    gpt2 = manifest.gpt2 if manifest else None
    total, dtypes = _numbers(folder)
    return About(
        checkpoint=checkpoint,
        format=_format(folder),
        architecture=kind.architecture,
        context=gpt2.n_positions if gpt2 else kind.context,
        settings=_settings(folder),
        dtypes=dtypes,
        total=gpt2.parameters if gpt2 else total,
        tied=gpt2.tie_word_embeddings if gpt2 else None,
        parts=parameters(gpt2) if gpt2 else None,
        memory=memory(gpt2) if gpt2 else None,
        tokenizer=tokenizer,
        template=_template(checkpoint),
        card=read_card(folder),
        files={file.name: file.size for file in snapshot_files(folder, deep)},
        missing=lacking,
        error=error,
        notices=checkpoint.notices + (manifest.notices if manifest else ()),
    )


def _inspected(folder: Path) -> tuple[CheckedCheckpoint | None, str]:
    try:
        return inspect(folder), ""
    except GptcliError as error:
        return None, str(error)


def _format(folder: Path) -> str | None:
    """What another program's files in a folder without safetensors are."""
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        return None
    try:
        found = sources.recognise(folder)
    except GptcliError:
        return None
    return found.kind if found else None


def _numbers(folder: Path) -> tuple[int | None, tuple[str, ...]]:
    """How many numbers the weights' files hold, and of which dtypes."""
    try:
        tensors = read_tensors(folder).values()
    except GptcliError:
        return None, ()
    counts: dict[str, int] = {}
    for tensor in tensors:
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + prod(tensor.shape)
    return sum(counts.values()), tuple(sorted(counts, key=lambda dtype: -counts[dtype]))


def _settings(folder: Path) -> dict[str, int]:
    try:
        config: Object = read_object(folder / CONFIG)
    except GptcliError:
        return {}
    found = {}
    for name, keys in SETTINGS.items():
        values = [config[key] for key in keys if type(config.get(key)) is int]
        if values:
            found[name] = int(str(values[0]))
    return found


def _tokenizer(folder: Path) -> TokenizerInfo:
    try:
        found = recognise(folder, named_roles(folder), model_config(folder))
        kind = describe(found)
    except GptcliError as error:
        return TokenizerInfo(error=str(error))
    return TokenizerInfo(
        kind=kind,
        class_name=found.class_name if found.class_name and found.explicit else None,
        files=tuple(file.name for file in found.files),
    )


def _template(checkpoint: Checkpoint) -> TemplateInfo:
    try:
        found = choose("auto", checkpoint.folder, checkpoint.name)
    except BadModel as error:
        return TemplateInfo(kind="own", error=error.message)
    except GptcliError as error:
        return TemplateInfo(kind="transcript", error=error.message)
    return TemplateInfo(kind=found.name, file=getattr(found, "file", None))
