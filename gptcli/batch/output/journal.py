"""The rows of an output, appended one by one so that a kill at any moment loses none.

The output is its own journal. A row is one write, made only when all rows before it are written, so
a crash leaves a prefix and at most one torn line. Nothing is changed before the first new row, so a
run that is refused leaves no trace. To replace single rows (failed ones, or those of a changed
input), rows go to a second file, into which those that stay are copied unchanged; it replaces the
output when it is complete. After a failed write or flush nothing more is written, because the state
of the disk is unknown.

Not here: the choice between the two is in `gptcli.batch.output.opening`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from stat import S_IMODE
from types import TracebackType
from typing import Literal, Self

from gptcli.batch.input.row import Row
from gptcli.batch.output import output_files
from gptcli.batch.output.manifest import RunManifest, changed, write_manifest
from gptcli.batch.output.output_files import Lock, OutputFiles
from gptcli.batch.output.records import Found, digest64, encode, is_failed, rekeyed
from gptcli.batch.output.start import Start
from gptcli.batch.output.tables import make
from gptcli.errors import BadInput, GptcliError, WriteFailed
from gptcli.system import durable
from gptcli.system.os_errors import reason
from gptcli.system.units import counted

Fsync = Literal["row", "1s", "off"]
SECONDS_BETWEEN_FLUSHES = 1.0


class Journal:
    """An open output: ask `skip` of every row in order, `append` those it says False of, `finish`.

    `recovered` rows need not be computed, `failed` of the rows written so far are errors, and
    `complete` says that all is done. `close` before `finish` keeps what there is, for next time.
    """

    def __init__(
        self, files: OutputFiles, manifest: RunManifest, lock: Lock, start: Start, fsync: Fsync
    ) -> None:
        self.name = files.name
        self.failed = len(start.found.failed) or start.failed
        self.recovered = start.recovered
        self.complete = start.kind == "nothing" and manifest.comparable
        self._files, self._manifest, self._lock, self._start = files, manifest, lock, start
        self._path = files.rewritten if start.kind == "rewrite" else files.rows
        self._fsync = fsync
        self._seen = 0  # rows asked about
        self._next = self._flushed = len(start.found)  # rows written; and those known to be on disk
        self._size = start.found.size
        self._flush_due = 0.0  # when to flush next
        self._begun = start.kind in ("new", "nothing")
        self._broken = self._closed = False
        self._kept: dict[int, tuple[int, str, str]] = {}  # by content: old number, new key and id
        self._same = start.by_digest()
        self._descriptor: int | None = None
        self._source = files.rows.open("rb") if start.kind == "rewrite" else None
        try:
            with output_files.creating(files.name):
                self._open()
        except BaseException:
            self._let_go()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        with suppress(GptcliError):  # the first failure is the one to report
            self.close()

    def skip(self, row: Row) -> bool:
        """Whether the row is there already (or is kept), so that it need not be computed.

        Raises BadInput where another input row is there; then nothing has been written.
        """
        assert row.number == self._seen, f"row {row.number} came where {self._seen} belongs"
        self._seen += 1
        start, number = self._start, row.number
        if start.rows is not None and number >= start.rows:
            raise changed(self.name, [f"the input had {counted(start.rows, 'row')} and has more"])
        if number < len(start.found):
            self._check(row, start.found)
            return True
        if start.kind == "nothing":
            return True  # the rows are in another format: the inputs were compared as a whole
        return start.kind == "rewrite" and self._keeps(row)

    def append(self, row: Row, record: Mapping[str, object]) -> None:
        """Write the next row; the journal adds its key. Raises WriteFailed."""
        assert not self._broken
        assert not self._closed
        line, failed = encode(row.key, record), is_failed(record)
        self._begin()
        self._copy(row.number)
        assert row.number == self._next, f"row {row.number} came where {self._next} belongs"
        self._put(line, failed)
        now = time.monotonic()
        if self._fsync == "row" or (self._fsync == "1s" and now >= self._flush_due):
            self._flush()
            self._flush_due = now + SECONDS_BETWEEN_FLUSHES

    def finish(self) -> None:
        """The input has ended: check that it had all rows, and give the output its final form.

        Raises BadInput (the input had fewer rows), WriteFailed, and CannotCreate where another file
        has taken the output's place; the rows are kept then.
        """
        start = self._start
        if self._seen < start.least:
            raise changed(
                self.name, [f"the input had {counted(start.least, 'row')} and has {self._seen}"]
            )
        if start.kind != "nothing":
            self._begin()
            self._copy(self._seen)
            assert self._next == self._seen, f"row {self._next} was not written"
            self._flush()
            with self._failing():
                self._publish()
        self.complete = True

    def close(self) -> None:
        """Flush, and let others write; what is there can be resumed. Raises WriteFailed."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._next > self._flushed and not self._broken:
                self._flush()
        finally:
            self._let_go()
            self._lock.release()

    def _open(self) -> None:
        """Do now whatever can fail before anything costly is done."""
        start, files = self._start, self._files
        if start.kind == "new":
            # First the manifest: an empty file without one would be taken for a stranger's.
            durable.remove(files.rewritten)
            write_manifest(files.manifest, self._manifest)
            self._descriptor = output_files.open_rows(self._path, fresh=not self._path.exists())
            os.ftruncate(self._descriptor, 0)
            durable.sync_folder(self._path)
        elif start.kind == "over" and not files.hidden:
            os.close(output_files.open_rows(self._path))  # only to see whether it may be written
        elif start.kind in ("append", "rewrite"):
            self._descriptor = output_files.open_rows(self._path)
        elif files.hidden and start.found and not start.found.failed:
            # Killed when all was done but this: the rows are in the output.
            write_manifest(files.manifest, self._manifest.completed(len(start.found), 0))
            durable.remove(files.rows)

    def _check(self, row: Row, rows: Found) -> None:
        if rows.digests[row.number] == digest64(row.digest):
            return
        if self._start.by_content:
            hint = f"The input changed again: remove {self._path} and run it again."
        else:
            hint = "Take the former input, or start over with --force, or write elsewhere with -o."
        why = f"output {self.name} was made from another input: its row {row.number} differs"
        raise BadInput(f"row {row.number}", why, hint)

    def _keeps(self, row: Row) -> bool:
        """To rewrite: whether the row is copied from the output."""
        old = self._start.old
        if self._start.by_content:
            numbers = self._same.get(digest64(row.digest))
            if not numbers:
                return False
            self._kept[row.number] = (numbers.pop(), row.key, row.id)
            return True
        if row.number >= len(old):
            return False
        self._check(row, old)
        return row.number not in old.failed

    def _begin(self) -> None:
        """Before the first row: cut what is torn, or remove what is written over."""
        if self._begun:
            return
        self._begun = True
        with self._failing():
            if self._start.kind == "over":
                self._remove_old()
            elif os.fstat(self._handle).st_size > self._size:
                os.ftruncate(self._handle, self._size)
                os.fsync(self._handle)

    def _remove_old(self) -> None:
        """Rows first, manifest last: at no moment are there old rows beside the new manifest."""
        files = self._files
        durable.remove(files.rewritten)
        if files.hidden:
            durable.remove(files.output)
            durable.sync_folder(files.output)
        self._descriptor = output_files.open_rows(self._path)
        os.ftruncate(self._descriptor, 0)
        os.fsync(self._descriptor)
        write_manifest(files.manifest, self._manifest)

    def _copy(self, until: int) -> None:
        """Copy the rows that are kept before number `until`."""
        old, source = self._start.old, self._source
        while source is not None and self._next < until:
            number, key, id = self._kept.pop(self._next, (self._next, None, ""))
            assert key or number not in old.failed, f"row {number} was not written"
            source.seek(old.offsets[number])
            line = source.readline()
            self._put(rekeyed(line, key, id) if key else line, number in old.failed)

    def _put(self, line: bytes, failed: bool) -> None:
        with self._failing():
            durable.write_all(self._handle, line)
        self._size += len(line)
        self._next += 1
        self.failed += failed

    def _flush(self) -> None:
        with self._failing(flushing=True):
            durable.sync(self._handle)
        self._flushed = self._next

    @property
    def _handle(self) -> int:
        assert self._descriptor is not None
        return self._descriptor

    @contextmanager
    def _failing(self, flushing: bool = False) -> Iterator[None]:
        """Turn what a disk says into WriteFailed, and write no more."""
        try:
            yield
        except OSError as error:
            self._broken = True
            if self._descriptor is not None and self._begun and not flushing:
                with suppress(OSError):  # else the next run cuts it
                    os.ftruncate(self._descriptor, self._size)
            saved = self._flushed if flushing else self._next
            why = f"{reason(error)}; {saved} {'row is' if saved == 1 else 'rows are'} saved"
            raise WriteFailed(self.name, why, output_files.AGAIN) from None

    def _publish(self) -> None:
        files, rewrites = self._files, self._start.kind == "rewrite"
        if files.hidden:
            make(files, self._path, replaces=self._start.replaces)
        elif rewrites:
            os.fchmod(self._handle, S_IMODE(files.rows.stat().st_mode))
        if rewrites:
            durable.put(files.rewritten, files.rows)
        write_manifest(files.manifest, self._manifest.completed(self._next, self.failed))
        if files.hidden and not self.failed:  # else --retry-failed needs them
            durable.remove(files.rows)

    def _let_go(self) -> None:
        """Close the files. An output without a row is worth nothing: remove what this run made."""
        for file in (self._source, self._descriptor):
            if file is not None:
                with suppress(OSError):
                    os.close(file) if isinstance(file, int) else file.close()
        with suppress(OSError):
            durable.remove(self._files.part)
            durable.remove(durable.part_of(self._files.manifest))
            if self._next or self.complete:
                return
            if self._descriptor is not None and self._start.kind in ("new", "rewrite"):
                durable.remove(self._path)
            if self._start.kind == "new":
                durable.remove(self._files.manifest)
