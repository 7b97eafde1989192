"""The output of a command: standard output or a file.

Bytes go straight to the descriptor: each piece of a stream appears at once, and an error belongs to
the write that caused it. A file is written under another name and renamed at the end. It appears
whole, or with the text so far after a signal. Text is sanitised for a terminal, and exact to the
byte on a pipe or in a file.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import get_terminal_size

from gptcli.cli import signals
from gptcli.cli.output import stderr
from gptcli.cli.output.records import document
from gptcli.errors import CannotCreate, GptcliError, UsageError, WriteFailed
from gptcli.options import Output
from gptcli.system import durable
from gptcli.system.os_errors import reason, said
from gptcli.system.regular_files import open_pipe
from gptcli.system.sanitizer import sanitize
from gptcli.system.text.word_wrap import WordWrap

STDOUT_NAMES = (None, "-", "/dev/stdout", "/dev/fd/1")


class Sink:
    """An open output. Error messages call it `name`."""

    def __init__(
        self,
        descriptor: int,
        name: str,
        file: durable.NewFile | None = None,
        force: bool = False,
    ) -> None:
        self.name = name
        self.terminal = os.isatty(descriptor)
        # A drawing may be styled on a pipe, too; a text is only dimmed on a terminal.
        self.styled = file is None and stderr.styled(self.terminal)
        self.wrote = False
        self._descriptor = descriptor
        self._file = file  # the unnamed file that is put in place at the end
        self._force = force  # whether it may replace another file
        self._line_open = False
        self._wrap = WordWrap(lambda: get_terminal_size().columns)

    def write(self, text: str) -> None:
        """Write all of `text` now. Raises WriteFailed; a closed pipe is SIGPIPE."""
        if text and self.terminal:
            shown = sanitize(text)
            self._wrap.seen(shown)
            self._put(shown)
        else:
            self._put(text)

    def prose(self, text: str) -> None:
        """As `write`, but a terminal's lines end between words. A pipe stays exact."""
        if self.terminal and os.environ.get("TERM") not in (None, "", "dumb"):
            self._put(self._wrap.wrapped(sanitize(text)))
        else:
            self.write(text)

    def dim(self, text: str) -> None:
        """Write `text` as `prose`, faint where the terminal may be styled."""
        dimmed = self.terminal and self.styled
        self._send(stderr.DIM if dimmed else "")
        self.prose(text)
        self._send(stderr.PLAIN if dimmed else "")

    def paint(self, text: str) -> None:
        """Write `text` with its escape sequences. The caller has sanitised what a model wrote."""
        self._put(text)

    def _put(self, text: str) -> None:
        if text:
            self._send(text)
            self.wrote, self._line_open = True, not text.endswith("\n")

    def write_bytes(self, data: bytes) -> None:
        """Write binary data: a picture, an archive. Raises as `write`."""
        self._send_bytes(data)
        self.wrote = True

    def interrupt(self) -> None:
        """After a signal: end the line (not on a pipe, which stays exact), keep the text so far."""
        if self.terminal and self.styled:
            self._send(stderr.PLAIN)
        if self._line_open and (self.terminal or self._file):
            self._send("\n")
        self.close()

    def close(self) -> None:
        """Put a file in its place, or remove it when nothing was written. Raises WriteFailed."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            if not self.wrote:
                file.discard()
            elif self._force:
                file.put()
            else:
                file.put_new()
        except FileExistsError:
            hint = f"The answer is in {file.path}. Overwrite the other with --force next time."
            raise CannotCreate(self.name, "it was made meanwhile", hint) from None
        except OSError as error:
            with suppress(OSError):
                file.discard()
            raise _failed(self.name, error) from None

    def discard(self) -> None:
        """Remove a partial file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.discard()
            self._file = None

    def _send(self, text: str) -> None:
        # A lone surrogate becomes an escape: readable in text, valid in JSON.
        self._send_bytes(text.encode("utf-8", "backslashreplace"))

    def _send_bytes(self, rest: bytes) -> None:
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # a non-blocking pipe is full: wait for room
                select.select([], [self._descriptor], [])
            except BrokenPipeError as error:
                if self._descriptor == 1:
                    signals.die(signal.SIGPIPE)
                raise _failed(self.name, error) from None
            except OSError as error:
                raise _failed(self.name, error) from None


@contextmanager
def opened(output: Output) -> Iterator[Sink]:
    """Open the output; commands do so before they load a model.

    Raises CannotCreate if the file exists (without --force) or cannot be made, WriteFailed if
    standard output is closed. If the block fails, the text so far stays, unless writing failed.
    """
    sink = _stdout() if output.output in STDOUT_NAMES else _file(str(output.output), output.force)
    with signals.cleaning(sink.interrupt):
        try:
            yield sink
        except WriteFailed:
            sink.discard()
            raise
        except BaseException:
            with suppress(GptcliError):  # the first failure is the one to report
                sink.close()
            raise
        sink.close()


def write(text: str) -> None:
    """Write to standard output."""
    with opened(Output()) as out:
        out.write(text)


def write_json(value: object) -> None:
    """Write a value to standard output as indented JSON."""
    write(document(value))


def _stdout() -> Sink:
    if sys.stdout is None:
        raise WriteFailed("standard output", "it is closed", "Write to a file with -o FILE.")
    try:
        sys.stdout.flush()
        return Sink(sys.stdout.fileno(), "standard output")
    except OSError as error:
        raise _failed("standard output", error) from None


def _file(name: str, force: bool) -> Sink:
    if "\0" in name:
        raise UsageError("--output", "the name holds a NUL character", "Give another name.")
    if not name:
        raise UsageError("--output", "the name is empty", "Name a file.")
    try:
        found = Path(name).stat() if Path(name).exists() else None
        if found and stat.S_ISDIR(found.st_mode):
            raise CannotCreate(name, "it is a folder", "Name a file in it.")
        if found and not stat.S_ISREG(found.st_mode):  # a device or a named pipe
            return Sink(open_pipe(name), name)
        if found and not force:
            raise CannotCreate(name, "it exists already", "Overwrite it with --force.")
        place = durable.followed(Path(name))  # replace the target of a link, not the link
        file = durable.NewFile(place, stat.S_IMODE(found.st_mode) if found else None)
        return Sink(file.descriptor, name, file, force)
    except OSError as error:
        why = reason(error)
        raise CannotCreate(name, why, "Choose another file.") from None


def _failed(name: str, error: OSError) -> WriteFailed:
    why = said(error)
    return WriteFailed(name, why, "Make room, or write elsewhere.")
