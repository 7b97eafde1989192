"""PNG files of maps and bars, written with zlib alone: pixels without words.

Cells without a number are transparent. Source: Portable Network Graphics, W3C, third edition.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

from gptcli.inspection.colours import AGAINST, FOR, STOPS
from gptcli.inspection.plots import Bars, Maps, Plot

MAP_PIXELS = 1400  # width of a line of maps, unless it has more cells than that
MAX_CELL_PIXELS = 24
GAP = 4  # between maps
BAR, THICK, LINE = 480, 12, 16  # length of the longest bar, its thickness, and of a row


def image(plot: Plot) -> bytes:
    """The contents of a PNG file."""
    return encoded(bars(plot) if isinstance(plot, Bars) else maps(plot))


def encoded(pixels: Any) -> bytes:
    """PNG of numpy uint8 pixels (H, W, 4): red, green, blue, opacity."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # 0: no filter
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)  # 8 bits, RGB and opacity
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def maps(plot: Maps) -> Any:
    """All maps of a plot as pixels, in their lines."""
    import numpy as np

    cell = cell_size(plot)
    height, width = (count * cell + GAP for count in plot.maps[0].shape)
    lines = math.ceil(len(plot.maps) / plot.abreast)
    canvas = np.zeros((lines * height - GAP, plot.abreast * width - GAP, 4), dtype=np.uint8)
    for place, numbers in enumerate(plot.maps):
        line, column = divmod(place, plot.abreast)
        pixels = coloured(numbers, cell)
        top, left = line * height, column * width
        canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas


def cell_size(plot: Maps) -> int:
    """Pixels of a cell, so that a line of maps is about `MAP_PIXELS` wide."""
    return max(min(MAX_CELL_PIXELS, MAP_PIXELS // (plot.abreast * len(plot.columns))), 1)


def coloured(numbers: Any, cell: int) -> Any:
    """Numbers from 0 to 1 as pixels of the ramp, each a square of `cell`; NaN is transparent."""
    import numpy as np

    known = np.isfinite(numbers)
    places = np.linspace(0, 1, len(STOPS))
    shares = np.where(known, numbers, 0)
    channels = [np.interp(shares, places, channel) for channel in zip(*STOPS, strict=True)]
    pixels = np.stack([*channels, np.where(known, 255, 0)], axis=-1)
    return pixels.round().astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)


def bars(plot: Bars) -> Any:
    """Bars from a common line, those of negative numbers to its left."""
    import numpy as np

    values = [value or 0.0 for _, value, _ in plot.rows]
    largest = max(map(abs, values), default=0.0) or 1.0
    zero = BAR if min(values, default=0.0) < 0 else 0
    canvas = np.zeros((max(len(values), 1) * LINE, zero + BAR, 4), dtype=np.uint8)
    for row, value in enumerate(values):
        length = round(abs(value) / largest * BAR)
        start = zero if value >= 0 else zero - length
        top = row * LINE + (LINE - THICK) // 2
        colour = (*(FOR if value >= 0 else AGAINST), 255)
        canvas[top : top + THICK, start : start + length] = colour
    return canvas


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
