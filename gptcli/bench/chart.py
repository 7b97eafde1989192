"""Figures as a bar chart: an SVG file, written by hand.

Each figure is a group of bars, one an engine, as long as its median is next to the group's largest
number; a thin line spans from the least run to the greatest. Text is drawn in the reader's own
fonts, and the colours follow the reader's choice of light or dark. There are no axes: every bar
carries its number.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from html import escape

from gptcli.bench.figures import EngineRuns, Figure
from gptcli.system.sanitizer import one_line
from gptcli.system.units import three_digits

WIDTH, LEFT, BAR = 760, 170, 340  # of the drawing, of the names, of the longest bar
TITLE, LINE, GAP = 24, 22, 14  # heights
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.ours { fill: #0969da; }
.theirs { fill: #afb8c1; }
.spread { stroke: #57606a; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .ours { fill: #4493f8; }
  .theirs { fill: #656d76; }
  .spread { stroke: #b1bac4; }
}
"""


def drawn(figures: Sequence[Figure]) -> str:
    """The figures as the text of an SVG file, without those that have no number."""
    parts: list[str] = []
    y = GAP
    for figure in figures:
        bars = [runs for runs in (figure.ours, *figure.theirs) if runs.values]
        if bars:
            parts += _group(figure, bars, y)
            y += TITLE + LINE * len(bars) + GAP
    size = f'width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>'
    title = "<title>gptcli bench</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"


def _group(figure: Figure, bars: Sequence[EngineRuns], y: int) -> Iterator[str]:
    """The title and the bars of one figure, from `y` downwards."""
    yield _text(0, y + 15, figure.title, "title")
    scale = BAR / (max(max(map(abs, runs.values)) for runs in bars) or 1)
    for place, runs in enumerate(bars):
        top = y + TITLE + LINE * place
        kind = "ours" if runs is figure.ours else "theirs"
        length = abs(runs.median) * scale
        yield _text(12, top + 14, runs.engine)
        yield f'<rect class="{kind}" x="{LEFT}" y="{top + 2}" width="{length:.2f}" height="16"/>'
        low, high = (LEFT + abs(end(runs.values)) * scale for end in (min, max))
        if len(runs.values) > 1:
            middle = top + 10
            line = f'x1="{low:.2f}" x2="{high:.2f}" y1="{middle}" y2="{middle}"'
            yield f'<line class="spread" {line}/>'
        yield _text(max(LEFT + length, high) + 8, top + 14, _label(figure, runs))


def _label(figure: Figure, runs: EngineRuns) -> str:
    """The number, and for a peer how ours stands to it."""
    shown = three_digits(runs.median)
    ratios = [] if runs is figure.ours else figure.ratios(runs)
    if ratios:
        shown += f" (gptcli: {three_digits(statistics.median(ratios))} times)"
    return shown


def _text(x: float, y: int, text: str, kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f'<text{marked} x="{x:.2f}" y="{y}">{escape(one_line(text), quote=False)}</text>'
