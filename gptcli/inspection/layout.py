"""Where everything of a plot stands: boxes, cells and words, before a file format is chosen.

SVG and PNG draw the same drawing, so a picture has the words that the vector file has. A unit is a
pixel of the SVG file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gptcli.inspection.colours import AGAINST, FOR, Colour, ink, ramp
from gptcli.inspection.plots import Bars, Curves, Maps, Plot
from gptcli.system.text.characters import width

Spelling = Callable[[str], str]
"""(text) -> the text as the file format can draw it."""
TITLE, MARGIN, LINE = 34, 12, 20  # height of the title, free space around, height of a row
LETTER, NUMBER = 9, 80  # width of a letter, room for a number beside a bar
BAR, THICK = 480, 14  # length of the longest bar, its thickness
INTERVAL: Colour = (31, 35, 40)  # of the thin line over a bar
GAP, NAME = 12, 18  # between maps; height of a map's name
MAX_CELL, LEGIBLE_CELL = 24, 14  # side of a cell; what a label needs
MAP_WIDTH = 1400  # of a line of maps, unless it has more cells than that
WORD_CELL = 22  # height of a cell that holds a word
SCALE = 160  # length of the legend's ramp
WIDE, HIGH, TICKS = 640, 300, 5  # of the field of curves; ticks of an axis, about
AXIS: Colour = (205, 210, 215)


@dataclass(frozen=True)
class Words:
    """A line of text from (x, y), its baseline; "end" and "middle" say where x is in it."""

    x: float
    y: float
    text: str
    kind: str = ""  # "", "title", "end", "middle"
    turned: bool = False  # reads upwards
    colour: Colour | None = None  # None: the colour of all text


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: Colour


@dataclass(frozen=True)
class Cells:
    """A map of numbers from 0 to 1, numpy (R, T), each a square of `cell`; NaN is no cell."""

    x: int
    y: int
    cell: int
    numbers: Any


@dataclass(frozen=True)
class Polyline:
    """Points (x, y), joined by straight lines."""

    points: tuple[tuple[float, float], ...]
    colour: Colour
    thick: int


Item = Words | Box | Cells | Polyline


@dataclass(frozen=True)
class Drawing:
    """A title, a size, and what is drawn."""

    title: str
    width: int
    height: int
    items: tuple[Item, ...]


def laid_out(plot: Plot, spelling: Spelling = str) -> Drawing:
    """The drawing of a plot, its texts in a spelling that the file format can draw."""
    if isinstance(plot, Bars):
        body = _bars(plot, spelling)
    else:
        body = _maps(plot, spelling) if isinstance(plot, Maps) else _curves(plot, spelling)
    items: list[Item] = [Words(MARGIN, 22, spelling(plot.title), "title"), *body]
    if plot.note:
        low = max(map(_bottom, items))
        items.append(Words(MARGIN, low + LINE, spelling(plot.note)))
    across = max(map(_right, items)) + MARGIN
    return Drawing(
        plot.title, math.ceil(across), math.ceil(max(map(_bottom, items))) + 10, (*items,)
    )


def cell_side(plot: Maps) -> int:
    """The side of a cell, so that a line of maps is about `MAP_WIDTH` wide."""
    return max(min(MAX_CELL, MAP_WIDTH // (plot.abreast * len(plot.columns))), 1)


def _bars(plot: Bars, spelling: Spelling) -> Iterator[Item]:
    intervals = plot.intervals or (None,) * len(plot.rows)
    values = [value or 0.0 for _, value, _ in plot.rows]
    values += [end for interval in intervals if interval for end in interval]
    labels = [spelling(label) for label, _, _ in plot.rows]
    largest = max(map(abs, values), default=0.0) or 1.0
    left = MARGIN + _room(labels)
    zero = left + (BAR if min(values, default=0.0) < 0 else 0)
    rows = zip(labels, plot.rows, intervals, strict=True)
    for row, (label, (_, value, shown), interval) in enumerate(rows):
        top = TITLE + row * LINE
        yield Words(left - 8, top + 13, label, "end")
        if value is None:
            continue
        length = abs(value) / largest * BAR
        start = zero if value >= 0 else zero - length
        yield Box(start, top + 2, length, THICK, FOR if value >= 0 else AGAINST)
        end = max(start + length, zero)
        if interval is not None:
            low, high = (zero + one / largest * BAR for one in interval)
            yield Box(low, top + 2 + THICK / 2 - 1, max(high - low, 1.0), 2, INTERVAL)
            end = max(end, high)
        yield Words(end + 6, top + 13, shown)


def _maps(plot: Maps, spelling: Spelling) -> Iterator[Item]:
    if plot.words:
        yield from _map_of_words(plot, spelling)
        return
    cell = cell_side(plot)
    alone = len(plot.maps) == 1
    step = math.ceil(LEGIBLE_CELL / cell)  # where cells are small, some rows have a label
    rows, columns = (
        dict(list(enumerate(map(spelling, labels)))[::step]) if alone else {}
        for labels in (plot.rows, plot.columns)
    )
    left = MARGIN + (_room([*rows.values()]) if alone else 0)
    top = TITLE + (_room([*columns.values()]) if alone else 0)
    name = 0 if alone else NAME
    wide = max(len(plot.columns) * cell, LETTER * max(map(len, plot.names)) if name else 0) + GAP
    high = name + len(plot.rows) * cell + GAP
    for place, numbers in enumerate(plot.maps):
        line, column = divmod(place, plot.abreast)
        x, y = left + column * wide, top + line * high + name
        if name:
            yield Words(x, y - 5, plot.names[place])
        yield Cells(x, y, cell, numbers)
    for place, label in rows.items():
        yield Words(left - 6, top + place * cell + cell * 0.5 + 4, label, "end")
    for place, label in columns.items():
        yield Words(left + place * cell + cell * 0.5 + 4, top - 6, label, turned=True)
    yield from _scale(top + math.ceil(len(plot.maps) / plot.abreast) * high, plot.unit)


def _map_of_words(plot: Maps, spelling: Spelling) -> Iterator[Item]:
    """One map whose cells are words on the colours of their numbers."""
    rows, columns = (list(map(spelling, labels)) for labels in (plot.rows, plot.columns))
    words = [[spelling(word) for word in row] for row in plot.words]
    wide = _room([*columns, *(word for row in words for word in row)])
    left, top = MARGIN + _room(rows), TITLE + LINE
    for place, label in enumerate(columns):
        yield Words(left + (place + 0.5) * wide, top - 6, label, "middle")
    for row, (label, said, numbers) in enumerate(zip(rows, words, plot.maps[0], strict=True)):
        y = top + row * WORD_CELL
        yield Words(left - 6, y + 15, label, "end")
        for column, (word, number) in enumerate(zip(said, numbers, strict=True)):
            colour = ramp(float(number))
            yield Box(left + column * wide, y, wide - 1, WORD_CELL - 1, colour)
            black_or_white = (0, 0, 0) if ink(colour) == "#000000" else (255, 255, 255)
            middle = left + (column + 0.5) * wide
            yield Words(middle, y + 15, word, "middle", colour=black_or_white)
    yield from _scale(top + len(rows) * WORD_CELL + GAP, plot.unit)


def _curves(plot: Curves, spelling: Spelling) -> Iterator[Item]:
    """Axes with ticks, the curves, and their names."""
    points = [point for curve in plot.curves for point in curve.points]
    low, high, across = _axis([y for _, y in points])
    first, last, along = _axis([x for x, _ in points])
    left, top = MARGIN + 7 * LETTER, TITLE + LINE
    yield Words(MARGIN, top - 10, spelling(plot.upwards))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - first) / (last - first) * WIDE,
            top + (high - y) / (high - low) * HIGH,
        )

    for tick in across:
        _, y = place(first, tick)
        yield Box(left, y, WIDE, 1, AXIS)
        yield Words(left - 8, y + 5, f"{tick:g}", "end")
    for tick in along:
        x, bottom = place(tick, low)
        yield Box(x, bottom, 1, 5, AXIS)
        yield Words(x, bottom + LINE, f"{tick:,g}" if tick < 10**6 else f"{tick:g}", "middle")
    for curve, colour in zip(plot.curves, (FOR, AGAINST), strict=False):
        placed = tuple(place(*point) for point in curve.points)
        yield Polyline(placed, colour, 2 if curve.strong else 1)
    yield Words(left + WIDE / 2, top + HIGH + 2 * LINE, spelling(plot.across), "middle")
    x = float(left + WIDE)
    for curve, colour in reversed([*zip(plot.curves, (FOR, AGAINST), strict=False)]):
        yield Words(x, top - 10, spelling(curve.name), "end", colour=colour)
        x -= LETTER * (width(curve.name) + 2)


def _axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Both ends of an axis, and round numbers between them."""
    low, high = min(values), max(values)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / TICKS
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * many for many in (1, 2, 5, 10) if unit * many >= raw)
    numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
    return low, high, [round(number * step, 12) for number in numbers]


