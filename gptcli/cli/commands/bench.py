"""`gptcli bench`: speed on this machine, alone or beside other engines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import TemporaryDirectory

from gptcli.bench import processes
from gptcli.bench.chart import drawn
from gptcli.bench.figures import Figure
from gptcli.bench.measure import measure
from gptcli.bench.options import Bench
from gptcli.checkpoints.resolve import resolve
from gptcli.cli import signals
from gptcli.cli.output import table
from gptcli.cli.output.records import json_line
from gptcli.cli.output.sink import Sink, opened
from gptcli.cli.session import Session
from gptcli.errors import UsageError
from gptcli.options import Load, Output, Talk
from gptcli.system.text.characters import width
from gptcli.system.units import three_digits

COLUMN_GAP = "   "


def bench(*, load: Load, bench: Bench, talk: Talk) -> None:
    """Measure start-up, memory and decoding speed.

    Each figure is a median; with --against, of pairs of runs in turn. Close other programs first.
    """
    session = Session.of(talk)
    found = resolve(load)
    session.note(*found.notices)
    if found.adapters and bench.against:
        why = "other programs run the base alone"
        raise UsageError(
            "--against", why, "Merge them first: gptcli models merge, or leave it out."
        )
    load = replace(found.pinned(load, str(found.folder)), revision=None)
    with (
        opened(Output()) as out,
        _chart(bench) as chart,
        TemporaryDirectory(prefix="gptcli-bench-") as folder,
        signals.cleaning(processes.stop),
        signals.cleaning(partial(rmtree, folder, ignore_errors=True)),
    ):
        figures = []
        for figure in measure(load, bench, Path(folder), session.note):
            figures.append(figure)
            if bench.json:
                out.write(json_line(figure.to_dict()))
            else:
                session.note(f"measured: {figure.name}")
        if not bench.json:
            out.write(table_of(figures))
        if chart is not None:
            chart.write(drawn(figures))


def _chart(bench: Bench) -> AbstractContextManager[Sink | None]:
    """Where the chart goes: opened before anything is measured."""
    if bench.svg is None:
        return nullcontext()
    return opened(Output(output=bench.svg, force=bench.force))


def table_of(figures: Sequence[Figure]) -> str:
    """A line an engine: medians with their spread, ratios of the pairs, the share of the limit."""
    shown = [(figure, runs) for figure in figures for runs in (figure.ours, *figure.theirs)]
    against = any(figure.theirs for figure in figures)
    limited = any(runs.share is not None for _, runs in shown)
    heading = ["", "", "median", *["ours / theirs"] * against, *["of the limit"] * limited]
    rows = [heading]
    for figure, runs in shown:
        ours = runs is figure.ours
        cells = [figure.title if ours else "", runs.engine, _spread(runs.values)]
        cells += [_spread([] if ours else figure.ratios(runs), "" if ours else "-")] * against
        cells += ["" if runs.share is None else f"{runs.share:.0%}"] * limited
        rows.append(cells)
    head, *lines = table.lines(rows, right={2, 3, 4}, gap=COLUMN_GAP)
    rule = "\u2500" * (max(map(width, (head, *lines))) + 2)  # under the blanks, too
    return "\n".join(["", f"  {head}", f" {rule}", *(f"  {line}" for line in lines), "", ""])


def _spread(values: Sequence[float], nothing: str = "-") -> str:
    """Median, and the least and greatest where there are several."""
    if not values:
        return nothing
    middle, low, high = (three_digits(of(values)) for of in (median, min, max))
    return middle if len(values) == 1 else f"{middle} ({low}-{high})"
