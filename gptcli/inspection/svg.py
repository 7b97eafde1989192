"""SVG files of maps and bars, with words and numbers.

Bars are shapes; the cells of a map are an image inside the file, at the size it is shown, because
half a million squares would be too much for any viewer. Text is drawn in the reader's own fonts,
and follows the reader's choice of light or dark.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator
from html import escape

from gptcli.inspection import png
from gptcli.inspection.colours import AGAINST, FOR, STOPS, code
from gptcli.inspection.labels import width
from gptcli.inspection.plots import Bars, Maps, Plot
from gptcli.system.sanitizer import one_line

TOP, MARGIN = 34, 10  # the title's height; what is left free around
LETTER, NUMBER = 8, 70  # widths of a letter and of a number
BAR, THICK, LINE = 480, 14, 20
NAME = 18  # height of a map's name
LEGIBLE = 10  # pixels of a cell that can have a label
STYLE = f"""
text {{ font: 12px ui-monospace, monospace; fill: #1f2328; white-space: pre; }}
.title {{ font: 600 14px system-ui, sans-serif; }}
.end {{ text-anchor: end; }}
.for {{ fill: {code(FOR)}; }}
.against {{ fill: {code(AGAINST)}; }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3; }} }}
"""


def drawn(plot: Plot) -> str:
    """The text of an SVG file."""
    if isinstance(plot, Bars):
        return _file(plot.title, *_size_of_bars(plot), _bars(plot))
    return _file(plot.title, *_size_of_maps(plot), _maps(plot))


def _file(title: str, width: int, height: int, parts: Iterator[str]) -> str:
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>'
    named = f"<title>{escape(one_line(title), quote=False)}</title>"
    shown = _text(MARGIN, 22, title, "title")
    return "\n".join([head, named, f"<style>{STYLE}</style>", shown, *parts, "</svg>"]) + "\n"


def _size_of_bars(plot: Bars) -> tuple[int, int]:
    sides = 2 if any((value or 0) < 0 for _, value, _ in plot.rows) else 1
    left = _longest(row[0] for row in plot.rows)
    across = left + sides * BAR + NUMBER + 2 * MARGIN
    return max(across, LETTER * len(plot.title)), TOP + LINE * len(plot.rows) + MARGIN


def _bars(plot: Bars) -> Iterator[str]:
    values = [value or 0.0 for _, value, _ in plot.rows]
    largest = max(map(abs, values), default=0.0) or 1.0
    left = MARGIN + _longest(row[0] for row in plot.rows)
    zero = left + (BAR if min(values, default=0.0) < 0 else 0)
    for row, (label, value, shown) in enumerate(plot.rows):
        top = TOP + row * LINE
        yield _text(left - 8, top + 13, label, "end")
        if value is None:
            continue
        length = abs(value) / largest * BAR
        start, kind = (zero, "for") if value >= 0 else (zero - length, "against")
        box = f'x="{start:.2f}" y="{top + 2}" width="{length:.2f}" height="{THICK}"'
        yield f'<rect class="{kind}" {box}/>'
        yield _text(max(start + length, zero) + 6, top + 13, shown)


def _size_of_maps(plot: Maps) -> tuple[int, int]:
    wide, high = _tile(plot)
    lines = math.ceil(len(plot.maps) / plot.abreast)
    left, above = _labels(plot)
    across = left + plot.abreast * wide + 2 * MARGIN
    return max(across, LETTER * len(plot.title)), TOP + above + lines * high + 2 * LINE + MARGIN


def _maps(plot: Maps) -> Iterator[str]:
    cell = png.cell_size(plot)
    wide, high = _tile(plot)
    left, above = _labels(plot)
    for place, numbers in enumerate(plot.maps):
        line, column = divmod(place, plot.abreast)
        x, y = MARGIN + left + column * wide, TOP + above + line * high
        if plot.names[place]:
            yield _text(x, y + 12, plot.names[place])
        data = base64.b64encode(png.encoded(png.coloured(numbers, cell))).decode()
        rows, columns = numbers.shape
        box = f'x="{x}" y="{y + NAME}" width="{columns * cell}" height="{rows * cell}"'
        yield f'<image {box} href="data:image/png;base64,{data}"/>'
    if left:
        yield from _axes(plot, cell, left, above)
    yield from _scale(TOP + above + math.ceil(len(plot.maps) / plot.abreast) * high + 8)


def _axes(plot: Maps, cell: int, left: int, above: int) -> Iterator[str]:
    """Labels of the rows, and of the columns turned upright."""
    top = TOP + above + NAME
    for row, label in enumerate(plot.rows):
        yield _text(MARGIN + left - 6, top + row * cell + cell * 0.5 + 4, label, "end")
    for column, label in enumerate(plot.columns):
        x, y = MARGIN + left + column * cell + cell * 0.5 + 4, TOP + above + NAME - 4
        turned = f'transform="rotate(-90 {x:.1f} {y})"'
        yield f'<text x="{x:.1f}" y="{y}" {turned}>{escape(one_line(label), quote=False)}</text>'


def _scale(y: int) -> Iterator[str]:
    """The ramp from 0 to 1."""
    stops = "".join(
        f'<stop offset="{place / (len(STOPS) - 1):.2f}" stop-color="{code(stop)}"/>'
        for place, stop in enumerate(STOPS)
    )
    yield f'<defs><linearGradient id="ramp">{stops}</linearGradient></defs>'
    yield f'<rect x="{MARGIN + 16}" y="{y}" width="160" height="12" fill="url(#ramp)"/>'
    yield _text(MARGIN, y + 11, "0")
    yield _text(MARGIN + 182, y + 11, "1")


def _tile(plot: Maps) -> tuple[int, int]:
    """Width and height of one map with its name and the gap to the next."""
    cell = png.cell_size(plot)
    name = 7 * max(map(len, plot.names))
    wide = max(len(plot.columns) * cell, name) + png.GAP
    return wide, NAME + len(plot.rows) * cell + png.GAP


def _labels(plot: Maps) -> tuple[int, int]:
    """Room for labels at the left and above: none where cells are too small, or maps several."""
    if len(plot.maps) > 1 or png.cell_size(plot) < LEGIBLE:
        return 0, 0
    return _longest(plot.rows), max(_longest(plot.columns) - NAME, 0)


def _longest(labels: Iterable[str]) -> int:
    """Room for the longest of some labels."""
    return LETTER * max(map(width, labels), default=0) + LETTER


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f'<text{marked} x="{x:.2f}" y="{y:.2f}">{escape(one_line(text), quote=False)}</text>'
