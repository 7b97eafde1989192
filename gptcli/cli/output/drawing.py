"""Lines of styled text, tables and bars, as values: no terminal, no Rich.

A drawing is lines of spans, each a text and a style in Rich's words. Without styles the same
numbers are there as plain text. Texts must be sanitised and of known width, see
`gptcli.inspection.labels`.
Not here: escape sequences are made in `gptcli.cli.output.render`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gptcli.cli.output.table import lines
from gptcli.inspection.colours import Colour, code, ink
from gptcli.inspection.labels import fitted
from gptcli.system.text import word_wrap
from gptcli.system.text.characters import width

StyledText = tuple[str, str]  # text, style
StyledLine = list[StyledText]
DIM = "dim"
EIGHTHS = " ▏▎▍▌▋▊▉█"
SHADES = "·░▒▓█"  # of a cell without colour, from nothing to all
PLAIN_BAR = 24  # columns of a bar where nothing limits the line


@dataclass(frozen=True)
class Canvas:
    """What there is to draw on: columns of a line, None for no limit; whether styles are shown."""

    columns: int | None
    styled: bool

    def room(self, taken: int, most: int) -> int:
        """How many columns are left of a line, at least 1 and at most `most`."""
        return most if self.columns is None else min(max(self.columns - taken, 1), most)


def plain(lines: Iterable[StyledLine]) -> str:
    """The lines without styles, none with blanks at its end."""
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def cropped(lines: Iterable[StyledLine], canvas: Canvas) -> list[StyledLine]:
    """The lines cut to the canvas."""
    if canvas.columns is None:
        return list(lines)
    return [_cut(line, canvas.columns) for line in lines]


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int] = ()
) -> list[StyledLine]:
    """Aligned columns, two blanks apart, those of `right` at their right; the last runs free."""
    shown = lines([head, *rows], set(right))
    return [[(line, "" if place else DIM)] for place, line in enumerate(shown)]


def prose(text: str, canvas: Canvas, style: str = "") -> list[StyledLine]:
    """A sentence, in as many lines as the canvas needs."""
    if canvas.columns is None:
        return [[(text, style)]]
    return [[(line, style)] for line in word_wrap.lines(text, canvas.columns)]


def bar(share: float, columns: int, full: str = EIGHTHS[-1]) -> str:
    """A bar as long as `share` of so many columns, to an eighth where it is drawn full."""
    eighths = round(min(max(share, 0.0), 1.0) * columns * 8)
    if full != EIGHTHS[-1]:
        return full * round(eighths / 8)
    whole, rest = divmod(eighths, 8)
    return full * whole + (EIGHTHS[rest] if rest else "")


def shade(share: float) -> str:
    """The sign of a number from 0 to 1 where there are no colours; below 1/16 it is a dot."""
    if share < 1 / 16:
        return SHADES[0]
    return SHADES[min(int(share * 4) + 1, len(SHADES) - 1)]


def on(colour: Colour) -> str:
    """The style of text on a coloured ground."""
    return f"{ink(colour)} on {code(colour)}"


def _cut(line: StyledLine, columns: int) -> StyledLine:
    kept: StyledLine = []
    for text, style in line:
        wide = width(text)
        if wide > columns:
            kept.append((fitted(text, columns), style))
            break
        kept.append((text, style))
        columns -= wide
    return kept
