"""Where one view goes: the terminal, a pipe or a file, and up to four files besides.

All are opened before anything is computed, so that a file which cannot be made costs nothing, and
each appears whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from shutil import get_terminal_size
from typing import TypeVar

from gptcli.cli.output import render, sink, stderr
from gptcli.cli.output.drawing import Canvas, StyledLine, cropped, plain
from gptcli.cli.output.records import document, json_line, written
from gptcli.cli.output.sink import Sink
from gptcli.errors import UsageError
from gptcli.inspection.options import ViewFormat, ViewOutput
from gptcli.inspection.page import notes, page
from gptcli.inspection.plots import plot
from gptcli.inspection.png import image, undrawn
from gptcli.inspection.records import columns, npz, record, rows
from gptcli.inspection.svg import drawn
from gptcli.inspection.views import View
from gptcli.options import Output

Kind = TypeVar("Kind", bound=str)
UNDRAWN = "the PNG has code points in place of letters beyond Latin; an SVG shows the letters"


class Outlets:
    """The open outputs of one command; `notices` tell what a page or a picture left out."""

    def __init__(self, report: ViewOutput, main: Sink, files: Mapping[ViewFormat, Sink]) -> None:
        self._report, self._main, self._files = report, main, files
        self.notices: tuple[str, ...] = ()

    @property
    def paged(self) -> bool:
        """Whether a page is asked for."""
        return "html" in self._files or self._report.shape == "html"

    def write(
        self,
        view: View,
        draw: Callable[[Canvas], list[StyledLine]],
        paged: Sequence[View],
        wrapped: bool = False,
    ) -> None:
        """Write the view in all shapes asked for; `paged` are those of the page.

        `draw` gives the lines for a terminal or a pipe, cut to it unless `wrapped`.
        """
        shape = self._report.shape
        if shape == "text":
            self._draw(draw, wrapped)
        else:
            self._put(shape, self._main, view, paged)
        for kind, file in self._files.items():
            self._put(kind, file, view, paged)

    def _put(self, kind: ViewFormat, out: Sink, view: View, paged: Sequence[View]) -> None:
        """Write the view in one format, which is not text."""
        match kind:
            case "html":
                out.write(page(f"gptcli inspect: {view.model}", paged))
                self.notices += tuple(note for note in notes(paged) if note not in self.notices)
            case "svg":
                out.write(drawn(plot(view)))
            case "png":
                drawing = plot(view)
                out.write_bytes(image(drawing))
                if undrawn(drawing) and UNDRAWN not in self.notices:
                    self.notices += (UNDRAWN,)
            case "npz":
                out.write_bytes(npz(view))
            case "csv" | "tsv":
                for piece in written(rows(view), kind, columns(view)):
                    out.write(piece)
            case _:
                out.write((document if kind == "json" else json_line)(record(view)))

    def _draw(self, draw: Callable[[Canvas], list[StyledLine]], wrapped: bool) -> None:
        canvas = Canvas(self._columns(), self._main.styled)
        lines = draw(canvas)
        if not (wrapped and canvas.styled):
            lines = cropped(lines, canvas)
        if canvas.styled:
            always = stderr.color_choice() == "always"
            self._main.paint(render.painted(lines, always))
        else:
            self._main.write(plain(lines))

    def _columns(self) -> int | None:
        """Columns of a line: those of the terminal, also behind a pager that gets colours."""
        if self._main.terminal:
            return get_terminal_size().columns
        if self._main.styled:
            with suppress(OSError):
                return os.get_terminal_size(2).columns
        return None


@contextmanager
def opened(report: ViewOutput) -> Iterator[Outlets]:
    """Open what a report asks for. Raises CannotCreate, and UsageError for a file named
    twice, or by a suffix that stands for no format."""
    report.shape  # noqa: B018 - a suffix that stands for no format is refused here
    wanted: dict[ViewFormat, str | None] = {
        "html": report.html,
        "svg": report.svg,
        "png": report.png,
        "npz": report.npz,
    }
    unshown = report.shape if report.shape in ("png", "npz") else None
    with opened_files(report.output, report.force, wanted, unshown) as (main, files):
        yield Outlets(report, main, files)


@contextmanager
def opened_files(
    output: str | None, force: bool, wanted: Mapping[Kind, str | None], unshown: str | None
) -> Iterator[tuple[Sink, dict[Kind, Sink]]]:
    """Standard output or the file `output`, and the files that are wanted besides.

    unshown: the output's format, where a terminal cannot show it. Raises CannotCreate, and
    UsageError for a file named twice or a format on a terminal that cannot show it.
    """
    named = {kind: path for kind, path in wanted.items() if path is not None}
    paths = [path for path in (output, *named.values()) if path is not None]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(path, "it is to hold two things", "Name a file for each.")
    with ExitStack() as stack:
        main = stack.enter_context(sink.opened(Output(output=output, force=force)))
        if main.terminal and unshown is not None:
            why = "a terminal cannot show it"
            raise UsageError(f"--format {unshown}", why, "Name a file with -o.")
        files = {
            kind: stack.enter_context(sink.opened(Output(output=path, force=force)))
            for kind, path in named.items()
        }
        yield main, files
