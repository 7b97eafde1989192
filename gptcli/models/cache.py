"""The Hugging Face cache read as it lies there, with whatever is wrong in it.

huggingface_hub's own scan leaves a model out altogether for one broken link, and one who asks what
is on the machine wants to see just that. So the folders are read here, one for one, and a fault
belongs to the file, the snapshot or the model where it was found. The layout is theirs: refs/NAME
holds a commit, snapshots/COMMIT links to blobs, a blob may itself be a link into the store that
models share. Nothing is followed but these links, and nothing is opened but refs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gptcli.checkpoints.hf_cache import MODELS, cache_folder, storage
from gptcli.checkpoints.names import COMMIT
from gptcli.system.regular_files import read_text

OTHERS = {"datasets--": "dataset", "spaces--": "space", "kernels--": "kernel"}
IGNORED = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what systems leave in folders
MAX_REF_BYTES = 4096  # bytes


@dataclass(frozen=True, kw_only=True)
class CachedFile:
    """A file of a snapshot."""

    name: str  # relative to the snapshot, with slashes
    path: Path
    blob: Path | None  # what its link names, one step on; None for a real file
    size: int = 0
    used: float = 0.0  # when its content was last read, as far as the system keeps that
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The files of one commit of a model."""

    commit: str
    folder: Path
    refs: tuple[str, ...]
    files: tuple[CachedFile, ...]

    @property
    def size(self) -> int:
        """Bytes; a blob that two names lead to counts once."""
        return sum({file.blob or file.path: file.size for file in self.files}.values())

    @property
    def used(self) -> float:
        """When a file of it was last read; 0 for an empty one."""
        return max((file.used for file in self.files), default=0.0)


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A model's folder in the cache."""

    id: str
    folder: Path
    snapshots: tuple[Snapshot, ...]
    unfinished: int  # bytes of downloads that did not end
    fault: str = ""


def repositories() -> tuple[list[Repository], dict[str, int]]:
    """All models of the cache by name, and how many there are of each other kind."""
    found: list[Repository] = []
    others: dict[str, int] = {}
    for entry in _listed(cache_folder()):
        if entry.name.startswith(MODELS):
            found.append(repository(entry.name.removeprefix(MODELS).replace("--", "/")))
        for prefix, kind in OTHERS.items():
            if entry.name.startswith(prefix):
                others[kind] = others.get(kind, 0) + 1
    return sorted(found, key=lambda model: (model.id.lower(), model.id)), others


def repository(repo_id: str) -> Repository:
    """A model's folder, which must be there."""
    folder = storage(repo_id)
    refs, fault = _refs(folder / "refs")
    snapshots = []
    for entry in _listed(folder / "snapshots"):
        if COMMIT.fullmatch(entry.name) and entry.is_dir():
            names = tuple(sorted(name for name, commit in refs.items() if commit == entry.name))
            place = Path(entry.path)
            files = tuple(_files(place))
            snapshots.append(Snapshot(commit=entry.name, folder=place, refs=names, files=files))
        elif entry.name not in IGNORED:
            fault = fault or f"snapshots/{entry.name} is not the folder of a commit"
    lost = sorted(refs.keys() - {name for snapshot in snapshots for name in snapshot.refs})
    if not snapshots:
        fault = "no snapshot in its folder" if folder.is_dir() else "not a folder"
    elif lost:
        fault = fault or f"refs/{lost[0]} names a commit that is not there"
    return Repository(
        id=repo_id,
        folder=folder,
        # The main branch first: it is what the name alone means.
        snapshots=tuple(sorted(snapshots, key=lambda one: ("main" not in one.refs, one.commit))),
        unfinished=_unfinished(folder / "blobs"),
        fault=fault,
    )


def snapshot_files(folder: Path, deep: bool = True) -> tuple[CachedFile, ...]:
    """The files of one snapshot, or of any folder, by name; only its own where not `deep`."""
    return tuple(_files(folder, deep))


def _files(folder: Path, deep: bool = True) -> Iterator[CachedFile]:
    for root, folders, names in os.walk(folder):
        # A link to a folder is listed among the folders, and is not walked into.
        links = [name for name in folders if Path(root, name).is_symlink()] if deep else []
        folders[:] = sorted(set(folders) - set(links)) if deep else []
        for name in sorted([*names, *links]):
            if name not in IGNORED:
                path = Path(root, name)
                yield _file(path, path.relative_to(folder).as_posix())


def _file(path: Path, name: str) -> CachedFile:
    blob = None
    try:
        if path.is_symlink():
            blob = Path(os.path.abspath(path.parent / path.readlink()))  # noqa: PTH100
        status = path.stat()
    except (OSError, ValueError):
        return CachedFile(name=name, path=path, blob=blob, fault="a link that leads nowhere")
    fault = "" if stat.S_ISREG(status.st_mode) else "not a regular file"
    size = status.st_size if not fault else 0
    return CachedFile(name=name, path=path, blob=blob, size=size, used=status.st_atime, fault=fault)


def _refs(folder: Path) -> tuple[dict[str, str], str]:
    """The commit that each branch or tag means, and what is wrong with one of them."""
    found, fault = {}, ""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(set(names) - IGNORED):
            path = Path(root, name)
            ref = path.relative_to(folder).as_posix()
            commit = _commit(path)
            if commit is None:
                fault = fault or f"refs/{ref} does not hold a commit"
            else:
                found[ref] = commit
    return found, fault


def _commit(file: Path) -> str | None:
    with suppress(OSError, ValueError):
        commit = read_text(file, MAX_REF_BYTES, "ascii").strip()
        return commit if COMMIT.fullmatch(commit) else None
    return None


def _unfinished(blobs: Path) -> int:
    size = 0
    for entry in _listed(blobs):
        with suppress(OSError):
            if entry.name.endswith(".incomplete"):
                size += entry.stat(follow_symlinks=False).st_size
    return size


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing where it is none or cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
