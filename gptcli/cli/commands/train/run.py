"""`gptcli train DATA... -o FOLDER`: a run of training.

What is done is `gptcli.training.recipe`. The first signal lets the run save and end; the process
then dies of that signal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from gptcli.cli import signals
from gptcli.cli.commands.train import recipes
from gptcli.cli.commands.train.showing import TrainingView
from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.output.sink import write
from gptcli.cli.session import Session
from gptcli.errors import BadInput, UsageError
from gptcli.options import AsJson, Talk
from gptcli.training.data.options import TrainingData
from gptcli.training.events import Ended
from gptcli.training.options import (
    Optimization,
    TrainedModel,
    TrainingProgress,
    TrainOptions,
)
from gptcli.training.report import trackers


def _presets(given: Mapping[str, Any]) -> Mapping[str, Any]:
    return recipes.presets(given, (TrainingData, TrainedModel, Optimization, TrainingProgress))


@command(
    presets=_presets,
    examples=(
        "gptcli train tales.txt -o my-model",
        "gptcli train tales.txt --scratch tiny --steps 2000 -o tiny-model",
        "gptcli train pairs.jsonl --from gpt2 --lora -o adapter",
        "gptcli train tales/ --recipe tiny-tales -o my-tales",
    ),
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
    shape: AsJson,
    talk: Talk,
) -> None:
    """Pre-train or fine-tune a GPT-2 on your own text.

    The folder that is made is a model for -m. Killed at any moment, the same command goes on where
    it was, and ends with the same weights.
    """
    if not data:
        raise UsageError("DATA", "it is missing", "Name files or folders of text.")
    if not following.output:
        raise UsageError("--output", "it is missing", "Name the folder of the model: -o FOLDER.")
    from gptcli.training.following import follow, is_follower

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
    showing = TrainingView(session, json=shape.json, dry_run=following.dry_run)
    with trackers.opened(following, session.note) as tracked, showing.opened():
        done, sentences = _followed(options, session, showing, tracked)
    if done is None or done.ending == "planned":
        return
    if done.ending == "diverged":
        raise _diverged(done, optimization)
    session.note(*sentences)
    if not shape.json:
        write(f"{done.folder}\n")


def _followed(
    options: TrainOptions, session: Session, showing: TrainingView, tracked: trackers.Trackers
) -> tuple[Ended | None, tuple[str, ...]]:
    """Train and show it; the last event, and what was found to be memorised."""
    from gptcli.training.recipe import TrainingFrame, train
    from gptcli.training.report.reporting import Reporting

    stop = _Stop(session)
    told = Reporting(options, session.note)
    frame = TrainingFrame(
        waiting=showing.waiting, stoppable=stop.listening, sample=told.samples, report=told.report
    )

    def stopped() -> None:
        showing.close()
        tracked.close()
        session.note(showing.way_on())

    with signals.cleaning(stopped):
        for event in train(options, frame):
            showing.show(event)
            tracked.see(event)
        ended = showing.done is not None and showing.done.ending != "interrupted"
        if stop.signal is not None and not ended:
            signals.die(stop.signal)
    return showing.done, told.found.sentences if told.found else ()


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


def _diverged(event: Ended, asked: Optimization) -> BadInput:
    rate = f" (it is {asked.learning_rate:g})" if asked.learning_rate else ""
    hint = f"Lower --learning-rate{rate} and start over with --force"
    if event.saved:
        kept = event.folder / "checkpoints" / f"step-{event.saved:06}"
        hint += f", or train on from the last good weights with --from {kept} and another -o"
    return BadInput(f"training diverged at step {event.step}", event.why, hint)
