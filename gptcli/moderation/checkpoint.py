"""The classifier that `--moderator` names: its folder, and a digest of its files."""

from __future__ import annotations

import hashlib

from gptcli.checkpoints.integrity.content import content
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.checkpoints.resolve import Checkpoint, resolve
from gptcli.options.model import Load
from gptcli.options.moderation import ModeratedLoad


def checked(load: ModeratedLoad) -> tuple[Checkpoint, CheckedCheckpoint]:
    """Find the classifier and check its files as those of any model. Raises as `resolve`."""
    found = resolve(Load(model=load.moderator, offline=load.offline))
    return found, inspect(found.folder)


def digest(found: Checkpoint) -> str:
    """One SHA-256 of all files that decide what it says. Raises BadModel, MissingInput."""
    files = sorted(content(found.folder, found.name).items())
    return hashlib.sha256("".join(f"{name} {sha}\n" for name, sha in files).encode()).hexdigest()
