"""Open an output of many rows: begin it, go on with it, or refuse it.

An existing output is resumed only if it is ours (its manifest lies beside it), was made from the
same inputs and settings, and is whole up to its end; otherwise it is not touched. The decision is
made under a lock that the kernel frees with the process, so a kill leaves nothing to clean up. An
output without a whole row is begun again, whatever it was made from. What --force overwrites stays
until the first new row can be written.

    output            manifest        what is done
    none              any             begun
    there             none            CannotCreate: a stranger's file is never appended to
    there             another         BadInput, naming what differs
    there             the same        resumed after its last whole row

Outputs in another format than JSON lines keep their rows in a hidden file beside them until they
are complete, and as long as some of them are errors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from gptcli.batch.options import Batch
from gptcli.batch.output import output_files
from gptcli.batch.output.journal import Fsync, Journal
from gptcli.batch.output.manifest import (
    WAY_OUT,
    RunManifest,
    changed,
    differences,
    input_differences,
    read_manifest,
)
from gptcli.batch.output.output_files import Lock, OutputFiles
from gptcli.batch.output.records import MAX_ROW_BYTES, Found, scan
from gptcli.batch.output.start import Start
from gptcli.batch.output.tables import require, shape_of
from gptcli.errors import BadInput, CannotCreate
from gptcli.system.regular_files import open_regular

OTHER_INPUT = f"Run it as before, or go on with --allow-changed-input. {WAY_OUT}"


def open_output(output: Path, manifest: RunManifest, settings: Batch) -> Journal:
    """Open an output in the way that the options ask for. Raises as `open_journal`."""
    if settings.retry_failed:
        return open_retry(output, manifest, fsync=settings.fsync)
    if settings.allow_changed_input:
        return open_changed(output, manifest, fsync=settings.fsync)
    resume, force = settings.resume, settings.force
    return open_journal(output, manifest, resume=resume, force=force, fsync=settings.fsync)


def open_journal(
    output: Path,
    manifest: RunManifest,
    *,
    resume: bool | None = None,
    force: bool = False,
    fsync: Fsync = "1s",
) -> Journal:
    """Begin an output, or go on with it: always where `resume` is None or True and it is there.

    `force` starts over, whatever there is; without it `resume=False` refuses an output that is
    there. Rows are flushed to the disk one by one, at most every second, or when it is closed.

    Raises CannotCreate (it is there and may not be gone on with, or cannot be made), BadInput (made
    from something else, or damaged), Busy (another process writes to it), WriteFailed (a full
    disk), Unavailable (no library for the format). Nothing is changed then.
    """
    return _open(output, manifest, fsync, partial(_start, resume=resume, force=force))


def open_retry(output: Path, manifest: RunManifest, *, fsync: Fsync = "1s") -> Journal:
    """Keep the rows of an output byte for byte, but compute those again that are errors.

    They are written to a second file, which replaces the output when it is complete; until then the
    output stays, and a retry that was killed goes on. An output that is not there is begun, one
    without errors is gone on with. Raises as `open_journal`.
    """
    return _open(output, manifest, fsync, _start_retry)


def open_changed(output: Path, manifest: RunManifest, *, fsync: Fsync = "1s") -> Journal:
    """Go on although the input was changed: rows of the same contents get their new number and id.

    All else must be the same. Of equal rows each is used once. The output is replaced as in
    `open_retry`; rows that the input no longer has are dropped, those that failed stay. Raises as
    `open_journal`.
    """
    return _open(output, manifest, fsync, _start_changed)


def _open(
    output: Path,
    manifest: RunManifest,
    fsync: Fsync,
    decide: Callable[[OutputFiles, RunManifest], Start],
) -> Journal:
    shape = shape_of(output)
    require(shape)
    files = output_files.locate(output, hidden=shape != "jsonl")
    lock = Lock(files)
    try:
        with output_files.creating(files.name):
            start = decide(files, manifest)
        return Journal(files, manifest, lock, start, fsync)
    except BaseException:
        lock.release()
        raise


def _start(files: OutputFiles, manifest: RunManifest, *, resume: bool | None, force: bool) -> Start:
    if not _present(files):
        return Start(kind="new")
    if force:
        return Start(kind="over")
    if resume is False:
        hint = "Go on with it by --resume, overwrite it with --force, or choose another with -o."
        raise CannotCreate(files.name, "it exists already", hint)
    return _start_again(files, manifest, _manifest(files))


def _start_again(files: OutputFiles, manifest: RunManifest, then: RunManifest) -> Start:
    """Go on with an output that is there."""
    found = differences(then, manifest)
    made = files.hidden and files.output.exists()
    if not made and _blank(files) and (found or not then.complete):
        return Start(kind="new")
    if found:
        inputs = input_differences(then, manifest)
        raise changed(files.name, found, OTHER_INPUT if found == inputs else "")
    if not files.rows.exists():
        return _start_nothing(files, then)
    rows = scan(files.rows, files.name)
    if then.complete and then.rows == len(rows) and files.output.exists():
        return Start(kind="nothing", found=rows, rows=then.rows)
    return Start(kind="append", found=rows, rows=then.rows if then.complete else None)


def _start_nothing(files: OutputFiles, then: RunManifest) -> Start:
    """The rows were removed, as they are when the output in its other format is complete."""
    if not then.complete:
        raise _stranger(files)
    if not then.comparable:
        raise CannotCreate(
            files.name,
            "it is complete, and standard input cannot be compared with what it was made from",
            "Overwrite it with --force, or write elsewhere with -o.",
        )
    return Start(kind="nothing", rows=then.rows, failed=then.failed or 0)


def _start_retry(files: OutputFiles, manifest: RunManifest) -> Start:
    if not _present(files):
        return Start(kind="new")
    then = _manifest(files)
    plain = _start_again(files, manifest, then)
    old = plain.found
    if not old.failed:
        return plain
    begun = _rewritten(files)
    shared = min(len(begun), len(old))
    if begun.digests[:shared] != old.digests[:shared]:
        raise BadInput(
            f"file {files.rewritten}",
            f"it does not belong to output {files.name}",
            "Remove it and run the same command again.",
        )
    return Start(kind="rewrite", found=begun, old=old, rows=plain.rows, replaces=then.complete)


def _start_changed(files: OutputFiles, manifest: RunManifest) -> Start:
    if not _present(files):
        return Start(kind="new")
    then = _manifest(files)
    inputs = input_differences(then, manifest)
    others = [one for one in differences(then, manifest) if one not in inputs]
    made = files.hidden and files.output.exists()
    if not inputs or others or (not made and _blank(files)):
        return _start_again(files, manifest, then)
    if not files.rows.exists():
        hint = "Start over with --force, or write elsewhere with -o."
        raise CannotCreate(files.name, "its rows are kept in this format only", hint)
    old = scan(files.rows, files.name)
    begun = _rewritten(files)
    return Start(kind="rewrite", found=begun, old=old, by_content=True, replaces=then.complete)


def _present(files: OutputFiles) -> bool:
    return files.output.exists() or files.rows.exists()


def _manifest(files: OutputFiles) -> RunManifest:
    """What the output was made from. Raises CannotCreate where nothing says so, BadInput."""
    found = read_manifest(files.manifest)
    if found is None:
        raise _stranger(files)
    return found


def _stranger(files: OutputFiles) -> CannotCreate:
    why = "it exists already, and gptcli batch did not make it"
    return CannotCreate(files.name, why, "Overwrite it with --force, or choose another with -o.")


def _blank(files: OutputFiles) -> bool:
    """Whether there is no whole row yet. Raises BadInput where the beginning of one is not ours."""
    if not files.rows.exists():
        return True
    with open_regular(files.rows) as file:
        whole = file.readline(MAX_ROW_BYTES).endswith(b"\n")
    return not whole and not scan(files.rows, files.name)


def _rewritten(files: OutputFiles) -> Found:
    path = files.rewritten
    return scan(path, str(path)) if path.exists() else Found()
