"""What people and programs see of a run: a board on a terminal, lines elsewhere, or JSON."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from math import exp
from time import monotonic
from typing import Any

from gptcli.cli.commands.train.board import TrainingBoard
from gptcli.cli.interactive.board import Board, can_show
from gptcli.cli.output.records import json_line
from gptcli.cli.output.sink import write
from gptcli.cli.session import Session
from gptcli.system.sanitizer import one_line
from gptcli.training.durability.log import line_of
from gptcli.training.events import (
    Began,
    Ended,
    Evaluated,
    Planned,
    Prepared,
    Sampled,
    Saved,
    StepDone,
    Told,
    TrainingEvent,
)
from gptcli.training.report.card import MOST_NATS
from gptcli.training.report.curves import LossCurves, read_curves
from gptcli.training.report.outline import lines, measured

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_DRAWINGS = 0.1
LONGEST_SAMPLE = 300  # characters of a line
ENDINGS = {
    "steps": "all steps are done",
    "epochs": "all epochs are done",
    "minutes": "the time is over",
    "patience": "the validation loss does not fall any more",
}


class TrainingView:
    """A run as it is shown; `done` is its last event. With `json` events are lines on stdout."""

    def __init__(self, session: Session, *, json: bool, dry_run: bool) -> None:
        self._session, self._json, self._dry = session, json, dry_run
        self._lines_due = self._drawing_due = self._saved = 0.0
        self.done: Ended | None = None
        self._content = TrainingBoard()
        self._board: Board | None = None
        self._stack = ExitStack()
        fits = session.stderr_is_terminal and not session.talk.quiet and can_show()
        self._on_terminal = fits and not dry_run

    def show(self, event: TrainingEvent) -> None:
        """Say what happened."""
        if isinstance(event, Saved):
            self._saved = event.step
        elif isinstance(event, Ended):
            self.done = event
        if self._json:
            write(json_line(_record(event)))
        self._content.see(event)
        if isinstance(event, Began) and self._on_terminal:
            self._open(event)
        if self._board is None:
            self._say(event)
        else:
            self._draw(event)

    def waiting(self, text: str) -> AbstractContextManager[object]:
        """Show that something may take long."""
        return self._session.waiting(text) if self._board is None else self._working(text)

    def close(self) -> None:
        """Leave what is on the terminal."""
        if self._board is not None:
            self._board.close()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside the block something may be on the terminal."""
        with self._stack:
            yield

    def way_on(self) -> str:
        """What to do after a signal."""
        where = f" after step {self._saved:.0f}, which is saved" if self._saved else ""
        return f"stopped{where}; go on with: {same_command()}"

    def _open(self, event: Began) -> None:
        curves = LossCurves()
        with suppress(OSError):
            curves = read_curves(event.folder / "log.jsonl") if event.step else curves
        self._content.begin(curves)
        self._board = Board(self._content.lines)
        self._stack.enter_context(self._board.shown())

    def _draw(self, event: TrainingEvent) -> None:
        assert self._board is not None
        if isinstance(event, Told | Planned | Began):
            self._session.note(*_told(event))
        now = monotonic()
        if isinstance(event, StepDone) and now < self._drawing_due and event.step < event.steps:
            return
        self._drawing_due = now + SECONDS_BETWEEN_DRAWINGS
        self._board.draw()
        if isinstance(event, Ended):
            self._board.close()
            self._session.note(*_told(event))

    @contextmanager
    def _working(self, text: str) -> Iterator[None]:
        assert self._board is not None
        self._content.saying = text
        self._board.draw()
        yield
        self._content.saying = ""

    def _say(self, event: TrainingEvent) -> None:
        """Lines on stderr, those of steps, validations and samples only now and then."""
        if self._dry and isinstance(event, Prepared | Planned):
            if not self._json:
                write("".join(f"{line}\n" for line in _told(event)))
            return
        if isinstance(event, StepDone | Evaluated | Sampled):
            if monotonic() < self._lines_due and not _is_last(event):
                return
            self._lines_due = monotonic() + SECONDS_BETWEEN_LINES
        self._session.note(*_told(event))


def _is_last(event: TrainingEvent) -> bool:
    return isinstance(event, StepDone) and event.step >= event.steps


def same_command() -> str:
    """The command line of this process, without what would begin the run anew."""
    program = ["gptcli"] if not sys.argv[0].endswith("__main__.py") else ["python", "-m", "gptcli"]
    if (count := os.environ.get("WORLD_SIZE", "1")) != "1":
        program = ["torchrun", "--nproc-per-node", count, "-m", "gptcli"]
    return shlex.join([*program, *(word for word in sys.argv[1:] if word != "--force")])


def _record(event: TrainingEvent) -> dict[str, object]:
    """An event as a line of JSON: as log.jsonl has it, with whole paths."""
    whole = {"folder": str(event.folder)} if hasattr(event, "folder") else {}
    return {**line_of(event), **whole}


def _told(event: TrainingEvent) -> list[str]:
    """An event in words, a line each; none for one that is not told."""
    told: dict[type, Callable[[Any], list[str]]] = {
        Prepared: lines,
        Began: _going_on,
        Planned: lambda event: [measured(event)],
        StepDone: _step,
        Evaluated: _evaluated,
        Sampled: _sampled,
        Told: lambda event: [event.text],
        Ended: _ending,
    }
    words = told.get(type(event))
    return words(event) if words else []


def _going_on(event: Began) -> list[str]:
    left = f"{event.steps - event.step:,} of {event.steps:,} steps are left"
    return [f"going on after step {event.step}; {left}"] if event.step else []


def _step(event: StepDone) -> list[str]:
    speed = event.tokens / event.seconds if event.seconds else 0
    return [
        f"step {event.step} of {event.steps}: loss {event.loss:.4f}, epoch {event.epoch:.2f},"
        f" {speed:.0f} tokens/s"
    ]


def _evaluated(event: Evaluated) -> list[str]:
    best = ", the best so far" if event.best else ""
    return [f"step {event.step}: validation loss {_measured(event.loss)}{best}"]


def _sampled(event: Sampled) -> list[str]:
    texts = (one_line(" ".join(text.split()))[:LONGEST_SAMPLE] for text in event.texts)
    return [f"written after step {event.step}: {text}" for text in texts]


def _ending(event: Ended) -> list[str]:
    if event.ending not in ENDINGS:
        return []
    which = f"; the model is that of step {event.chosen}"
    if event.best_loss is not None:
        which += f", validation loss {_measured(event.best_loss)}"
    before = "it had ended before: " if event.again else ""
    return [f"{before}{ENDINGS[event.ending]} (step {event.step}){which}"]


def _measured(loss: float) -> str:
    """A loss, with the perplexity where that is a number."""
    perplexity = f", perplexity {exp(loss):.2f}" if loss < MOST_NATS else ""
    return f"{loss:.4f}{perplexity}"
