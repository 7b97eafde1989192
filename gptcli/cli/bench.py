"""`gptcli bench`: how fast it is here, and against what."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from gptcli.bench.chart import drawn
from gptcli.bench.measure import measure
from gptcli.bench.settings import Bench
from gptcli.checkpoints import resolve
from gptcli.cli import render, signals
from gptcli.cli.output.records import json_line
from gptcli.cli.session import Session
from gptcli.cli.sink import Sink, opened
from gptcli.options import Load, Output, Talk


def bench(*, load: Load, bench: Bench, talk: Talk) -> None:
    """Measure start-up, memory and decoding speed.

    Each figure is a median; with --against, of pairs of runs in turn. Close other programs first.
    """
    session = Session.of(talk)
    found = resolve(load)
    session.note(*found.notices)
    load = replace(load, model=str(found.folder), revision=None)
    with (
        opened(Output()) as out,
        _chart(bench) as chart,
        TemporaryDirectory(prefix="gptcli-bench-") as folder,
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
            out.write(render.figures(figures))
        if chart is not None:
            chart.write(drawn(figures))


def _chart(bench: Bench) -> AbstractContextManager[Sink | None]:
    """Where the chart goes: opened before anything is measured."""
    if bench.svg is None:
        return nullcontext()
    return opened(Output(output=bench.svg, force=bench.force))
