"""Lines typed at a terminal, with editing and a history: prompt_toolkit, set up for a conversation.

It draws on stderr, so that replies can be sent to a file. The terminal is restored also when a
signal ends the program in the middle of a line. A history file that fails is reported once, and
typing continues. Not here: the meaning of a line is in `gptcli.cli.interactive.typed`.
"""

from __future__ import annotations

import os
import stat
import sys
import termios
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import create_input
from prompt_toolkit.output.vt100 import Vt100_Output

from gptcli.cli import signals
from gptcli.cli.interactive.typed import PROMPT
from gptcli.cli.output import stderr
from gptcli.inputs.records import Note

RESTORE = "\x1b[?2004l\x1b[?25h\n"  # bracketed paste off, cursor on, a new line


class _History(FileHistory):
    """A history file; a failure of the file is reported once."""

    def __init__(self, path: Path, note: Note) -> None:
        super().__init__(str(path))
        self._path, self._note, self._failed = path, note, False

    def load_history_strings(self) -> Iterable[str]:
        try:
            return list(super().load_history_strings())
        except OSError as error:
            self._fail(error)
            return []

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string)
        except (OSError, UnicodeError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._failed:
            self._note(f"the history is not kept: {self._path}: {error}")
        self._failed = True


@contextmanager
def reading(remember: bool, note: Note) -> Iterator[Callable[[str], str | None]]:
    """Give a function that shows a prompt and returns a line, or None at the end of input.

    It raises KeyboardInterrupt for Ctrl-C, and for Ctrl-D inside a message.
    """
    output = Vt100_Output.from_pty(sys.stderr, term=os.environ.get("TERM"))
    # Do not ask the terminal for its cursor: a late answer would be read as typed text.
    output.enable_cpr = False
    session: PromptSession[str] = PromptSession(
        history=_history(note) if remember else InMemoryHistory(),
        input=create_input(sys.stdin),
        output=output,
    )

    def read(prompt: str) -> str | None:
        try:
            return session.prompt(prompt)
        except EOFError:
            if prompt != PROMPT:
                raise KeyboardInterrupt from None
            return None

    before = termios.tcgetattr(sys.stdin)

    def restore() -> None:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
        stderr.emit(RESTORE)

    with signals.cleaning(restore):
        yield read


def _history(note: Note) -> History:
    """The history file, readable by its owner only; in memory if there can be no file."""
    import platformdirs

    path = Path(platformdirs.user_data_dir("gptcli", appauthor=False)) / "chat_history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(f"{path}: not a regular file")
            with suppress(OSError):
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        note(f"the history is not kept: {error}")
        return InMemoryHistory()
    return _History(path, note)
