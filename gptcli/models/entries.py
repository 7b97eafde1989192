"""A line for every model on the machine: what it is, and whether it can be used.

Nothing here fails for what it finds: a model that cannot be read is a line that says why. A folder
of weights is judged by its config.json and the names of its files; what the files hold is for
`gptcli.checkpoints.preflight` and `gptcli.models.verification`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gptcli.checkpoints import int8_store
from gptcli.checkpoints.adapters.config import read_config
from gptcli.checkpoints.adapters.reference import is_adapter
from gptcli.checkpoints.config_json import CONFIG, context_of, model_type
from gptcli.checkpoints.names import BUNDLED
from gptcli.checkpoints.resolve import BUNDLE, missing
from gptcli.checkpoints.safetensors_headers import PICKLED
from gptcli.errors import BadModel, GptcliError
from gptcli.models.cache import Repository, Snapshot, repositories, snapshot_files
from gptcli.system.strict_json import Object, read_object
from gptcli.system.units import model_size

ModelOrigin = Literal["cached", "adapter", "bundled", "int8"]
State = Literal["complete", "incomplete", "broken", "other"]
WRITES = re.compile(r"GPT2.*|.*(CausalLM|LMHead).*")  # classes of models that continue text


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """A model on the machine, or one revision of it.

    `state`: `incomplete` lacks the files `missing`, `broken` has files that cannot be read, `other`
    is no model that continues text; `fault` says more.
    """

    name: str
    kind: ModelOrigin
    state: State
    path: Path
    size: int  # bytes
    fault: str = ""
    missing: tuple[str, ...] = ()
    revision: str | None = None  # the commit
    refs: tuple[str, ...] = ()  # branches and tags that mean it
    used: datetime | None = None  # UTC
    architecture: str | None = None
    context: int | None = None  # tokens

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "revision": self.revision,
            "refs": list(self.refs),
            "bytes": self.size,
            "used": self.used.isoformat(timespec="seconds") if self.used else None,
            "architecture": self.architecture,
            "context": self.context,
            "state": self.state,
            "fault": self.fault or None,
            "missing": list(self.missing),
            "path": str(self.path),
        }


@dataclass(frozen=True)
class Inventory:
    """All models; `others` counts what else is in the cache, such as datasets.

    `cached`: those of the cache as they lie there, which `entries` has by their revisions.
    """

    entries: tuple[ListedModel, ...]
    cached: tuple[Repository, ...]
    others: dict[str, int]


def inventory() -> Inventory:
    """Every model on the machine, by name; int8 weights after the model they were made from."""
    models, others = repositories()
    found = [entry for model in models for entry in _of_repository(model)]
    found += [_bundled(), *(_packed(entry) for entry in int8_store.entries())]
    return Inventory(tuple(sorted(found, key=_place)), tuple(models), others)


def _place(entry: ListedModel) -> tuple[str, bool]:
    return entry.name.lower(), entry.kind == "int8"


@dataclass(frozen=True)
class Nature:
    """What a folder's config.json says it is."""

    architecture: str | None = None
    context: int | None = None
    state: State = "complete"
    fault: str = ""


def nature(folder: Path) -> Nature:
    """What kind of model a folder holds; `incomplete` without config.json. Raises nothing."""
    file = folder / CONFIG
    if is_adapter(folder):
        return _of_adapter(folder)
    if not file.exists():
        return Nature(state="incomplete")
    try:
        config = read_object(file)
        kind, context = model_type(config, file), context_of(config)
    except GptcliError as error:
        return Nature(
            state="broken", fault=error.why if isinstance(error, BadModel) else error.message
        )
    classes = _classes(config)
    if classes and not any(map(WRITES.fullmatch, classes)):
        return Nature(kind, context, "other", f"no causal language model: {classes[0]}")
    return Nature(kind, context)


def _of_adapter(folder: Path) -> Nature:
    try:
        base = read_config(folder).base
    except GptcliError as error:
        return Nature(state="broken", fault=error.message)
    return Nature(f"LoRA of {base or 'an unnamed base'}")


def _classes(config: Object) -> list[str]:
    named = config.get("architectures")
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []


def _of_repository(model: Repository) -> list[ListedModel]:
    if not model.snapshots:
        begun = f", only an unfinished download of {model_size(model.unfinished)}"
        return [
            ListedModel(
                name=model.id,
                kind="cached",
                state="incomplete" if model.unfinished else "broken",
                fault=model.fault + (begun if model.unfinished else ""),
                path=model.folder,
                size=model.unfinished,
            )
        ]
    return [_of_snapshot(model, snapshot) for snapshot in model.snapshots]


def _of_snapshot(model: Repository, snapshot: Snapshot) -> ListedModel:
    about = nature(snapshot.folder)
    lacking = missing(snapshot.folder) if about.state != "other" else ()
    state, fault = about.state, about.fault
    broken = next((file for file in snapshot.files if file.fault), None)
    if state != "broken" and broken is not None:
        state, fault = "broken", f"{broken.name}: {broken.fault}"
    elif state in ("complete", "incomplete"):
        state = "incomplete" if lacking else "complete"
        fault = _lack(snapshot.folder, lacking) or model.fault
    return ListedModel(
        name=model.id,
        kind="adapter" if is_adapter(snapshot.folder) else "cached",
        state=state,
        fault=fault,
        missing=lacking,
        revision=snapshot.commit,
        refs=snapshot.refs,
        path=snapshot.folder,
        size=snapshot.size,
        used=datetime.fromtimestamp(snapshot.used, UTC) if snapshot.used else None,
        architecture=about.architecture,
        context=about.context,
    )


def _lack(folder: Path, lacking: tuple[str, ...]) -> str:
    if not lacking:
        return ""
    if lacking == ("model.safetensors",) and any((folder / name).exists() for name in PICKLED):
        return "its weights are a pickle: see gptcli models convert"
    return f"no {', '.join(lacking)}"


def _bundled() -> ListedModel:
    about = nature(BUNDLE)
    return ListedModel(
        name=BUNDLED,
        kind="bundled",
        state="incomplete" if missing(BUNDLE) else about.state,
        fault=about.fault,
        missing=missing(BUNDLE),
        path=BUNDLE,
        size=sum(file.size for file in snapshot_files(BUNDLE)),
        architecture=about.architecture,
        context=about.context,
    )


def _packed(entry: int8_store.StoredWeights) -> ListedModel:
    return ListedModel(
        name=entry.model or "(unreadable)",
        kind="int8",
        state="complete" if entry.model else "broken",
        fault="" if entry.model else "its header cannot be read",
        path=entry.path,
        size=entry.size,
        used=entry.used,
        architecture="gpt2" if entry.model else None,
    )
