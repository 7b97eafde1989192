"""SHA-256 of whole files, each read once: what was found is kept in the user's cache folder.

A digest belongs to the device, inode, size, and times of change of a file. The inode's own time of
change (ctime) is set by the kernel at every write, rename and change of attributes: no program can
set it back, as it can the time of the content. A file that changed a moment ago could change once
more within one tick of that clock, so its digest is not kept; nor is that of a file system whose
inodes and clock are not the kernel's own (network, FUSE, FAT) or that does not see what is written
through a mapping (tmpfs), nor outside Linux: such files are read each time. A file is flushed
before it is read: else a program that wrote to it through a mapping could go on doing so within the
same page, and the kernel would not notice.

The store is one small text file, a line for each digest with a checksum of its own: a line that is
torn or damaged is none. It is replaced as a whole. Of two processes that write at the same time one
may lose its lines, and reads the file again another time. Not here: other checksums of files are in
`gptcli.system.checksums`.
"""

from __future__ import annotations

import os
import re
import sys
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from gptcli.errors import MissingInput
from gptcli.system import durable
from gptcli.system.os_errors import said
from gptcli.system.processors import allowed_cores
from gptcli.system.strict_json import open_model_file

MAX_ENTRIES = 1024  # those used last; a model has some ten files
MAX_STORE_BYTES = 2**19  # bytes: an entry takes at most 180
CHUNK_BYTES = 2**20
SECOND = 10**9  # nanoseconds
TICK = SECOND // 10  # nanoseconds: ten times the coarsest clock of a Linux kernel
WHOLE_SECONDS_TICK = 5 * SECOND // 2  # of file systems that keep whole seconds, or two of them
SOUND = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "overlay"}
MOUNTS = Path("/proc/self/mountinfo")
_LINE = re.compile(r"([0-9a-f]{8}) ((?:\d+ ){5})([0-9a-f]{64})")
_ESCAPED = re.compile(r"\\([0-7]{3})")  # how a mount's path is written


@dataclass(frozen=True)
class _Stamp:
    """What changes whenever a file's content does."""

    device: int
    inode: int
    size: int
    mtime: int  # nanoseconds
    ctime: int

    def text(self) -> str:
        """As the store has it."""
        return f"{self.device} {self.inode} {self.size} {self.mtime} {self.ctime} "

    def settled(self, since: int) -> bool:
        """Whether a change after the time `since` cannot leave the same stamp."""
        tick = TICK if self.ctime % SECOND else WHOLE_SECONDS_TICK
        return self.ctime + tick < since


def store() -> Path:
    """The file that keeps the digests; it need not exist."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("gptcli", appauthor=False)) / "digests"


def digests(paths: Iterable[Path]) -> dict[Path, str]:
    """The SHA-256 of each file in hexadecimal digits; files are read in threads of their own.

    Raises MissingInput (cannot be read), BadModel (no regular file).
    """
    known = _kept()
    found: dict[Path, str] = {}
    unknown: dict[Path, int] = {}
    used: dict[str, str] = {}
    for path in paths:
        stamp = _stamp_of(path)
        key = stamp.text() if stamp else ""
        if key in known:
            found[path] = used[key] = known[key]
        else:
            unknown[path] = stamp.size if stamp else 0
    if not unknown:
        return found
    from concurrent.futures import ThreadPoolExecutor

    largest_first = sorted(unknown, key=lambda path: -unknown[path])
    with ThreadPoolExecutor(min(len(unknown), allowed_cores())) as pool:
        for path, (digest, stamp) in zip(
            largest_first, pool.map(_read, largest_first), strict=True
        ):
            found[path] = digest
            if stamp is not None and can_keep(path):
                used[stamp.text()] = digest
    if used.keys() - known.keys():
        _keep(used)
    return found


def digest(path: Path) -> str:
    """The SHA-256 of a file; as `digests`."""
    return digests([path])[path]


def can_keep(path: Path) -> bool:
    """Whether a file's digest can be kept: the kernel itself has its inode and times of change."""
    if sys.platform != "linux":
        return False
    real = os.path.realpath(path)
    place, kind = "", ""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), mount.split(" ")[4])
        within = real == point or real.startswith(point.rstrip("/") + "/")
        if within and len(point) >= len(place):  # a later mount lies over an earlier one
            place, kind = point, source.split(" ")[0]
    return kind in SOUND


def _read(path: Path) -> tuple[str, _Stamp | None]:
    """The digest of a file, and what it may be kept for. Raises as `digests`."""
    found, buffer = sha256(), bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    since = time.time_ns()
    with open_model_file(path) as file:
        with suppress(OSError):
            durable.flush(file.fileno())
        before = _stamp(os.fstat(file.fileno()))
        try:
            while length := file.readinto(buffer):  # type: ignore[attr-defined]
                found.update(view[:length])
        except OSError as error:
            raise MissingInput(str(path), said(error), "Check the disk") from None
        after = _stamp(os.fstat(file.fileno()))
    kept = before if before == after and before.settled(since) else None
    return found.hexdigest(), kept


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        return _stamp(path.stat())
    except OSError:  # reading will say what is wrong
        return None


def _stamp(status: os.stat_result) -> _Stamp:
    return _Stamp(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def _kept() -> dict[str, str]:
    """Digests by the text of their stamps, those used last at the end."""
    try:
        data = durable.read_small(store(), MAX_STORE_BYTES) or b""
    except (OSError, ValueError):
        return {}
    found: dict[str, str] = {}
    for line in data.decode("ascii", "replace").split("\n"):
        parts = _LINE.fullmatch(line)
        if parts and f"{zlib.crc32(line[9:].encode()):08x}" == parts[1]:
            found[parts[2]] = parts[3]
    return found


def _keep(used: dict[str, str]) -> None:
    """Add digests. A folder that cannot be written keeps none."""
    known = _kept()  # once more: another process may have added some meanwhile
    entries = {key: value for key, value in known.items() if key not in used} | used
    lines = [f"{key}{value}" for key, value in entries.items()][-MAX_ENTRIES:]
    text = "".join(f"{zlib.crc32(line.encode()):08x} {line}\n" for line in lines)
    with suppress(OSError):
        store().parent.mkdir(parents=True, exist_ok=True)
        durable.save(store(), text.encode(), mode=0o600)
