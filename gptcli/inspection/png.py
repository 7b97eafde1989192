"""PNG files of plots, written with zlib alone: the drawing of the SVG file, as pixels.

Words are in the letters of `gptcli.inspection.font`; what these lack stands as its code point.
Source: Portable Network Graphics, W3C, third edition.
"""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise
from typing import Any

from gptcli.inspection import font
from gptcli.inspection.colours import STOPS, Colour
from gptcli.inspection.layout import LETTER, Box, Cells, Item, Polyline, Words, laid_out
from gptcli.inspection.plots import Plot

INK: Colour = (31, 35, 40)
FINE, COARSE = 2, 1  # pixels of a unit of the drawing
MAX_FINE_PIXELS = 30_000_000  # of a picture that is drawn fine


def image(plot: Plot) -> bytes:
    """The contents of a PNG file."""
    import numpy as np

    drawing = laid_out(plot, font.spelled)
    scale = FINE if drawing.width * drawing.height * FINE**2 <= MAX_FINE_PIXELS else COARSE
    canvas = np.full((drawing.height * scale, drawing.width * scale, 4), 255, dtype=np.uint8)
    for item in drawing.items:
        _draw(canvas, item, scale)
    return encoded(canvas)


def undrawn(plot: Plot) -> bool:
    """Whether the picture has code points in place of letters."""
    words = (item.text for item in laid_out(plot).items if isinstance(item, Words))
    return any(font.spelled(text) != font.composed(text) for text in words)


def encoded(pixels: Any) -> bytes:
    """PNG of numpy uint8 pixels (H, W, 4): red, green, blue, opacity."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # 0: no filter
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)  # 8 bits, RGB and opacity
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def coloured(numbers: Any, cell: int) -> Any:
    """Numbers from 0 to 1 as pixels of the ramp, each a square of `cell`; NaN is transparent."""
    import numpy as np

    known = np.isfinite(numbers)
    places = np.linspace(0, 1, len(STOPS))
    shares = np.where(known, numbers, 0)
    channels = [np.interp(shares, places, channel) for channel in zip(*STOPS, strict=True)]
    pixels = np.stack([*channels, np.where(known, 255, 0)], axis=-1)
    return pixels.round().astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)


def _draw(canvas: Any, item: Item, scale: int) -> None:
    if isinstance(item, Box):
        _fill(canvas, item, scale)
    elif isinstance(item, Cells):
        pixels = coloured(item.numbers, item.cell * scale)
        _place(canvas, pixels[..., 3] > 0, pixels, item.x * scale, item.y * scale)
    elif isinstance(item, Polyline):
        _trace(canvas, item, scale)
    else:
        _write(canvas, item, scale)


def _trace(canvas: Any, path: Polyline, scale: int) -> None:
    """Lines from point to point: a square of the path's thickness at each pixel of the way."""
    import numpy as np

    points = np.array(path.points, dtype=float) * scale
    if len(points) == 1:
        points = np.repeat(points, 2, axis=0)
    for (x, y), (to_x, to_y) in pairwise(points):
        count = int(max(abs(to_x - x), abs(to_y - y))) + 2
        across = np.linspace(x, to_x, count).round().astype(int)
        down = np.linspace(y, to_y, count).round().astype(int)
        side = path.thick * scale
        for shift in range(side * side):
            row = (down + shift // side - side // 2).clip(0, canvas.shape[0] - 1)
            column = (across + shift % side - side // 2).clip(0, canvas.shape[1] - 1)
            canvas[row, column, :3] = path.colour


def _fill(canvas: Any, box: Box, scale: int) -> None:
    left, right = round(box.x * scale), round((box.x + box.width) * scale)
    top, bottom = round(box.y * scale), round((box.y + box.height) * scale)
    canvas[top:bottom, left:right, :3] = box.colour


def _write(canvas: Any, words: Words, scale: int) -> None:
    """A line of text; its dots are a sixth of a letter's width."""
    import numpy as np

    dot = LETTER * scale // font.ADVANCE
    dots = font.line(words.text).repeat(dot, axis=0).repeat(dot, axis=1)
    wide = dots.shape[1]
    baseline = font.BASELINE * dot
    x, y = round(words.x * scale), round(words.y * scale)
    if words.turned:
        dots, x, y = np.rot90(dots), x - baseline, y - wide
    else:
        x -= wide if words.kind == "end" else wide // 2 if words.kind == "middle" else 0
        y -= baseline
    pixels = np.empty((*dots.shape, 4), dtype=np.uint8)
    pixels[:] = (*(words.colour or INK), 255)
    _place(canvas, dots, pixels, x, y)


def _place(canvas: Any, shape: Any, pixels: Any, x: int, y: int) -> None:
    """Put those pixels on the canvas where `shape` is true; what is beyond its edges is lost."""
    left, top = max(-x, 0), max(-y, 0)
    part = canvas[y + top : y + shape.shape[0], x + left : x + shape.shape[1]]
    rows, columns = part.shape[:2]
    seen = shape[top : top + rows, left : left + columns]
    part[seen] = pixels[top : top + rows, left : left + columns][seen]


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
