"""Models in the layout of the Hugging Face cache, their blobs named by true checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "89abcdef0123456789abcdef0123456789abcdef"
LARGE = (".safetensors", ".bin")  # what the Hub keeps by its SHA-256


def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache for this process and its children, and a cache of our own."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def checksum(name: str, data: bytes) -> str:
    """The name of a blob: SHA-256 of large files, git's SHA-1 of others."""
    if name.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a model's folder by name."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def put(
    cache: Path,
    repo_id: str,
    files: Mapping[str, bytes],
    commit: str = COMMIT,
    ref: str | None = "main",
    links: bool = True,
    listed: bool = False,
) -> Path:
    """Put a model there; gives the snapshot. Without `links` as where there are no symbolic links.

    With `listed` there is the listing of the commit that huggingface_hub leaves.
    """
    storage = cache / f"models--{repo_id.replace('/', '--')}"
    snapshot = storage / "snapshots" / commit
    for name, data in files.items():
        path = snapshot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        blob = storage / "blobs" / checksum(name, data)
        if links:
            blob.parent.mkdir(exist_ok=True)
            blob.write_bytes(data)
            up = "../" * (len(path.relative_to(storage).parts) - 1)
            path.symlink_to(f"{up}blobs/{blob.name}")
        else:
            path.write_bytes(data)
    snapshot.mkdir(parents=True, exist_ok=True)
    if ref is not None:
        (storage / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (storage / "refs" / ref).write_text(commit)
    if listed:
        entries = {name: _entry(name, data) for name, data in files.items()}
        listing = {"format_version": 1, "files": entries}
        (storage / "trees").mkdir(exist_ok=True)
        (storage / "trees" / f"{commit}.json").write_text(json.dumps(listing))
    return snapshot


def _entry(name: str, data: bytes) -> dict[str, object]:
    blob_id = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, object] = {"size": len(data), "blob_id": blob_id}
    if name.endswith(LARGE):
        entry |= {"lfs_sha256": checksum(name, data), "lfs_size": len(data)}
    return entry