def _scale(y: float, unit: str) -> Iterator[Item]:
    """The ramp from 0 to 1, and what it measures."""
    yield Words(MARGIN, y + 11, "0")
    for step in range(SCALE // 4):
        yield Box(MARGIN + 16 + 4 * step, y, 4, 12, ramp(step / (SCALE // 4 - 1)))
    yield Words(MARGIN + SCALE + 22, y + 11, f"1  {unit}")


def _room(labels: Sequence[str]) -> int:
    """Room for the longest of some labels."""
    return LETTER * max(map(width, labels), default=0) + LETTER


def _right(item: Item) -> float:
    if isinstance(item, Polyline):
        return max(x for x, _ in item.points)
    if isinstance(item, Words):
        length = LETTER * width(item.text)
        return item.x + (10 if item.turned else _SHARES.get(item.kind, 1.0) * length)
    return item.x + (item.numbers.shape[1] * item.cell if isinstance(item, Cells) else item.width)


_SHARES = {"end": 0.0, "middle": 0.5}  # how much of a text is to the right of its place


def _bottom(item: Item) -> float:
    if isinstance(item, Polyline):
        return max(y for _, y in item.points)
    if isinstance(item, Words):
        return item.y + 4
    return item.y + (item.numbers.shape[0] * item.cell if isinstance(item, Cells) else item.height)
