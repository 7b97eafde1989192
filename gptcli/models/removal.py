"""Take a model, or one revision of it, out of the Hugging Face cache.

huggingface_hub works out which blobs no other revision needs, and deletes them. Two things are
added. What it would delete must lie in the model's own folder, links followed: a link in a
stranger's snapshot may name any file, and its strategy would delete that. And a folder that its
scan gives up on, as for one broken link, can go as a whole. The command asks the user
before it calls this.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.checkpoints import int8_store
from gptcli.checkpoints.hf_cache import cache_folder, storage
from gptcli.checkpoints.names import ALIASES, BUNDLED, check_hub_id, known_ids, nearest
from gptcli.checkpoints.resolve import in_cache
from gptcli.errors import BadModel, Unavailable, UsageError, WriteFailed
from gptcli.models.cache import repository
from gptcli.system.os_errors import reason

if TYPE_CHECKING:
    from huggingface_hub import DeleteCacheStrategy, HFCacheInfo

BY_HAND = "Look at it, and remove it by hand"


@dataclass(frozen=True, kw_only=True)
class RemovalPlan:
    """What is to go: of one model, all or one revision. `paths` are all of it, `size` in bytes."""

    model: str
    revision: str | None  # the commit; None for the whole model
    size: int
    paths: tuple[Path, ...]
    strategy: DeleteCacheStrategy
    packed: tuple[int8_store.StoredWeights, ...]  # int8 weights made from the model: they stay

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "model": self.model,
            "revision": self.revision,
            "bytes": self.size,
            "paths": [str(path) for path in self.paths],
            "int8": [str(entry.path) for entry in self.packed],
        }


def plans(name: str, revision: str | None = None) -> list[RemovalPlan]:
    """What would go for a name: a model of the cache, under each id that it is kept by.

    Raises UsageError for what is no model of the cache by its name, Unavailable for one that is not
    there, BadModel for one whose links lead out of its folder.
    """
    repo_id = ALIASES.get(name) or _checked(name)
    there = [known_as for known_as in known_ids(repo_id) if os.path.lexists(storage(known_as))]
    if not there:
        near = nearest(name)
        hint = f"Did you mean {near}?" if near else "See what there is: gptcli models list"
        raise Unavailable(repo_id, "not in the cache", hint)
    if revision is None:
        return [_whole(known_as) for known_as in there]
    found = in_cache(repo_id, revision, name)
    known_as = next(one for one in there if storage(one) == found.folder.parent.parent)
    return [_one_revision(known_as, str(found.revision))]


def remove(plan: RemovalPlan) -> None:
    """Do it. Raises WriteFailed where something stayed."""
    with _silenced():
        try:
            plan.strategy.execute()
        except OSError as error:
            why = reason(error)
            raise WriteFailed(str(error.filename or plan.model), why, BY_HAND) from None
    left = [path for path in plan.paths if os.path.lexists(path)]
    if left:
        hint = "Check the permissions of its folder"
        raise WriteFailed(str(left[0]), "it could not be removed", hint)


def _checked(name: str) -> str:
    hint = "Name a model of the cache: gptcli models list"
    if name == BUNDLED:
        raise UsageError(name, "it is part of gptcli and stays", hint)
    if name.startswith((".", "~", "/", os.sep)) or name.count("/") > 1:
        raise UsageError(name, "it is a folder, not a model of the cache", hint)
    return check_hub_id(name, "NAME")


def _whole(known_as: str) -> RemovalPlan:
    from huggingface_hub import DeleteCacheStrategy

    folder = storage(known_as)
    if folder.is_symlink():
        raise BadModel(known_as, f"its folder is a link to {os.path.realpath(folder)}", BY_HAND)
    cache = _scanned(folder)
    commits = [revision.commit_hash for repo in cache.repos for revision in repo.revisions]
    strategy = cache.delete_revisions(*commits)
    if not commits:  # a folder that the scan gives up on, or an empty one
        strategy = DeleteCacheStrategy(
            expected_freed_size=0,
            blobs=frozenset(),
            refs=frozenset(),
            repos=frozenset({_real(folder)}),
            snapshots=frozenset(),
            cache_dir=_real(cache_folder()),
        )
    return RemovalPlan(
        model=known_as,
        revision=None,
        size=max(_size(folder), strategy.expected_freed_size),
        paths=(folder,),
        strategy=strategy,
        packed=tuple(entry for entry in int8_store.entries() if known_as in known_ids(entry.model)),
    )


def _one_revision(known_as: str, commit: str) -> RemovalPlan:
    model = repository(known_as)
    if [snapshot.commit for snapshot in model.snapshots] == [commit]:
        return _whole(known_as)
    strategy = _scanned(model.folder).delete_revisions(commit)
    if not strategy.snapshots:
        why = model.fault or "one of its links leads nowhere"
        hint = f"Remove all of it: gptcli models rm {known_as}"
        raise BadModel(known_as, f"huggingface_hub cannot tell its revisions apart: {why}", hint)
    paths = sorted((*strategy.snapshots, *strategy.refs, *strategy.blobs))
    for path in paths:
        if not _real(path.parent).is_relative_to(_real(cache_folder()) / model.folder.name):
            raise BadModel(known_as, f"a link leads out of its folder, to {path}", BY_HAND)
    return RemovalPlan(
        model=known_as,
        revision=commit,
        size=strategy.expected_freed_size,
        paths=tuple(paths),
        strategy=strategy,
        packed=(),
    )


def _scanned(folder: Path) -> HFCacheInfo:
    """huggingface_hub's view of the cache, with that one model in it, or none.

    Commits can be the same in two models, of which one is a copy: it would take either.
    """
    from dataclasses import replace

    from huggingface_hub import scan_cache_dir

    with _silenced():
        cache = scan_cache_dir(cache_folder())
    own = frozenset(repo for repo in cache.repos if repo.repo_path == _real(folder))
    return replace(cache, repos=own)


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep its warnings off stderr: what stayed is looked for afterwards."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; links are not followed."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(root, name).lstat().st_size
    return total
