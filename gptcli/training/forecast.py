"""What the first steps of a session tell of the rest: speed, time and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from gptcli.training.events import Planned, StepDone, TrainingEvent
from gptcli.training.loop import TrainingLoop

if TYPE_CHECKING:
    from gptcli.training.compute.session import ComputeSession

MEASURED = 3  # steps; the first is slower, and counts only where it is alone
FORWARD = 1 / 3  # of a step's time: a validation has no backward pass


def with_plan(loop: TrainingLoop, session: ComputeSession) -> Iterator[TrainingEvent]:
    """The events of a loop, with the plan after the first steps."""
    done: list[StepDone] = []
    wanted = min(MEASURED, max(loop.steps - loop.state.step, 1))
    for event in loop.events():
        yield event
        if isinstance(event, StepDone) and len(done) < wanted:
            done.append(event)
            if len(done) == wanted:
                yield _planned(loop, session, done)


def _planned(loop: TrainingLoop, session: ComputeSession, done: Sequence[StepDone]) -> Planned:
    corpus, last = loop.tools.corpus, done[-1]
    speed = median(step.tokens / max(step.seconds, 1e-9) for step in done[1:] or done)
    left = loop.steps - last.step
    validations = -(-left // loop.eval_every)
    validated = corpus.valid.tokens if corpus.valid is not None else 0
    tokens = left * sum(step.tokens for step in done) / len(done)
    peak, available = session.memory
    stepper = session.stepper
    return Planned(
        step=last.step,
        steps=loop.steps,
        tokens_per_second=speed,
        seconds_left=(tokens + FORWARD * validations * validated) / speed,
        epochs=last.epoch + tokens / max(corpus.train.tokens, 1),
        peak=peak,
        available=available,
        micro_tokens=stepper.micro_tokens,
        checkpointing=stepper.model.checkpointing,
    )
