"""The steps of a run: train, save, validate, until a limit, a signal or a loss that is no number.

A checkpoint is saved before the validation of its step, so a run that goes on from it validates
first. Everything that decides how it goes on is in its `TrainingState`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, log
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.training.data.corpus import TrainingCorpus
from gptcli.training.durability.checkpoints import Checkpoints, ModelFiles
from gptcli.training.durability.folder import RunFolder, writing
from gptcli.training.durability.log import RunLog, line_of
from gptcli.training.durability.run_file import RunFile
from gptcli.training.durability.state import BestLoss, TrainingState
from gptcli.training.events import (
    Ended,
    Ending,
    Evaluated,
    Sampled,
    Saved,
    StepDone,
    Told,
    TrainingEvent,
)
from gptcli.training.pace import Pace
from gptcli.training.settings import TrainingSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gptcli.training.compute.step import Stepper, StepResult

SAVE_SECONDS = 600.0  # between checkpoints, where no number of steps is given
MEASURED_AT = (3, 10, 30)  # steps after which a limit in minutes becomes a number of steps
MOST_UNUSABLE = 3  # steps in a row without a finite loss and gradient
MOST_EXPLODED = 20  # steps in a row with a loss that is far above that of guessing
FAR_ABOVE = 1.5  # times the loss of guessing, or of the first step

Sampler = Callable[[Path, int], Sequence[str]]
"""(checkpoint, step) -> texts that its model writes."""


@dataclass(frozen=True, kw_only=True)
class LoopRules:
    """What is looked at and kept; no weight depends on it."""

    eval_every: int
    stretched: bool = False  # evaluations are so many for the planned steps, and move with them
    rehearsed: bool = False  # nothing is saved or looked at
    save_every: int | None = None
    sample_every: int | None = None  # 0: none; None: at each validation
    patience: int | None = None
    keep: int = 1
    by_epochs: bool = False  # the steps are those of epochs


@dataclass(frozen=True, kw_only=True)
class LoopTools:
    """What the loop works with. `files` gives the model and the optimizer's state as they are."""

    stepper: Stepper
    corpus: TrainingCorpus
    settings: TrainingSettings
    pace: Pace
    folder: RunFolder
    checkpoints: Checkpoints
    log: RunLog
    files: Callable[[], ModelFiles]
    is_finite: Callable[[], bool]
    vocabulary: int
    clock: Callable[[], float]
    sample: Sampler | None = None


class Diverged(Exception):
    """The weights lead nowhere; the text says what was seen."""


