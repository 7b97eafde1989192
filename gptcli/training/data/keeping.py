"""A corpus as it lies in a folder: data.json beside the arrays, and opening it again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gptcli.checkpoints.integrity import digests
from gptcli.errors import BadInput, CannotCreate, GptcliError, UsageError
from gptcli.system import durable
from gptcli.training.data.corpus import TrainingCorpus, TrainingFile
from gptcli.training.data.pieces import PieceTable
from gptcli.training.data.store import mapped
from gptcli.training.data.tabulating import COLUMNS, TableWriter
from gptcli.training.data.writing import IDS

ABOUT = "data.json"
VERSION = 1
MAX_ABOUT_BYTES = 1 << 28
ANEW = "Give the former one, or another folder with -o."


def save(
    folder: Path,
    made_of: Mapping[str, object],
    ids: Mapping[str, object],
    tables: Mapping[str, TableWriter],
    about: Mapping[str, object],
) -> None:
    """Write data.json. Raises OSError."""
    files = {IDS: str(ids["sha256"])}
    for table in tables.values():
        files |= {file.path.name: file.sha256 for file in table.files.values()}
    digest = hashlib.sha256("".join(files[name] for name in sorted(files)).encode()).hexdigest()
    content = {
        "version": VERSION,
        "made_of": dict(made_of),
        "ids": dict(ids),
        "tables": {
            name: {
                "pieces": table.files["starts"].count,
                "tokens": table.tokens,
                "muted": table.muted,
            }
            for name, table in tables.items()
        },
        "files": files,
        "digest": digest,
        **about,
    }
    durable.save(folder / ABOUT, json.dumps(content, indent=1, ensure_ascii=False).encode())


def reopened(folder: Path, made_of: Mapping[str, object]) -> TrainingCorpus:
    """The corpus of a folder.

    Raises UsageError (made with other settings), BadInput (damaged), CannotCreate (no corpus).
    """
    if not os.path.lexists(folder / ABOUT):
        why = "it is there, and holds no data of a run"
        raise CannotCreate(str(folder), why, "Give another folder with -o.")
    try:
        data = durable.read_small(folder / ABOUT, MAX_ABOUT_BYTES)
        about = json.loads(data or b"")
        _check_same(about["made_of"], made_of)
        for name, digest in about["files"].items():
            if "/" in name or digests.digest(folder / name) != digest:
                raise ValueError(f"{name} is not what was written")
        return _corpus(folder, about)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"it is damaged: {error}"
    except GptcliError as error:
        if isinstance(error, UsageError):
            raise
        why = f"it is damaged: {error.message}"
    raise BadInput(str(folder), why[:300], "Remove this folder: it is made anew of the data.")


def _check_same(then: Mapping[str, object], now: Mapping[str, object]) -> None:
    """Raises UsageError, by the name of what differs."""
    for name, value in now.items():
        if then.get(name) != value:
            shown = f"it was {then.get(name)} when this run began, and is {value} now"
            if name == "tokenizer":
                shown = "it is another one than when this run began"
            what = name if name.startswith("--") else f"the {name}"
            raise UsageError(what, shown, ANEW)


def _corpus(folder: Path, about: Mapping[str, Any]) -> TrainingCorpus:
    ids = mapped(folder / IDS, str(about["ids"]["dtype"]), int(about["ids"]["count"]))
    tables = {name: _table(folder, name, ids, about["tables"][name]) for name in ("train", "valid")}
    return TrainingCorpus(
        train=tables["train"],
        valid=tables["valid"] if len(tables["valid"]) else None,
        sources=tuple(TrainingFile(**file) for file in about["sources"]),
        valid_sources=tuple(TrainingFile(**file) for file in about["valid_sources"]),
        documents=int(about["documents"]),
        documents_by=str(about["documents_by"]),
        digest=str(about["digest"]),
        notices=tuple(map(str, about["notices"])),
    )


def _table(folder: Path, name: str, ids: Any, about: Mapping[str, int]) -> PieceTable:
    count = int(about["pieces"])
    starts, lengths, muted = (
        mapped(folder / f"{name}.{column}.bin", dtype, count) for column, dtype in COLUMNS.items()
    )
    table = PieceTable(ids, starts, lengths, muted if about["muted"] else None)
    # They are known: counting would read the whole table.
    vars(table).update(tokens=int(about["tokens"]), targets=int(about["tokens"] - about["muted"]))
    return table


def listed(files: tuple[TrainingFile, ...]) -> list[dict[str, object]]:
    """Files as data.json has them."""
    return [asdict(file) for file in files]
