"""Lines typed at a terminal, with editing and a history: prompt_toolkit, set up for a conversation.

Everything it draws goes to stderr, so that replies can be sent to a file. The terminal is put in
order also when a signal ends the program in the middle of a line. The history is a convenience:
whatever goes wrong with its file is said once, and typing goes on. Left out: what a line means, see
`gptcli.cli.interactive.typed`.
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

IN_ORDER = "\x1b[?2004l\x1b[?25h\n"  # no bracketed paste, a cursor, a line of its own
Note = Callable[[str], None]


class _Remembered(FileHistory):
    """A history file that may fail."""

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
    """A function that shows a prompt and reads a line; None is the end of input.

    It raises KeyboardInterrupt for Ctrl-C, and for Ctrl-D where a message has begun.
    """
    output = Vt100_Output.from_pty(sys.stderr, term=os.environ.get("TERM"))
    # The terminal is not asked where its cursor is: an answer that comes late is typed text.
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

    def put_in_order() -> None:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
        stderr.emit(IN_ORDER)

    with signals.cleaning(put_in_order):
        yield read


def _history(note: Note) -> History:
    """The history file, made for its owner alone; another history where there can be none."""
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
    return _Remembered(path, note)
