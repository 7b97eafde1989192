"""`gptcli bench`: how fast it is here, and against what."""

from __future__ import annotations

import json
from dataclasses import replace

from gptcli.bench import Bench, measure
from gptcli.checkpoints import resolve
from gptcli.cli import render, streams
from gptcli.cli.sink import opened
from gptcli.options import Load, Output, Talk


def bench(*, load: Load, bench: Bench, talk: Talk) -> None:
    """Measure start-up, memory and decoding speed.

    Each figure is a median; with --against, of pairs of runs in turn. Close other programs first.
    """
    found = resolve(load)
    for notice in () if talk.quiet else found.notices:
        streams.note(notice)
    load = replace(load, model=str(found.folder), revision=None)
    with opened(Output()) as out:
        figures = []
        for figure in measure(load, bench):
            figures.append(figure)
            if bench.json:
                out.write(json.dumps(figure.to_dict()) + "\n")
            elif not talk.quiet:
                streams.note(f"measured: {figure.name}")
        if not bench.json:
            out.write(render.figures(figures, bench.against))
