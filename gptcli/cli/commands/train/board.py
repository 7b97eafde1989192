"""A run of training on a terminal: figures, a curve of the loss, the last sample texts."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from math import exp, isfinite
from statistics import fmean
from time import monotonic

from gptcli.cli.output.drawing import DIM, StyledLine, bar
from gptcli.system.sanitizer import one_line
from gptcli.system.text import word_wrap
from gptcli.system.units import clock
from gptcli.training.events import Began, Ended, Evaluated, Planned, Sampled, Saved, StepDone
from gptcli.training.events import TrainingEvent as Event
from gptcli.training.report.card import MOST_NATS
from gptcli.training.report.curves import LossCurves, averaged

CURVE_ROWS, MOST_CURVE = 5, 72  # rows and columns
SAMPLE_ROWS = 4  # of a sample
MOST_LOSSES = 2048  # that are kept; then pairs become one
RECENT = 20  # steps of a speed
EIGHTHS = " ▁▂▃▄▅▆▇█"


class TrainingBoard:
    """What is known of a run, as lines."""

    def __init__(self) -> None:
        self.step: StepDone | None = None
        self.saying = ""  # what is done meanwhile, besides steps
        self._losses: list[tuple[float, float]] = []
        self._valid: Evaluated | None = None
        self._best: Evaluated | None = None
        self._saved = self._first = 0
        self._sampled: Sampled | None = None
        self._recent: deque[StepDone] = deque(maxlen=RECENT)
        self._began = monotonic()
        self._left: float | None = None
        self._ended = False

    def begin(self, curves: LossCurves) -> None:
        """Take the losses of former sessions."""
        self._losses = list(averaged(curves.train, MOST_LOSSES))

    def see(self, event: Event) -> None:
        """Take what happened."""
        if isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, Evaluated):
            self._valid = event
            if event.best or (event.step == 0 and self._best is None):
                self._best = event
        elif isinstance(event, Began):
            self._began, self._first = monotonic(), event.step
        elif isinstance(event, Planned):
            self._left = event.seconds_left
        elif isinstance(event, Saved):
            self._saved = event.step
        elif isinstance(event, Sampled):
            self._sampled = event
        self._ended = isinstance(event, Ended)

    def lines(self, columns: int, rows: int) -> list[StyledLine]:
        """The board, its least important parts left out where there are few rows."""
        if self.step is None:
            return [[(self.saying or "beginning", DIM)]]
        found = [self._progress(self.step, columns), self._figures(self.step, columns)]
        found.append(self._speed(self.step))
        if rows >= len(found) + CURVE_ROWS + 1:
            found += self._curve(columns)
        left = rows - len(found) - 1
        if self._sampled is not None and left >= 2:
            found += _samples(self._sampled, columns, left)
        if self.saying and not self._ended:
            found.append([(self.saying, DIM)])
        return found

    def _step(self, event: StepDone) -> None:
        self.step, self.saying = event, ""
        self._recent.append(event)
        if isfinite(event.loss):
            self._losses.append((float(event.step), event.loss))
        if len(self._losses) > MOST_LOSSES:
            self._losses = list(averaged(self._losses, MOST_LOSSES // 2))
        done = event.step - self._first
        each = (monotonic() - self._began) / done
        if done > 3:
            self._left = each * (event.steps - event.step)

    def _progress(self, step: StepDone, columns: int) -> StyledLine:
        share = step.step / step.steps if step.steps else 0.0
        said = f"step {step.step:,} of {step.steps:,}"
        left = "" if self._left is None or self._ended else f"  {clock(self._left)} left"
        rest = f"{share:4.0%}  epoch {step.epoch:.2f}{left}"
        room = min(columns - len(said) - len(rest) - 4, 40)
        if room < 4:
            return [(f"{said}  {rest}", "bold")]
        drawn = bar(share, room)
        return [(f"{said}  ", "bold"), (drawn, "green"), (f"{'':{room - len(drawn)}}  {rest}", "")]

    def _figures(self, step: StepDone, columns: int) -> StyledLine:
        line: StyledLine = [("loss ", DIM), (f"{fmean(s.loss for s in self._recent):.3f}", "bold")]
        if self._valid is not None:
            line += [("   validation ", DIM), (f"{self._valid.loss:.3f}", "bold")]
            if self._valid.loss < MOST_NATS:
                line += [("   perplexity ", DIM), (f"{exp(self._valid.loss):,.1f}", "")]
        if self._best is not None and self._best is not self._valid:
            line += [(f"   best {self._best.loss:.3f} at step {self._best.step:,}", DIM)]
        return line

    def _speed(self, step: StepDone) -> StyledLine:
        taken = sum(one.seconds for one in self._recent)
        speed = sum(one.tokens for one in self._recent) / taken if taken else 0.0
        line: StyledLine = [
            (f"{speed:,.0f}", ""),
            (" tokens/s   learning rate ", DIM),
            (f"{step.learning_rate:.2e}", ""),
            ("   gradient norm ", DIM),
            (f"{step.gradient_norm:.2f}", ""),
        ]
        return [*line, (f"   saved: step {self._saved:,}", DIM)] if self._saved else line

    def _curve(self, columns: int) -> list[StyledLine]:
        """The training loss as an area, with its greatest and least value beside it."""
        room = min(columns - 8, MOST_CURVE)
        shown = [loss for _, loss in averaged(self._losses, room) if loss < MOST_NATS]
        if room < 8 or len(shown) < 8:
            return []
        return area(shown, CURVE_ROWS)


def area(values: Sequence[float], rows: int) -> list[StyledLine]:
    """Values as columns of eighths of a row, the least one an eighth high."""
    low, high = min(values), max(values)
    full = rows * 8
    heights = [1 + round((value - low) / ((high - low) or 1.0) * (full - 1)) for value in values]
    found: list[StyledLine] = []
    for row in range(rows):
        base = (rows - 1 - row) * 8
        drawn = "".join(EIGHTHS[min(max(height - base, 0), 8)] for height in heights)
        label = f"{high:6.3f}" if row == 0 else f"{low:6.3f}" if row == rows - 1 else ""
        found.append([(f"{label:>6.6} ", DIM), (drawn, "cyan")])
    return found


def _samples(sampled: Sampled, columns: int, rows: int) -> list[StyledLine]:
    """The last sample texts, so many rows of them."""
    found: list[StyledLine] = [[(f"written after step {sampled.step:,}:", DIM)]]
    for text in sampled.texts:
        lines = word_wrap.lines(one_line(" ".join(text.split())), max(columns - 2, 20))
        found += [[(f"  {line}", "italic")] for line in islice(lines, SAMPLE_ROWS)]
    return found[:rows]
