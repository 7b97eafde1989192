"""The report of a run that ended: loss curve, what was memorised, model card."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gptcli.errors import GptcliError
from gptcli.models.card import CardFields, read_card
from gptcli.system import durable
from gptcli.training.options import TrainOptions
from gptcli.training.report.card import card
from gptcli.training.report.curves import lines_of, pictures, read_curves
from gptcli.training.report.finished import FinishedRun
from gptcli.training.report.memorisation import Memorisation, memorisation
from gptcli.training.report.writer import SampleWriter

SVG, PNG, CARD, MEMORISED = "loss.svg", "loss.png", "README.md", "memorisation.json"


class Reporting:
    """Samples while a run lasts, and its report; `say` takes what went wrong and ends no run."""

    def __init__(self, options: TrainOptions, say: Callable[[str], object]) -> None:
        self._writer = SampleWriter(options, say)
        self._say = say
        self.samples = self._writer.samples
        self.found: Memorisation | None = None

    def report(self, run: FinishedRun) -> None:
        """Write the files into the run's folder. Raises OSError."""
        curves = read_curves(run.log)
        drawn = pictures(curves, f"loss of {run.folder.resolve().name}")
        if drawn is not None:
            _put(run.folder / SVG, drawn[0].encode())
            _put(run.folder / PNG, drawn[1])
        try:
            self.found = memorisation(run, curves, self._writer)
        except GptcliError as error:
            self._say(f"what was memorised is not known: {error.message}")
        if self.found is not None:
            text = json.dumps(self.found.to_dict(), ensure_ascii=False, indent=1) + "\n"
            _put(run.folder / MEMORISED, text.encode("utf-8", "backslashreplace"))
        base: CardFields = {}
        if run.base_folder is not None:
            base = read_card(run.base_folder) or {}
        text = card(run, base, self.found, _last_samples(run), drawn is not None)
        _put(run.folder / CARD, text.encode("utf-8", "backslashreplace"))


def _last_samples(run: FinishedRun) -> tuple[str, ...]:
    """Those of the model that was chosen, or the last before it."""
    found: tuple[str, ...] = ()
    with suppress(OSError):
        for line in lines_of(run.log):
            if line.get("event") == "sampled" and line["step"] <= (run.done.chosen or 0):
                found = tuple(map(str, line["texts"]))
    return found


def _put(path: Path, data: bytes) -> None:
    durable.save_as(durable.part_of(path), path, data)
