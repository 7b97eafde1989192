"""Whether the files of a model are, byte for byte, those that were published; without a network.

The Hub names a large file by its SHA-256 and a small one by the SHA-1 that git gives it, and these
names are all over a cache: a file of a snapshot links to a blob of that name, a listing of the
commit (trees/COMMIT.json) has them all, and a download into a plain folder leaves them in
.cache/huggingface. Where both link and listing speak they must agree, so that a link bent to
another good blob is found too. A folder without any of these cannot be verified, which is not the
same as being right: see `FileVerdict`. Those of the bundled model are kept in the package.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptcli.checkpoints.integrity.noted import RECORD, made
from gptcli.checkpoints.resolve import BUNDLE, Checkpoint, missing
from gptcli.checkpoints.safetensors_headers import NOTE, PICKLED, SINGLE
from gptcli.errors import GptcliError
from gptcli.models.cache import CachedFile, snapshot_files
from gptcli.models.entries import nature
from gptcli.system.checksums import CHECKSUM, algorithm_of, file_digest
from gptcli.system.os_errors import reason
from gptcli.system.strict_json import read_bytes, read_object

FileVerdict = Literal[
    "right", "wrong", "missing", "unknown"
]  # unknown: no checksum to compare with
VerifyProgress = Callable[[str, int, int], None]  # file, bytes read, bytes in all

BUNDLE_SUMS = BUNDLE.with_suffix(".sha256")  # as sha256sum writes it
MAX_NOTE_BYTES = 2**20  # bytes
MAX_LISTING_BYTES = 2**26  # bytes
METADATA = Path(".cache", "huggingface")  # of a download into a plain folder


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found of one file; `algorithm` is sha256 or git-sha1, `why` says what is wrong."""

    name: str
    verdict: FileVerdict
    size: int = 0
    algorithm: str | None = None
    expected: str | None = None
    actual: str | None = None
    why: str = ""

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "bytes": self.size,
            "algorithm": self.algorithm,
            "expected": self.expected,
            "actual": self.actual,
            "why": self.why or None,
        }


def verify(checkpoint: Checkpoint, progress: VerifyProgress | None = None) -> Iterator[Check]:
    """Compare every file of a model with the checksum it was published with, file by file.

    Files that a language model needs and that are not there come last. Raises nothing for what is
    in the folder: a file that cannot be read is wrong, too.
    """
    folder = checkpoint.folder
    downloaded: dict[str, str] = {}
    if checkpoint.source == "bundled":
        published, blobs = _sums(BUNDLE_SUMS), None
    elif checkpoint.revision is not None:
        model = folder.parent.parent
        published, blobs = (
            _listing(model / "trees" / f"{checkpoint.revision}.json"),
            model / "blobs",
        )
    else:
        downloaded = _downloaded(folder)
        published, blobs = downloaded | made(folder), None
    needed = set() if nature(folder).state == "other" else set(missing(folder))
    if any((folder / name).exists() for name in PICKLED):
        needed.discard(SINGLE)  # it has none to lose
    if checkpoint.source == "bundled":
        needed |= published.keys()
    deep = blobs is not None or bool(downloaded)  # anything may lie below one's own
    for file in snapshot_files(folder, deep):
        if blobs is None and (METADATA in Path(file.name).parents or file.name in (NOTE, RECORD)):
            continue
        yield _check(file, published.get(file.name), blobs, progress)
        needed.discard(file.name)
    for name in sorted(needed):
        yield Check(
            name=name, verdict="missing", expected=published.get(name), why="it is not there"
        )


def _check(
    file: CachedFile, published: str | None, blobs: Path | None, progress: VerifyProgress | None
) -> Check:
    linked = _linked(file, blobs)
    expected = published or linked
    if file.fault:
        verdict: FileVerdict = "missing" if file.blob is not None else "wrong"
        return Check(name=file.name, verdict=verdict, expected=expected, why=file.fault)
    if blobs is not None and file.blob is not None and not _within(file.blob, blobs):
        why = "its link leads out of the model's folder"
        return Check(name=file.name, verdict="wrong", size=file.size, expected=expected, why=why)
    if expected is None:
        return Check(name=file.name, verdict="unknown", size=file.size, why="no checksum is known")
    algorithm = algorithm_of(expected)
    if linked is not None and linked != expected:
        why = "its link names another file's content"
        return Check(
            name=file.name,
            verdict="wrong",
            size=file.size,
            algorithm=algorithm,
            expected=expected,
            actual=linked,
            why=why,
        )
    try:
        actual, size = file_digest(
            file.path,
            algorithm,
            (lambda done: progress(file.name, done, file.size)) if progress else None,
        )
    except OSError as error:
        why = reason(error)
        return Check(name=file.name, verdict="wrong", expected=expected, why=why)
    right = actual == expected
    return Check(
        name=file.name,
        verdict="right" if right else "wrong",
        size=size,
        algorithm=algorithm,
        expected=expected,
        actual=actual,
        why="" if right else "it is empty" if not size else "its content was changed",
    )


def _linked(file: CachedFile, blobs: Path | None) -> str | None:
    """The checksum that a file's link names: only a link to a blob of its own model does."""
    if file.blob is None or blobs is None or not _within(file.blob, blobs):
        return None
    name = file.blob.name
    return name if CHECKSUM.fullmatch(name) else None


def _within(blob: Path, blobs: Path) -> bool:
    """Whether a link names a blob of its own model; itself it may lead to a store for all."""
    # The snapshot may have been reached through links, which the blob's path does not show.
    return os.path.realpath(blob.parent) == os.path.realpath(blobs)


def _listing(file: Path) -> dict[str, str]:
    """The checksums that huggingface_hub keeps of a commit; empty where there are none."""
    try:
        listed = read_object(file, MAX_LISTING_BYTES)
    except GptcliError:
        return {}
    files = listed.get("files")
    if listed.get("format_version") != 1 or not isinstance(files, dict):
        return {}
    named = {name: entry for name, entry in files.items() if isinstance(entry, dict)}
    sums = {name: entry.get("lfs_sha256") or entry.get("blob_id") for name, entry in named.items()}
    return _sound(sums)


def _downloaded(folder: Path) -> dict[str, str]:
    """The checksums that `hf download --local-dir` leaves beside the files."""
    place = folder / METADATA / "download"
    sums: dict[str, object] = {}
    for file in sorted(place.rglob("*.metadata")):
        try:
            lines = read_bytes(file, MAX_NOTE_BYTES).decode("ascii").split("\n")
        except (GptcliError, UnicodeDecodeError):
            continue
        if len(lines) > 1:
            sums[file.relative_to(place).as_posix().removesuffix(".metadata")] = lines[1].strip()
    return _sound(sums)


def _sums(file: Path) -> dict[str, str]:
    """Checksums in the way of sha256sum: the sum, two spaces, the name."""
    lines = file.read_text(encoding="ascii").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _sound(sums: Mapping[str, object]) -> dict[str, str]:
    return {
        name: digest
        for name, digest in sums.items()
        if isinstance(digest, str) and CHECKSUM.fullmatch(digest)
    }
