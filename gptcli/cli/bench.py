"""`gptcli bench`: how fast it is here, and against what."""

from __future__ import annotations

import json
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
from gptcli.cli import render, signals, streams
from gptcli.cli.sink import Sink, opened
from gptcli.options import Load, Output, Talk


def bench(*, load: Load, bench: Bench, talk: Talk) -> None:
    """Measure start-up, memory and decoding speed.

    Each figure is a median; with --against, of pairs of runs in turn. Close other programs first.
    """
    say = (lambda text: None) if talk.quiet else streams.note
    found = resolve(load)
    for notice in found.notices:
        say(notice)
    load = replace(load, model=str(found.folder), revision=None)
    with (
        opened(Output()) as out,
        _chart(bench) as chart,
        TemporaryDirectory(prefix="gptcli-bench-") as folder,
        signals.cleaning(partial(rmtree, folder, ignore_errors=True)),
    ):
        figures = []
        for figure in measure(load, bench, Path(folder), say):
            figures.append(figure)
            if bench.json:
                out.write(json.dumps(figure.to_dict()) + "\n")
            else:
                say(f"measured: {figure.name}")
        if not bench.json:
            out.write(render.figures(figures))
        if chart is not None:
            chart.write(drawn(figures))


def _chart(bench: Bench) -> AbstractContextManager[Sink | None]:
    """Where the chart goes: opened before anything is measured."""
    if bench.svg is None:
        return nullcontext()
    return opened(Output(output=bench.svg, force=bench.force))