class TrainingLoop:
    """The loop of a run from a state on; `ending` says why it ended."""

    def __init__(self, tools: LoopTools, rules: LoopRules, state: TrainingState) -> None:
        self.tools, self.rules, self.state = tools, rules, state
        self.ending: Ending | None = None
        self.why = ""  # it diverged
        self._saved: int | None = state.step or None  # step of the last checkpoint
        self._mark = state.step, state.seconds  # of the last checkpoint
        self._earlier = state.seconds  # of former sessions
        self._began = self._saved_at = tools.clock()
        self._epoch: tuple[int, Iterator[NDArray[np.int64]]] | None = None
        self._pace = self._paced(state)

    def events(self) -> Iterator[TrainingEvent]:
        """Train to the end, or until it is to stop."""
        from gptcli.training.compute.step import StepDropped

        try:
            if self._begins_with_validation():
                yield from self._validated()
            while (ending := self._limit()) is None:
                yield from self._step()
                yield from self._looked_at()
            self.ending = ending
        except StepDropped:
            self.ending = "interrupted"
            if self.state.step and self._saved != self.state.step and not self.state.unusable:
                yield from self._save()
        except Diverged as error:
            self.ending, self.why = "diverged", str(error)

    def _begins_with_validation(self) -> bool:
        if self.rules.rehearsed:
            return False
        return self.state.step == 0 or self.rules.stretched or self._is_due()

    def _looked_at(self) -> Iterator[TrainingEvent]:
        """Save, validate and let the model write, as far as it is time for it."""
        if self.rules.rehearsed:
            return
        due = self._is_due()
        writes = self._wants_samples(due)
        if due or writes or self._wants_saving():
            yield from self._save()
        if due:
            yield from self._validated()
        if writes:
            yield from self._sampled()

    @property
    def steps(self) -> int:
        """The last step, as far as is known."""
        return self._pace.steps

    @property
    def eval_every(self) -> int:
        """Steps between validations."""
        if not self.rules.stretched:
            return self.rules.eval_every
        return max(round(self.rules.eval_every * self.steps / self._pace.planned), 1)

    def ended(self, chosen: int | None = None) -> Ended:
        """The last event; `chosen` is the step of the model that was put in its place."""
        best = self.state.best
        return Ended(
            step=self.state.step,
            ending=self.ending or "interrupted",
            folder=self.tools.folder.path,
            best=best.step if best else None,
            best_loss=best.loss if best else None,
            chosen=chosen,
            saved=self._saved,
            why=self.why,
        )

    def _paced(self, state: TrainingState) -> Pace:
        base = self.tools.pace
        return Pace(base.planned, base.most, base.seconds, state.knots)

    def _limit(self) -> Ending | None:
        """The limit that is reached."""
        state, patience = self.state, self.rules.patience
        if patience is not None and state.waited >= patience:
            return "patience"
        if not self._pace.is_over(state.step, state.seconds):
            return None
        if self._pace.is_timed(state.step):
            return "minutes"
        return "epochs" if self.rules.by_epochs else "steps"

    def _is_due(self) -> bool:
        """Whether the validation of this step follows: at the last one it always does."""
        over = self._pace.is_over(self.state.step, self.state.seconds)
        return over or self.state.step % self.eval_every == 0

    def _wants_saving(self) -> bool:
        if self.rules.save_every is not None:
            return self.state.step % self.rules.save_every == 0
        return self.tools.clock() - self._saved_at >= SAVE_SECONDS

    def _step(self) -> Iterator[TrainingEvent]:
        from gptcli.training.compute.optimizer import rate

        tools, state = self.tools, self.state
        began, number = tools.clock(), state.step + 1
        epoch, first, pieces = self._pieces()
        place = self._pace.place(number)
        told: list[str] = []
        tools.stepper.say = told.append
        done = tools.stepper.step(tools.corpus.train, pieces, number, place)
        for text in told:
            yield self._logged(Told(step=number, text=text))
        piece = first + len(pieces)
        over = piece >= len(tools.corpus.train)
        self.state = state.but(
            step=number,
            epoch=epoch + over,
            piece=0 if over else piece,
            tokens=state.tokens + done.tokens,
            seconds=self._earlier + tools.clock() - self._began,
            first_loss=self._first_loss(done),
            unusable=0 if _usable(done) else state.unusable + 1,
            exploded=state.exploded + 1 if self._exploded(done) else 0,
        )
        if number in MEASURED_AT and not self.state.unusable:
            knots = self._pace.replanned(number, self.state.seconds)
            self.state = self.state.but(knots=knots)
            self._pace = self._paced(self.state)
        yield self._logged(
            StepDone(
                step=number,
                steps=self.steps,
                epoch=epoch + piece / len(tools.corpus.train),
                loss=done.loss,
                learning_rate=tools.settings.learning_rate * rate(tools.settings, place),
                gradient_norm=done.norm,
                tokens=done.tokens,
                targets=done.targets,
                seconds=tools.clock() - began,
            )
        )
        yield from self._judged(done)

    def _pieces(self) -> tuple[int, int, NDArray[np.int64]]:
        """Epoch, place in its order, and pieces of the next step."""
        state, settings = self.state, self.tools.settings
        if self._epoch is None or self._epoch[0] != state.epoch:
            steps = self.tools.corpus.train.steps(
                settings.seed, state.epoch, settings.batch_tokens, state.piece
            )
            self._epoch = state.epoch, steps
        return state.epoch, state.piece, next(self._epoch[1])

    def _first_loss(self, done: StepResult) -> float | None:
        if self.state.step == 0 and isfinite(done.loss):
            return done.loss
        return self.state.first_loss

    def _exploded(self, done: StepResult) -> bool:
        first = self.state.first_loss or 0.0
        return not done.loss <= FAR_ABOVE * max(log(self.tools.vocabulary), first)

    def _judged(self, done: StepResult) -> Iterator[TrainingEvent]:
        """Tell of a step that was not applied. Raises Diverged."""
        if not _usable(done):
            what = "gradient" if isfinite(done.loss) else "loss"
            text = f"step {self.state.step} is not used: its {what} is no finite number"
            yield self._logged(Told(step=self.state.step, text=text))
            if self.state.unusable >= MOST_UNUSABLE:
                raise Diverged(f"the {what} of {MOST_UNUSABLE} steps in a row is no finite number")
        if self.state.exploded >= MOST_EXPLODED:
            guess = log(self.tools.vocabulary)
            raise Diverged(
                f"the loss is {done.loss:.3g} after {MOST_EXPLODED} steps far above that of"
                f" guessing, {guess:.3g}"
            )

    def _save(self) -> Iterator[TrainingEvent]:
        """Write the checkpoint of this step, unless it is there. Raises Diverged, WriteFailed."""
        tools = self.tools
        if self._saved == self.state.step or self.state.unusable:
            return
        if not tools.is_finite():
            raise Diverged("a weight is no finite number")
        began = tools.clock()
        mark = self.state.step, self.state.seconds
        knots = self._pace.replanned(*mark, self._mark)
        self.state = self.state.but(knots=knots, log_bytes=tools.log.size)
        with writing(tools.checkpoints.folder, self._after_failure()):
            tools.log.flush()
            path = tools.checkpoints.save(self.state, tools.files())
        self._saved, self._saved_at, self._mark = self.state.step, tools.clock(), mark
        self._pace = self._paced(self.state)
        self.note()
        with writing(tools.checkpoints.folder):
            tools.checkpoints.keep(self.kept())
        yield self._logged(Saved(step=self.state.step, folder=path, seconds=tools.clock() - began))

    def _after_failure(self) -> str:
        where = f"after step {self._saved}" if self._saved else "from its beginning"
        return f"Make room, then run the same command again: it goes on {where}."

    def kept(self) -> set[int]:
        """The steps whose checkpoints stay."""
        newest = self.tools.checkpoints.steps()[-self.rules.keep - 1 :]
        return {*newest, *([self.state.best.step] if self.state.best else [])}

    def note(self, **changes: object) -> None:
        """Let run.json say how far the run is."""
        run = self.tools.folder.run
        assert isinstance(run, RunFile)
        best = self.state.best.step if self.state.best else None
        self.tools.folder.note(run.but(last=self._saved, best=best, **changes))

    def _validated(self) -> Iterator[TrainingEvent]:
        """Validate. Step 0 is only shown. Raises StepDropped."""
        tools, step = self.tools, self.state.step
        if tools.corpus.valid is not None and not self.state.unusable:
            began = tools.clock()
            table = tools.corpus.valid
            loss = tools.stepper.loss(table, range(len(table)))
            before = self.state.best
            best = step > 0 and isfinite(loss) and (before is None or loss < before.loss)
            if best:
                self.state = self.state.but(best=BestLoss(step=step, loss=loss), waited=0)
            elif step:
                self.state = self.state.but(waited=self.state.waited + 1)
            elif isfinite(loss):
                self.state = self.state.but(start_loss=loss)
            yield self._logged(
                Evaluated(step=step, loss=loss, best=best, seconds=tools.clock() - began)
            )

    def _wants_samples(self, due: bool) -> bool:
        """Whether the model writes after this step: at a validation, or every so many steps."""
        every = self.rules.sample_every
        if self.tools.sample is None or every == 0:
            return False
        return due if every is None else self.state.step % every == 0

    def _sampled(self) -> Iterator[TrainingEvent]:
        """Let the checkpoint of this step write."""
        tools, step = self.tools, self.state.step
        if tools.sample is not None and self._saved == step:
            texts = tuple(tools.sample(tools.checkpoints.path(step), step))
            if texts:
                yield self._logged(Sampled(step=step, texts=texts))

    def _logged(self, event: TrainingEvent) -> TrainingEvent:
        with writing(self.tools.folder.log, self._after_failure()):
            self.tools.log.write(line_of(event))
        return event


def _usable(done: StepResult) -> bool:
    return isfinite(done.loss) and isfinite(done.norm)
