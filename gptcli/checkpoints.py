"""A model's name turned into a folder: alias, path, Hugging Face cache, Hub, or the bundled model.

What is in the cache is found by reading the cache's own layout (refs/<revision> names a commit,
snapshots/<commit> holds its files), because that needs no network and none of huggingface_hub's
slow modules: a cached model is found in a millisecond. Only a snapshot with everything that a model
needs counts; anything less is downloaded. Whether the files are sound is for `gptcli.preflight`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptcli.errors import BadModel, MissingInput, Unavailable, UsageError
from gptcli.headers import INDEX, SINGLE, read_index
from gptcli.names import (
    ALIASES,
    BUNDLED,
    COMMIT,
    GPT2,
    OLD_IDS,
    check_hub_id,
    check_revision,
    did_you_mean,
)
from gptcli.options import Load
from gptcli.vocabulary import SUFFICIENT

BUNDLE = Path(__file__).parent / "bundled" / BUNDLED
MAIN = "main"
Progress = Callable[[], None] | None  # see gptcli.hub.download
TRUE = {"1", "ON", "YES", "TRUE"}  # what huggingface_hub takes for a set switch


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder that holds a model, and how it was found."""

    name: str  # the Hub id, the path as given, or tiny-tales
    folder: Path
    revision: str | None  # a Hub model's commit, 40 hexadecimal digits
    source: Literal["path", "cache", "hub", "bundled"]
    notices: tuple[str, ...] = ()


def resolve(load: Load, progress: Progress = None) -> Checkpoint:
    """Find the folder of the model that is asked for, downloading it if need be.

    Without a model: gpt2 from the cache or the Hub, else the bundled tiny-tales, with a notice. A
    model that is named is never replaced by another. `progress` is for `gptcli.hub.download`.

    Raises UsageError for what cannot be a name, MissingInput for a folder that does not exist,
    Unavailable for a model that cannot be fetched, BadModel for one that cannot be used.
    """
    if load.model is None:
        return _default(load, progress)
    if load.model == BUNDLED:
        _refuse_revision(load)
        return _bundled()
    repo_id = ALIASES.get(load.model)
    if repo_id is None and looks_like_path(load.model):
        return _at_path(load)
    found = _on_hub(load, repo_id or check_hub_id(load.model), progress)
    if repo_id is not None and Path(load.model).is_dir():
        notice = f"the folder {load.model} is not used: {load.model} names the Hub's model."
        return _with_notice(found, f"{notice} Say -m ./{load.model} for the folder")
    return found


def looks_like_path(name: str) -> bool:
    """Whether a name means a folder: it exists as one, or is written as a path."""
    if not name or "\0" in name or "://" in name:
        return False
    written = name.startswith((".", "~", "/", os.sep)) or name.count("/") > 1
    try:
        return written or Path(name).is_dir()
    except OSError:  # a name too long for the file system
        return False


def find_cached(repo_id: str, revision: str = MAIN) -> Checkpoint | None:
    """A complete snapshot in the Hugging Face cache; also under the id that the model once had."""
    for known_as in filter(None, (repo_id, OLD_IDS.get(repo_id))):
        storage = cache_folder() / f"models--{known_as.replace('/', '--')}"
        commit = _commit(storage, revision)
        if commit is not None and is_complete(storage / "snapshots" / commit):
            folder = storage / "snapshots" / commit
            return Checkpoint(name=repo_id, folder=folder, revision=commit, source="cache")
    return None


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a configuration, a tokenizer, and all of its weights' files."""
    if not (folder / "config.json").exists() or not any(
        all((folder / name).exists() for name in names) for names in SUFFICIENT
    ):
        return False
    return all((folder / name).exists() for name in _weights(folder))


def cache_folder() -> Path:
    """Where the Hugging Face cache is (HF_HUB_CACHE, HF_HOME)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline(load: Load) -> bool:
    """Whether the network must not be used: `--offline`, HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE."""
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return load.offline or any(os.environ.get(name, "").upper() in TRUE for name in switches)


def _default(load: Load, progress: Progress) -> Checkpoint:
    if load.revision is not None:  # a commit of gpt2 is meant, which no other model has
        return _on_hub(load, GPT2, progress)
    try:
        return _on_hub(load, GPT2, progress)
    except Unavailable as error:
        notice = (
            f"gpt2 cannot be had ({error.why or error.what}): the small bundled {BUNDLED} answers."
            " For gpt2, run once while online: gptcli generate -m gpt2 Hello"
        )
        return _with_notice(_bundled(), notice)


def _bundled() -> Checkpoint:
    return Checkpoint(name=BUNDLED, folder=BUNDLE, revision=None, source="bundled")


def _at_path(load: Load) -> Checkpoint:
    name = load.model or ""
    _refuse_revision(load)
    try:
        folder = Path(name).expanduser()
        fault = "" if folder.is_dir() else "not a folder" if folder.exists() else "no such folder"
    except (OSError, RuntimeError):  # too long; the home of a user that does not exist
        raise MissingInput(name, "no such folder", "Check the path given to -m") from None
    if fault:
        raise MissingInput(name, fault, did_you_mean(name) or "Check the path given to -m")
    return Checkpoint(name=name, folder=folder, revision=None, source="path")


def _refuse_revision(load: Load) -> None:
    if load.revision is not None:
        raise UsageError("--revision", f"{load.model} is not a Hub model", "Leave it out")


def _on_hub(load: Load, repo_id: str, progress: Progress) -> Checkpoint:
    revision = check_revision(load.revision) if load.revision is not None else MAIN
    cached = find_cached(repo_id, revision)
    if cached is not None:
        return cached
    if is_offline(load):
        shown = load.model or "gpt2"
        at = f" --revision {load.revision}" if load.revision else ""
        once = f'Run once while online: gptcli generate -m {shown}{at} "Hello"'
        near = "" if load.model is None or shown in ALIASES else did_you_mean(shown)
        raise Unavailable(repo_id, "not in the cache, and offline", near or once)
    from gptcli.hub import download

    found = download(repo_id, revision, progress)
    return Checkpoint(name=repo_id, folder=found.folder, revision=found.revision, source="hub")


def _with_notice(found: Checkpoint, notice: str) -> Checkpoint:
    from dataclasses import replace

    return replace(found, notices=(*found.notices, notice))


def _commit(storage: Path, revision: str) -> str | None:
    """The commit that a revision meant when it was last downloaded."""
    if COMMIT.fullmatch(revision):
        return revision
    try:
        commit = (storage / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return commit if COMMIT.fullmatch(commit) else None


def _weights(folder: Path) -> Iterator[str]:
    """Names of the files that hold the weights; an index that cannot be read counts as there, so
    that preflight says what is wrong with it."""
    if (folder / SINGLE).exists() or not (folder / INDEX).exists():
        yield SINGLE
        return
    try:
        yield from set(read_index(folder / INDEX).values())
    except (BadModel, MissingInput):
        return
