"""A model's files in the Hugging Face cache: a blob named by its checksum, a link in a snapshot.

The layout is huggingface_hub's, and so are the locks: it and we can fetch the same file at once.
What differs is when a file gets its name. A transfer goes into CHECKSUM.incomplete, which the next
run goes on with; only what was checked and is safely on the disk becomes a blob, only blobs are
linked, and config.json, without which nothing counts as a model, is linked last. So a run may be
killed anywhere: a snapshot that looks complete is complete, and right. Files that
other tools put into the cache are taken as they are, until a file beside them is fetched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gptcli.checkpoints.hub.transfer import fetch
from gptcli.checkpoints.hub.watch import Watch
from gptcli.system import durable
from gptcli.system.checksums import algorithm_of, file_digest

PARTIAL = ".incomplete"  # as huggingface_hub names it
ABANDONED_SECONDS = 24 * 3600.0  # seconds after which a partial file of another revision is removed


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file as the Hub lists it: its checksum is a SHA-256, or git's SHA-1 for a small one."""

    name: str
    size: int  # bytes
    checksum: str  # 64 or 40 hexadecimal digits


class Damaged(Exception):
    """What came is not what the Hub lists; it was removed."""


@dataclass(frozen=True)
class Store:
    """One commit of a model in the cache: its folder, the commit, and where its locks are.

    `token` is that of `gptcli.checkpoints.hub.access.token_for`.
    """

    folder: Path
    commit: str
    token: bool | None = None

    @property
    def snapshot(self) -> Path:
        """Where the files have their names."""
        return self.folder / "snapshots" / self.commit

    @property
    def blobs(self) -> Path:
        """Where their content is."""
        return self.folder / "blobs"

    @property
    def locks(self) -> Path:
        """Where huggingface_hub locks a blob."""
        return self.folder.parent / ".locks" / self.folder.name

    def here(self, file: HubFile) -> bool:
        """Whether the snapshot has a file, by its size."""
        return _fits(self.snapshot / file.name, file)

    def lacking(self, file: HubFile) -> int:
        """How many bytes have to be fetched for a file, as far as sizes tell."""
        if self.here(file) or _fits(self.blobs / file.checksum, file):
            return 0
        with suppress(OSError):
            return max(0, file.size - self._part(file).stat().st_size)
        return file.size

    def obtain(self, file: HubFile, url: str, watch: Watch) -> Path:
        """Where a file with the right checksum is, fetched if need be.

        What is there is checked too. Waits while another process fetches the same file. Raises
        Damaged where it comes wrong twice; what `gptcli.checkpoints.hub.transfer.fetch` raises;
        OSError.
        """
        blob, pointer = self.blobs / file.checksum, self.snapshot / file.name
        self.blobs.mkdir(parents=True, exist_ok=True)
        with _locked(self._lock(file.checksum), watch):
            with watch.unhurried():
                for path in (blob, pointer):
                    if _fits(path, file) and checksum(path, file.checksum) == file.checksum:
                        return path
            for dead in self.blobs.glob(f"{file.checksum}.*{PARTIAL}"):  # of a killed process
                dead.unlink(missing_ok=True)
            _fetch_checked(file, url, self._part(file), watch, self.token)
            self._part(file).replace(blob)
        return blob

    def link(self, file: HubFile, content: Path) -> None:
        """Give a file its name in the snapshot. Raises OSError."""
        pointer = self.snapshot / file.name
        if content == pointer:
            return
        self.snapshot.mkdir(parents=True, exist_ok=True)
        target = os.path.relpath(content, self.snapshot)
        for _ in range(2):
            try:
                pointer.symlink_to(target)
            except FileExistsError:
                if pointer.is_symlink() and str(pointer.readlink()) == target:
                    return
                pointer.unlink(missing_ok=True)  # damaged, or a link to nothing
            except OSError:  # a file system without links: the content itself has the name
                if content.exists():  # else another process was first
                    content.replace(pointer)
                return
            else:
                return

    def name(self, revision: str) -> None:
        """Record which commit a branch or tag means, as huggingface_hub does."""
        if revision == self.commit:
            return
        ref = self.folder / "refs" / revision
        with suppress(OSError):  # the model is here; only the next run has to ask the Hub again
            ref.parent.mkdir(parents=True, exist_ok=True)
            durable.save(ref, self.commit.encode("ascii"))

    def sweep(self) -> None:
        """Remove partial files that nobody went on with for a day."""
        from filelock import Timeout
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

        for part in self.blobs.glob(f"*{PARTIAL}"):
            lock = self._lock(part.name.partition(".")[0])
            with suppress(OSError, Timeout):
                if time.time() - part.stat().st_mtime > ABANDONED_SECONDS:
                    with WeakFileLock(lock, timeout=0.05):
                        part.unlink()

    def _part(self, file: HubFile) -> Path:
        return self.blobs / f"{file.checksum}{PARTIAL}"

    def _lock(self, blob: str) -> Path:
        return self.locks / f"{blob}.lock"


def checksum(path: Path, like: str) -> str:
    """A file's checksum of the same kind as another. Raises OSError."""
    return file_digest(path, algorithm_of(like))[0]


def _fits(path: Path, file: HubFile) -> bool:
    try:
        return path.is_file() and path.stat().st_size == file.size
    except OSError:
        return False


def _fetch_checked(file: HubFile, url: str, part: Path, watch: Watch, token: bool | None) -> None:
    """Fetch into `part`, and once more from the start where that comes out wrong."""
    with suppress(FileNotFoundError):
        if part.stat().st_size > file.size:
            part.unlink()
    for last in (False, True):
        fetch(url, part, file.size, watch, token)
        with watch.unhurried():
            found = checksum(part, file.checksum)
        if found == file.checksum:
            break
        part.unlink()
        watch.undo(file.size)
        if last:
            raise Damaged(f"it arrived damaged: checksum {found[:12]}, not {file.checksum[:12]}")
    with watch.unhurried(), part.open("rb+") as written:
        os.fsync(written.fileno())


@contextmanager
def _locked(lock: Path, watch: Watch) -> Iterator[None]:
    """Hold huggingface_hub's lock of a blob; it is free as soon as its holder ends, however."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    lock.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(WeakFileLock(lock, timeout=0.5))
                break
            except Timeout:
                watch.alive()
        yield
