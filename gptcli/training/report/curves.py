"""The losses of a run as log.jsonl has them, and their picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

MOST_POINTS = 400  # of a curve; more are averaged
Point = tuple[float, float]


@dataclass(frozen=True)
class LossCurves:
    """(step, loss) of training and of validation, in order; losses are finite."""

    train: tuple[tuple[int, float], ...] = ()
    valid: tuple[tuple[int, float], ...] = ()

    def train_near(self, step: int, many: int) -> float | None:
        """The mean training loss of so many steps up to a step."""
        found = [loss for at, loss in self.train if step - many < at <= step]
        return fmean(found) if found else None


def lines_of(log: Path) -> Iterator[dict[str, Any]]:
    """The events of a log. Raises OSError; a line that is torn ends them."""
    with log.open(encoding="utf-8") as file:
        for line in file:
            try:
                found = json.loads(line)
            except ValueError:
                return
            if isinstance(found, dict):
                yield found


def read_curves(log: Path) -> LossCurves:
    """The curves of a log. Raises OSError."""
    found: dict[str, list[tuple[int, float]]] = {"stepdone": [], "evaluated": []}
    for line in lines_of(log):
        loss, points = line.get("loss"), found.get(str(line.get("event")))
        if points is not None and isinstance(loss, float) and isfinite(loss):
            points.append((line["step"], loss))
    return LossCurves(tuple(found["stepdone"]), tuple(found["evaluated"]))


def averaged(points: Sequence[Point], most: int = MOST_POINTS) -> tuple[Point, ...]:
    """At most so many points, each the mean of its neighbours."""
    size = max(ceil(len(points) / most), 1)
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    return tuple((fmean(x for x, _ in some), fmean(y for _, y in some)) for some in groups)


def pictures(curves: LossCurves, title: str) -> tuple[str, bytes] | None:
    """The losses as the contents of an SVG file and of a PNG file; None where there are none."""
    from gptcli.inspection import png, svg
    from gptcli.inspection.plots import Curve, Curves

    if not curves.train:
        return None
    shown = [Curve("training", averaged(curves.train))]
    if curves.valid:
        shown.append(Curve("validation", averaged(curves.valid), strong=True))
    plot = Curves(title, tuple(shown), "step", "loss (nats a token)")
    return svg.drawn(plot), png.image(plot)
