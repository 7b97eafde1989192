"""Whether inputs are still what they were when the batch began.

A file is read twice: for its fingerprint, and for its rows. A running SHA-256 is compared after
each MiB of the second reading, so that no row of other bytes is handed on, whatever a file's times
say. What `stat` tells is looked at besides, to notice a change early, and what was read already. A
change that leaves the contents alone is none. Parquet is read in places, and so only looked at.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gptcli.batch.input.entries import ParsedRow
from gptcli.batch.input.fingerprints import MARK_BYTES, PIECE_BYTES, Fingerprint, marked
from gptcli.batch.input.paths import STDIN, InputFile, errors_of
from gptcli.errors import BadInput, GptcliError
from gptcli.system.checksums import file_digest
from gptcli.system.units import counted

SECONDS_BETWEEN_LOOKS = 0.1
SHARE_OF_TIME = 10  # a file is read again for as much of the time, at most, as one of this
TRIES = 3  # to read a file that does not change meanwhile
RANDOM_ACCESS = ("parquet", "auto")  # formats whose bytes do not all pass here
GO_ON = (
    "Put the former input back and run the same command, or go on with the new one:"
    " --allow-changed-input."
)
Stamp = tuple[int, ...]
Entries = Generator[ParsedRow | None, None, None]


class InputChanged(BadInput):
    """An input is not what it was when the batch began."""

    def after(self, rows: int, resumable: bool) -> InputChanged:
        """The same with the number of rows that are written, and what to do."""
        kept = f"{counted(rows, 'row')} of the former one {'is' if rows == 1 else 'are'} written"
        hint = self.hint if resumable else "Run it again when the input is whole."
        return InputChanged(self.what, f"{self.why}; {kept}", hint)


@dataclass(frozen=True)
class Baseline:
    """A file as it was: its fingerprint, what `stat` said, and the running digest of each MiB."""

    path: Path
    fingerprint: Fingerprint
    stamp: Stamp | None
    marks: bytes


class InputWatch:
    """Takes fingerprints, and tells afterwards whether they hold; before that nothing is watched.

    `own` are files and folders that the program itself writes to: new ones there are no inputs.
    """

    def __init__(self, own: Sequence[str] = ()) -> None:
        self._own = tuple(map(os.path.realpath, own))
        self._inputs: tuple[InputFile, ...] | None = None
        self._baselines: dict[Path, Baseline] = {}
        self._stamps: dict[Path, Stamp | None] = {}
        self._look_at = 0.0  # when to look next

    def fingerprints(self, inputs: Sequence[InputFile]) -> tuple[Fingerprint, ...]:
        """Size and SHA-256 of each file. Raises MissingInput, InputChanged (being written)."""
        self._inputs = tuple(inputs)
        return tuple(map(self._taken, inputs))

    def begin(self, inputs: Sequence[InputFile]) -> None:
        """Raises InputChanged where these are not the files whose fingerprints were taken."""
        if self._inputs is not None:
            self._compare(self._inputs, inputs)

    def end(self, expanded: Callable[[], Sequence[InputFile]]) -> None:
        """All is read. Raises InputChanged where a file changed since, came or went."""
        if self._inputs is None:
            return
        for baseline in self._baselines.values():
            self._check(baseline)
        try:
            now = expanded()
        except GptcliError as error:
            raise _changed(
                error.what, f"{error.why or 'it is gone'}, since the batch ran"
            ) from None
        self._compare(self._inputs, now)

    def pieces(self, source: InputFile, file: BinaryIO) -> Iterator[bytes | None] | None:
        """The contents of a file in pieces, each compared before; None where it is not watched."""
        baseline = self._baselines.get(source.path) if source.path else None
        return None if baseline is None else self._compared(baseline, file)

    def watched(self, source: InputFile, entries: Entries) -> Entries:
        """The entries of an input, as long as it is what it was. Raises InputChanged."""
        baseline = self._baselines.get(source.path) if source.path else None
        if baseline is None:
            yield from entries
            return
        always = source.format in RANDOM_ACCESS
        try:
            for entry in entries:
                if always or time.monotonic() >= self._look_at:
                    self._check(baseline)
                yield entry
        except GptcliError as error:
            if not isinstance(error, InputChanged):  # is it damaged because it changed?
                self._check(baseline, sure=always)
            raise
        self._check(baseline, sure=always)

    def _taken(self, source: InputFile) -> Fingerprint:
        if source.path is None or not source.regular:
            name = STDIN if source.path is None else source.name
            return Fingerprint(name, None, None)
        baseline = _baseline(source.path, source.name)
        self._baselines[source.path] = baseline
        self._stamps[source.path] = baseline.stamp
        return baseline.fingerprint

    def _compare(self, then: Sequence[InputFile], now: Sequence[InputFile]) -> None:
        old, new = ({source.path: source for source in side} for side in (then, now))
        for path in old.keys() - new.keys():
            raise _changed(old[path].name, "it was removed while the batch ran")
        for path in new.keys() - old.keys():
            if path is not None and not self._is_own(path):
                raise _changed(new[path].name, "it was added while the batch ran")

    def _is_own(self, path: Path) -> bool:
        real = os.path.realpath(path)
        return any(real == own or real.startswith(own + os.sep) for own in self._own)

    def _compared(self, baseline: Baseline, file: BinaryIO) -> Iterator[bytes]:
        hashed, at = hashlib.sha256(), 0
        while True:
            with errors_of(baseline.fingerprint.name):
                piece = file.read(PIECE_BYTES)
            if not piece:
                break
            hashed.update(piece)
            mark = baseline.marks[at : at + MARK_BYTES]
            if hashed.copy().digest()[:MARK_BYTES] != mark:
                raise self._difference(baseline)
            at += MARK_BYTES
            yield piece
        if at != len(baseline.marks):
            raise self._difference(baseline)

    def _check(self, baseline: Baseline, sure: bool = False) -> None:
        """Raises InputChanged. `sure`: by the contents, whatever `stat` says."""
        began = time.monotonic()
        self._look_at = began + SECONDS_BETWEEN_LOOKS
        stamp = _stamp(baseline.path)
        if stamp == self._stamps[baseline.path] and not sure:
            return
        try:
            same = file_digest(baseline.path, "sha256")[0] == baseline.fingerprint.sha256
        except OSError:
            same = False
        if not same:
            raise self._difference(baseline)
        self._stamps[baseline.path] = stamp
        self._look_at += SHARE_OF_TIME * (time.monotonic() - began)

    def _difference(self, baseline: Baseline) -> InputChanged:
        name, size = baseline.fingerprint.name, baseline.fingerprint.size
        try:
            now = baseline.path.stat().st_size
        except OSError:
            return _changed(name, "it was removed while the batch ran")
        how = "other contents of the same size"
        if now != size:
            how = f"it had {counted(size or 0, 'byte')} and has {now}"
        return _changed(name, f"it changed while the batch ran: {how}")


def _changed(name: str, why: str) -> InputChanged:
    return InputChanged(f"input {name}", why, GO_ON)


def _stamp(path: Path) -> Stamp | None:
    """What tells that a file may be another one; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _baseline(path: Path, name: str) -> Baseline:
    """Read a whole file; about a second a gigabyte. Raises MissingInput, InputChanged."""
    before: Baseline | None = None
    for _ in range(TRIES):
        stamp = _stamp(path)
        found, marks = marked(path, name)
        now = Baseline(path, found, stamp, marks)
        # Some file systems tell other times of the same file each time they are asked.
        if stamp == _stamp(path) or (before and before.fingerprint == now.fingerprint):
            return now
        before = now
    raise InputChanged(
        f"input {name}", "it is being written to", "Run it again when the input is whole."
    )
