"""Losses for TensorBoard and Weights & Biases, where they are installed.

Each is filled from log.jsonl, which has no line twice, when a run begins or goes on: so no point is
doubled. TensorBoard's events and an offline run of wandb are files in the run's folder that are
written anew; a run on wandb's server keeps its id and takes only what it has not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from gptcli.errors import Unavailable
from gptcli.training.durability.folder import LOG, RUN
from gptcli.training.durability.log import line_of
from gptcli.training.durability.run_file import read_run
from gptcli.training.events import Began, Ended, TrainingEvent
from gptcli.training.options import TrainingProgress
from gptcli.training.report.curves import lines_of

TENSORBOARD, WANDB = "tensorboard", "wandb"  # folders in that of a run
_SHOWN = {
    "stepdone": {
        "loss": "train/loss",
        "learning_rate": "train/learning_rate",
        "gradient_norm": "train/gradient_norm",
        "epoch": "train/epoch",
    },
    "evaluated": {"loss": "validation/loss"},
}


class Tracker(Protocol):
    """Something that takes numbers by name at a step."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take them."""

    def text(self, text: str, step: int) -> None:
        """Take a sample text."""

    def close(self) -> None:
        """Write what is held back."""


def check(asked: TrainingProgress) -> None:
    """Raises Unavailable for what is not installed."""
    if asked.tensorboard and not _writer():
        why = "neither tensorboardX nor tensorboard is installed"
        raise Unavailable("--tensorboard", why, "Run: pip install tensorboardX")
    if asked.wandb is not None and not find_spec("wandb"):
        raise Unavailable("--wandb", "wandb is not installed", "Run: pip install wandb")


class Trackers:
    """Those that are asked for; they are opened where the run's folder is known."""

    def __init__(self, asked: TrainingProgress, say: Callable[[str], object]) -> None:
        self._asked, self._say = asked, say
        self._open: list[Tracker] = []

    def see(self, event: TrainingEvent) -> None:
        """Take what happened; one that fails is dropped, and that is said."""
        if self._asked.dry_run:
            return
        if isinstance(event, Began) and (self._asked.tensorboard or self._asked.wandb is not None):
            self._begin(event.folder)
            lines: Iterator[Mapping[str, Any]] = iter(_kept(event.folder) if event.step else ())
        elif isinstance(event, Ended) and event.again:
            return
        else:
            lines = iter([line_of(event)])
        for line in lines if self._open else ():
            self._log(line)

    def _begin(self, folder: Path) -> None:
        if self._asked.tensorboard:
            self._add(lambda: _TensorBoard(folder / TENSORBOARD))
        if (project := self._asked.wandb) is not None:
            self._add(lambda: _Wandb(project, folder))

    def _add(self, opened: Callable[[], Tracker]) -> None:
        try:
            tracker = opened()
        except Exception as error:
            self._say(f"not tracked: {str(error)[:200]}")
            return
        self._open.append(tracker)

    def _log(self, line: Mapping[str, Any]) -> None:
        names = _SHOWN.get(str(line.get("event")), {})
        found = {name: line[key] for key, name in names.items()}
        values = {name: n for name, n in found.items() if isinstance(n, float) and isfinite(n)}
        for tracker in list(self._open):
            try:
                if values:
                    tracker.log(values, line["step"])
                for text in line.get("texts", ()):
                    tracker.text(text, line["step"])
            except Exception as error:
                self._open.remove(tracker)
                self._say(f"tracked no further: {str(error)[:200]}")

    def close(self) -> None:
        """Let them write what they hold back."""
        while self._open:
            with suppress(Exception):
                self._open.pop().close()


@contextmanager
def opened(asked: TrainingProgress, say: Callable[[str], object]) -> Iterator[Trackers]:
    """What is asked for, inside the block. Raises Unavailable."""
    check(asked)
    trackers = Trackers(asked, say)
    try:
        yield trackers
    finally:
        trackers.close()


def _kept(folder: Path) -> Sequence[Mapping[str, Any]]:
    with suppress(OSError):
        return list(lines_of(folder / LOG))
    return ()


def _writer() -> str:
    """The module of a SummaryWriter, of those that are installed."""
    if find_spec("tensorboardX"):
        return "tensorboardX"
    return "torch.utils.tensorboard" if find_spec("tensorboard") else ""


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._writer: Any = import_module(_writer()).SummaryWriter(str(folder))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def text(self, text: str, step: int) -> None:
        self._writer.add_text("sample", text, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, project: str, folder: Path) -> None:
        wandb: Any = import_module("wandb")
        run = read_run(folder / RUN)
        offline = os.environ.get("WANDB_MODE") == "offline"
        if offline:
            shutil.rmtree(folder / WANDB, ignore_errors=True)
        self._run = wandb.init(
            project=project,
            dir=str(folder),
            name=folder.resolve().name,
            id=run.id if run else None,
            resume=None if offline else "allow",
            config=asdict(run.settings) if run else None,
            settings=wandb.Settings(silent=True),
        )
        self._known = 0 if offline else int(self._run.step or 0)

    def log(self, values: Mapping[str, float], step: int) -> None:
        if step >= self._known:
            self._run.log(dict(values), step=step)

    def text(self, text: str, step: int) -> None:
        if step >= self._known:
            self._run.log({"sample": text}, step=step)

    def close(self) -> None:
        self._run.finish()
