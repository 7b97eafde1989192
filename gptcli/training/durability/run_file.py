"""run.json: what a run is made from, to compare a later command with, and how far it came.

A run goes on only with what gives the same weights at each step. What only looks at them, or keeps
them, may change: see `gptcli.training.durability.changes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gptcli.errors import BadInput
from gptcli.system import durable
from gptcli.system.strict_json import parse_object
from gptcli.training.data.corpus import TrainingFile
from gptcli.training.settings import LoraSettings, TrainingSettings

FORMAT = 1
MAX_RUN_BYTES = 2**24  # a folder of 100,000 files takes that
WAY_OUT = "Start anew with --force, or write elsewhere with -o."


@dataclass(frozen=True, kw_only=True)
class RunMachine:
    """What may change the last bits of a sum."""

    torch: str
    threads: int
    device: str
    micro_tokens: int


@dataclass(frozen=True, kw_only=True)
class RunData:
    """The data by its digest, and its files, to say which changed."""

    digest: str
    documents: int
    documents_by: str
    sources: tuple[TrainingFile, ...]


@dataclass(frozen=True, kw_only=True)
class RunModel:
    """The model: config.json, and the SHA-256 of the files of what it began with.

    base: what is fine-tuned, None for a new model. files: the base's, and the tokenizer's.
    """

    base: str | None
    revision: str | None
    config: Mapping[str, object]
    files: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """Contents of run.json. `asked`: the options that were given, by name, as JSON has them."""

    id: str
    version: str
    asked: Mapping[str, object]
    settings: TrainingSettings
    machine: RunMachine
    model: RunModel
    data: RunData
    last: int | None = None  # the step of the newest checkpoint
    best: int | None = None  # of that with the least validation loss
    ending: str | None = None  # why it ended, None while it may go on
    made: Mapping[str, object] = field(default_factory=dict)  # of a run that ended: its figures

    def but(self, **changes: Any) -> RunFile:
        """The same with some changes."""
        return replace(self, **changes)


def write_run(path: Path, run: RunFile) -> None:
    """Replace the file, durably. Raises OSError."""
    text = json.dumps({"format": FORMAT, **asdict(run)}, ensure_ascii=False, indent=1) + "\n"
    durable.save_as(durable.part_of(path), path, text.encode("utf-8", "backslashreplace"))


def read_run(path: Path) -> RunFile | None:
    """The run of a folder, None where there is none.

    Raises BadInput, naming the rule, for a file that is broken or not ours; OSError.
    """
    try:
        data = durable.read_small(path, MAX_RUN_BYTES)
        return None if data is None else _run(dict(parse_object(data)))
    except ValueError as error:
        raise BadInput(str(path), str(error), WAY_OUT) from None


def _run(found: dict[str, Any]) -> RunFile:
    if found.pop("format", None) != FORMAT:
        raise ValueError(f"it is not of format {FORMAT}")
    whole: RunFile = _built(RunFile, found)
    settings = _built(TrainingSettings, found["settings"])
    if settings.lora is not None:
        lora = _built(LoraSettings, found["settings"]["lora"])
        settings = replace(settings, lora=replace(lora, targets=tuple(lora.targets)))
    data = _built(RunData, found["data"])
    sources = tuple(_built(TrainingFile, source) for source in found["data"]["sources"])
    return whole.but(
        settings=settings,
        machine=_built(RunMachine, found["machine"]),
        model=_built(RunModel, found["model"]),
        data=replace(data, sources=sources),
    )


def _built(kind: Any, found: object) -> Any:
    """A dataclass of the values of an object. Raises ValueError for missing or strange keys."""
    if not isinstance(found, dict):
        raise ValueError(f"{kind.__name__} is not an object")
    known = {item.name: item.type for item in fields(kind)}
    if strange := sorted(known.keys() ^ found.keys()):
        raise ValueError(f"{'lacks' if strange[0] in known else 'has'} {strange[0]!r:.40}")
    for name, hint in known.items():
        if not _fits(found[name], str(hint)):
            raise ValueError(f"{name} has a wrong type")
    return kind(**found)


_PLAIN: Mapping[str, Any] = {"str": str, "int": int, "float": (int, float), "None": type(None)}


def _fits(value: object, hint: str) -> bool:
    """Whether a value of JSON can be that of a field."""
    parts = [part.strip() for part in hint.split("|")]
    if hint.startswith("Mapping") or "LoraSettings" in parts:
        return isinstance(value, dict) or ("None" in parts and value is None)
    if hint.startswith("tuple"):
        return isinstance(value, list)
    kinds = [_PLAIN[part] for part in parts if part in _PLAIN]
    if not kinds:  # a dataclass or a word, which is checked where it is used
        return isinstance(value, dict | str)
    return not isinstance(value, bool) and any(isinstance(value, kind) for kind in kinds)
