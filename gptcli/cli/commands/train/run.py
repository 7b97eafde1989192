"""`gptcli train DATA... -o FOLDER`: a run of training, shown in plain lines.

What is done is `gptcli.training.recipe`. The first signal lets the run save and end; the process
then dies of that signal.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import exp
from time import monotonic
from typing import Annotated

import typer

from gptcli.cli import signals
from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.output.sink import write
from gptcli.cli.session import Session
from gptcli.errors import BadInput, UsageError
from gptcli.options import Talk
from gptcli.system.units import counted
from gptcli.training.data.options import TrainingData
from gptcli.training.events import Began, Ended, Evaluated, Saved, StepDone, Told, TrainingEvent
from gptcli.training.options import (
    Optimization,
    TrainedModel,
    TrainingProgress,
    TrainOptions,
)

SECONDS_BETWEEN_LINES = 10.0
MOST_NATS = 700.0  # beyond which a perplexity is no number
ENDINGS = {
    "steps": "all steps are done",
    "epochs": "all epochs are done",
    "minutes": "the time is over",
    "patience": "the validation loss does not fall any more",
}


@command(
    examples=(
        "gptcli train tales.txt -o my-model",
        "gptcli train tales.txt --scratch tiny --steps 2000 -o tiny-model",
        "gptcli train pairs.jsonl --from gpt2 --lora -o adapter",
    )
)
def run(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA...",
            help="Files or folders of text, JSON lines, CSV or Parquet.",
            show_default=False,
            autocompletion=candidates.files,
        ),
    ] = None,
    *,
    reading: TrainingData,
    model: TrainedModel,
    optimization: Optimization,
    following: TrainingProgress,
    talk: Talk,
) -> None:
    """Pre-train or fine-tune a GPT-2 on your own text.

    The folder that is made is a model for -m. Killed at any moment, the same command goes on where
    it was, and ends with the same weights.
    """
    from gptcli.training.following import follow, is_follower
    from gptcli.training.recipe import TrainingFrame, train

    if not data:
        raise UsageError("DATA", "it is missing", "Name files or folders of text.")
    options = TrainOptions(
        data=tuple(data),
        reading=reading,
        model=model,
        optimization=optimization,
        following=following,
    )
    if is_follower():
        with signals.deaf():
            follow(options)
        return
    session = Session.of(talk)
    stop = _Stop(session)
    lines = _Lines(session)
    frame = TrainingFrame(waiting=session.waiting, stoppable=stop.listening)
    with signals.cleaning(lambda: session.note(lines.way_on())):
        for event in train(options, frame):
            lines.show(event)
        if stop.signal is not None:
            signals.die(stop.signal)
    done = lines.done
    if done is None:
        return
    if done.ending == "diverged":
        raise _diverged(done, optimization)
    write(f"{done.folder}\n")


class _Stop:
    """The first signal while steps are computed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.signal: int | None = None

    @contextmanager
    def listening(self) -> Iterator[Callable[[], bool]]:
        """Listen inside the block."""
        with signals.stoppable(self._heard, second="RANK" not in os.environ):
            yield lambda: self.signal is not None

    def _heard(self, number: int) -> None:
        self.signal = number
        self._session.note("saving; a second signal ends it at once, without saving")


class _Lines:
    """A run in lines on stderr."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._due = 0.0
        self._step = self._saved = 0
        self.done: Ended | None = None

    def show(self, event: TrainingEvent) -> None:
        """Say what happened, steps only now and then."""
        if isinstance(event, Saved):
            self._saved = event.step
        elif isinstance(event, Ended):
            self.done = event
        elif isinstance(event, StepDone):
            self._step = event.step
            if monotonic() < self._due and event.step < event.steps:
                return
            self._due = monotonic() + SECONDS_BETWEEN_LINES
        text = _line(event)
        if text:
            self._session.note(text)

    def way_on(self) -> str:
        """What to do after a signal."""
        where = f" after step {self._saved}, which is saved" if self._saved else ""
        return f"stopped{where}; go on with: {same_command()}"


def same_command() -> str:
    """The command line of this process, without what would begin the run anew."""
    program = ["gptcli"] if not sys.argv[0].endswith("__main__.py") else ["python", "-m", "gptcli"]
    return shlex.join([*program, *(word for word in sys.argv[1:] if word != "--force")])


def _line(event: TrainingEvent) -> str:
    """An event in words; nothing for one that is not told."""
    match event:
        case Began():
            going = f"going on after step {event.step}; " if event.step else ""
            return (
                f"{going}{counted(event.documents, 'document')}, {event.tokens} tokens an epoch,"
                f" {event.trained} of {event.parameters} parameters are trained in"
                f" {event.steps} steps"
            )
        case StepDone():
            speed = event.tokens / event.seconds if event.seconds else 0
            return (
                f"step {event.step} of {event.steps}: loss {event.loss:.4f},"
                f" epoch {event.epoch:.2f}, {speed:.0f} tokens/s"
            )
        case Evaluated():
            perplexity = f", perplexity {exp(event.loss):.2f}" if event.loss < MOST_NATS else ""
            best = ", the best so far" if event.best else ""
            return f"step {event.step}: validation loss {event.loss:.4f}{perplexity}{best}"
        case Told():
            return event.text
        case Ended():
            return _ending(event)
    return ""


def _ending(event: Ended) -> str:
    if event.ending not in ENDINGS:
        return ""
    which = f"; the model is that of step {event.chosen}"
    if event.best_loss is not None:
        which += f", validation loss {event.best_loss:.4f}"
    before = "it had ended before: " if event.again else ""
    return f"{before}{ENDINGS[event.ending]} (step {event.step}){which}"


def _diverged(event: Ended, asked: Optimization) -> BadInput:
    rate = f" (it is {asked.learning_rate:g})" if asked.learning_rate else ""
    hint = f"Lower --learning-rate{rate} and start over with --force"
    if event.saved:
        kept = event.folder / "checkpoints" / f"step-{event.saved:06}"
        hint += f", or train on from the last good weights with --from {kept} and another -o"
    return BadInput(f"training diverged at step {event.step}", event.why, hint)
