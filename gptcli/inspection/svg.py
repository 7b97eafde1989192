"""SVG files of plots, with words and numbers.

The cells of a map are an image inside the file, at the size it is shown: half a million squares
would be too much for any viewer. Text is drawn in the reader's own fonts. The ground is white, also
for who reads in the dark: the ramp ends in a dark blue.
"""

from __future__ import annotations

import base64
from html import escape

from gptcli.inspection import png
from gptcli.inspection.colours import AGAINST, FOR, code
from gptcli.inspection.layout import Box, Cells, Item, Polyline, Words, laid_out
from gptcli.inspection.plots import Plot
from gptcli.system.sanitizer import one_line

STYLE = f"""
svg {{ background: #ffffff; }}
text {{ font: 13px ui-monospace, "DejaVu Sans Mono", monospace; fill: #1f2328; white-space: pre; }}
.title {{ font: 600 14px system-ui, sans-serif; }}
.end {{ text-anchor: end; }}
.middle {{ text-anchor: middle; }}
.for {{ fill: {code(FOR)}; }}
.against {{ fill: {code(AGAINST)}; }}
.black {{ fill: #000000; }}
.white {{ fill: #ffffff; }}
"""
_CLASSES = {FOR: "for", AGAINST: "against", (0, 0, 0): "black", (255, 255, 255): "white"}


def drawn(plot: Plot) -> str:
    """The text of an SVG file."""
    drawing = laid_out(plot)
    wide, high = drawing.width, drawing.height
    size = f'width="{wide}" height="{high}" viewBox="0 0 {wide} {high}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>'
    named = f"<title>{_safe(drawing.title)}</title>"
    items = map(_element, drawing.items)
    return "\n".join([head, named, f"<style>{STYLE}</style>", *items, "</svg>"]) + "\n"


def _element(item: Item) -> str:
    if isinstance(item, Words):
        return _text(item)
    if isinstance(item, Cells):
        return _image(item)
    return _path(item) if isinstance(item, Polyline) else _box(item)


def _box(box: Box) -> str:
    named = _CLASSES.get(box.colour)
    look = f'class="{named}"' if named else f'fill="{code(box.colour)}"'
    place = f'x="{box.x:.2f}" y="{box.y:.2f}"'
    return f'<rect {look} {place} width="{box.width:.2f}" height="{box.height:.2f}"/>'


def _path(path: Polyline) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in path.points)
    look = f'fill="none" stroke="{code(path.colour)}" stroke-width="{path.thick}"'
    return f'<polyline {look} stroke-linejoin="round" points="{points}"/>'


def _image(cells: Cells) -> str:
    pixels = png.encoded(png.coloured(cells.numbers, cells.cell))
    data = base64.b64encode(pixels).decode()
    rows, columns = (count * cells.cell for count in cells.numbers.shape)
    box = f'x="{cells.x}" y="{cells.y}" width="{columns}" height="{rows}"'
    return f'<image {box} href="data:image/png;base64,{data}"/>'


def _text(words: Words) -> str:
    kinds = [words.kind] if words.kind else []
    kinds += [_CLASSES[words.colour]] if words.colour else []
    marked = f' class="{" ".join(kinds)}"' if kinds else ""
    turned = f' transform="rotate(-90 {words.x:.2f} {words.y:.2f})"' if words.turned else ""
    return f'<text{marked} x="{words.x:.2f}" y="{words.y:.2f}"{turned}>{_safe(words.text)}</text>'


def _safe(text: str) -> str:
    return escape(one_line(text), quote=False)
