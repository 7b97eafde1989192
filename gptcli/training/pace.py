"""When a run ends, and where its schedule stands until then.

With a limit in minutes nobody knows the number of steps: the plan measures some, and each
checkpoint compares what is left of the time with the speed so far. Where they differ, the rest of
the schedule is stretched or shortened, so that the learning rate has fallen when the time is over.
What was decided lies in the checkpoint, so a run that goes on from it decides nothing anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from gptcli.training.durability.state import Knot

TOLERANCE = 0.03  # of the steps that are left: below it, nothing is decided
SPARE = 0.99  # of the time that is left, which is planned for
LEAST_STEPS = 3  # that a speed is measured over


Mark = tuple[int, float]
"""(step, seconds) of a checkpoint."""


@dataclass(frozen=True)
class Pace:
    """Steps of the schedule as it was planned, limits, and the knots of its stretching."""

    planned: int
    most: int | None  # steps, where they are limited beside the minutes
    seconds: float | None  # limit, of all sessions
    knots: tuple[Knot, ...] = ()

    @property
    def steps(self) -> int:
        """The last step, as far as is known."""
        return self.knots[-1][0] if self.knots else self.planned

    def place(self, step: int) -> float:
        """Where the planned schedule stands at a step, as one of its steps."""
        if not self.knots:
            return float(step)
        before = ((0, 0.0), *self.knots)
        for (first, low), (last, high) in pairwise(before):
            if step <= last:
                return (low + (high - low) * (step - first) / (last - first)) * self.planned
        return float(self.planned)

    def is_over(self, step: int, seconds: float) -> bool:
        """Whether the time is over, or the steps."""
        return step >= self.steps or (self.seconds is not None and seconds >= self.seconds)

    def is_timed(self, step: int) -> bool:
        """Whether it is the time that ends a run at a step."""
        return self.seconds is not None and (self.most is None or step < self.most)

    def replanned(self, step: int, seconds: float, before: Mark = (0, 0.0)) -> tuple[Knot, ...]:
        """The knots after a step at which a checkpoint is written; `before` is that of the one
        before it. The speed is that between both, or of the whole run where they are too near.
        """
        if self.seconds is None or step < LEAST_STEPS or step >= self.steps:
            return self.knots
        near = step - before[0] < LEAST_STEPS or seconds <= before[1]
        end = self._end(step, seconds, (0, 0.0) if near else before)
        if abs(end - self.steps) <= TOLERANCE * (self.steps - step):
            return self.knots
        kept = tuple(knot for knot in self.knots if knot[0] < step)
        return (*kept, (step, self.place(step) / self.planned), (end, 1.0))

    def renewed(self, step: int, seconds: float) -> tuple[Knot, ...]:
        """The knots of a run that goes on with other limits than before."""
        if self.seconds is None or step == 0:
            return ()
        return (step, min(self.place(step) / self.planned, 1.0)), (self._end(step, seconds), 1.0)

    def _end(self, step: int, seconds: float, before: Mark = (0, 0.0)) -> int:
        """The last step, at the speed since a mark."""
        left = max((self.seconds or 0.0) - seconds, 0.0) * SPARE
        steps, took = step - before[0], seconds - before[1]
        end = step + max(int(left * steps / took), 1) if took > 0 else self.steps
        return end if self.most is None else min(end, self.most)
