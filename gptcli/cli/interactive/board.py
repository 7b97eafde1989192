"""A board: lines at the bottom of a terminal that are drawn again in place, on stderr.

Messages appear above it. When the terminal gets narrower, lines that are on it may be wrapped by
it, so what is erased is counted anew for the width of the moment. Not here: whether stderr is a
terminal that can do this is `can_show`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from shutil import get_terminal_size

from gptcli.cli import signals
from gptcli.cli.output import render, stderr
from gptcli.cli.output.drawing import Canvas, StyledLine, cropped, plain
from gptcli.system.text.characters import width

Content = Callable[[int, int], list[StyledLine]]
"""(columns, rows) -> lines; those beyond the rows are not shown."""


def can_show() -> bool:
    """Whether stderr is a terminal that moves its cursor."""
    return stderr.stderr_is_terminal() and os.environ.get("TERM") not in (None, "", "dumb")


class Board:
    """What is on the terminal, and how to take it away."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._widths: list[int] = []  # of the lines that are shown
        self._busy = self._closed = False

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside the block the board is on the terminal; its last state stays."""
        with (
            signals.resized(self.draw),
            stderr.drawing(self._erased, self.draw),
        ):
            try:
                yield
            finally:
                self.close()

    def draw(self) -> None:
        """Draw it anew, in place."""
        if self._busy or self._closed:  # a signal's handler, while it is drawn
            return
        self._busy = True
        try:
            columns, rows = _size()
            canvas = Canvas(columns - 1, stderr.styled())
            lines = cropped(self._content(columns - 1, rows - 1)[: rows - 1], canvas)
            text = render.painted(lines) if canvas.styled else plain(lines)
            before = self._erased()
            self._widths = [sum(width(text) for text, _ in line) for line in lines]
            stderr.emit(before + text.removesuffix("\n"))
        finally:
            self._busy = False

    def close(self) -> None:
        """Leave it as it is; what follows is below."""
        if not self._closed:
            self._closed = True
            if self._widths:
                stderr.emit("\n")
            self._widths = []

    def _erased(self) -> str:
        """The escape sequence that takes it away; then it is not there."""
        columns, _ = _size()
        rows = sum(max(-(-taken // columns), 1) for taken in self._widths)
        self._widths = []
        up = f"\x1b[{rows - 1}A" if rows > 1 else ""
        return f"\r{up}\x1b[J" if rows else ""


def _size() -> tuple[int, int]:
    """Columns and rows of the terminal; COLUMNS and LINES win."""
    columns, rows = 0, 0
    with suppress(OSError):
        columns, rows = os.get_terminal_size(2)
    found = get_terminal_size((columns or 80, rows or 24))
    columns = found.columns if "COLUMNS" in os.environ else columns or found.columns
    return max(columns, 2), max(found.lines if "LINES" in os.environ else rows or 24, 2)
