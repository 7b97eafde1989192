"""A run of training from its data to its model: one generator of events.

    for event in train(TrainOptions(data=("tales.txt",), ...)):
        print(event)

In the order of what it costs: the folder and its lock, the model's files, the data, the comparison
with the run that is there, torch and the weights, steps. Killed at any moment, the same call goes
on where it was. Nothing is printed and no signal is handled: who shows something, or lets a signal
end the run, passes a `TrainingFrame`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from gptcli.errors import BadInput
from gptcli.training import finish
from gptcli.training.durability.changes import agreed, is_longer, limits_differ, notices
from gptcli.training.durability.checkpoints import Checkpoints, FoundCheckpoint, ModelFiles
from gptcli.training.durability.folder import RunFolder, open_folder, writing
from gptcli.training.durability.log import NoLog, RunLog, line_of
from gptcli.training.durability.run_file import (
    WAY_OUT,
    RunFile,
)
from gptcli.training.durability.state import TrainingState
from gptcli.training.events import Began, Ended, Ending, Planned, Prepared, Told, TrainingEvent
from gptcli.training.following import begin, lead, leading
from gptcli.training.forecast import with_plan
from gptcli.training.loop import LoopRules, LoopTools, Sampler, TrainingLoop
from gptcli.training.material import Material, gather, run_file_of
from gptcli.training.options import TrainOptions
from gptcli.training.pace import Pace
from gptcli.training.plan import TrainingPlan, eval_every, plan
from gptcli.training.report.finished import FinishedRun
from gptcli.training.report.outline import outlined
from gptcli.training.start import StartingModel

if TYPE_CHECKING:
    from gptcli.training.compute.ranks import Ranks
    from gptcli.training.compute.session import ComputeDevice, ComputeSession

Report = Callable[[Ended], None]
_MADE = ("step", "best", "best_loss", "chosen", "saved", "why")


def _never() -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class TrainingFrame:
    """What a program puts around a run; by default nothing.

    `waiting` is entered with a text while something may take long. `stoppable` is entered while
    steps are computed, and gives the function that says whether to stop. `sample` lets the model of
    a checkpoint write, and `report` adds what is told of a run to the folder of its model: see
    `gptcli.training.report.reporting`.
    """

    waiting: Callable[[str], AbstractContextManager[object]] = lambda text: nullcontext()
    stoppable: Callable[[], AbstractContextManager[Callable[[], bool]]] = lambda: nullcontext(
        _never
    )
    sample: Sampler | None = None
    report: Callable[[FinishedRun], object] | None = None
    clock: Callable[[], float] = time.monotonic


def train(options: TrainOptions, frame: TrainingFrame | None = None) -> Iterator[TrainingEvent]:
    """Train, or go on with the run in the folder of `--output`.

    Raises, before the first step: UsageError, MissingInput, BadInput (data that cannot be used,
    another run), BadModel, CannotCreate, Busy, Unavailable. While it runs: WriteFailed; the last
    checkpoint stays.
    """
    around = frame or TrainingFrame()
    folder = open_folder(options.following.output, options.following.force)
    try:
        with leading(options) as ranks:
            yield from _events(options, folder, around, ranks)
    finally:
        folder.close()


def _events(
    options: TrainOptions, folder: RunFolder, frame: TrainingFrame, ranks: Ranks
) -> Iterator[TrainingEvent]:
    folder.sweep()
    material = gather(options, folder, frame.waiting)
    for notice in material.notices:
        yield Told(step=0, text=notice)
    from gptcli.training.compute.session import chosen, memory_of

    device = chosen(options.model)
    starting, free = material.starting, memory_of(device)
    planned = plan(
        options, material.corpus, starting.config, starting.context, free, device.precision
    )
    now = run_file_of(options, material, planned, device)
    then = folder.run
    run = now if then is None else agreed(folder.name, then, now)
    if then is not None:
        for notice in notices(then, run):
            yield Told(step=then.last or 0, text=notice)
        if then.ending is not None and not is_longer(then, now):
            yield _ended_before(then, folder)
            return
    config = starting.config
    yield (outline := outlined(options, run, config, material.corpus, folder.path, bool(run.last)))
    report = partial(_report, frame, material, outline, folder)
    yield from _trained(options, frame, material, run, then, folder, planned, device, ranks, report)


def _trained(
    options: TrainOptions,
    frame: TrainingFrame,
    material: Material,
    run: RunFile,
    then: RunFile | None,
    folder: RunFolder,
    planned: TrainingPlan,
    device: ComputeDevice,
    ranks: Ranks,
    report: Report,
) -> Iterator[TrainingEvent]:
    """Load, and train on; `then` is the run as it was."""
    checkpoints = Checkpoints(folder.checkpoints, run.id)
    with frame.waiting("preparing the model"):
        found = _newest(checkpoints) if then is not None else None
        twice = planned.fit.checkpointing
        session = _session(material.starting, run, device, ranks, found, twice)
    for text in (session.notice, None if planned.fit.fits else planned.fit.warning):
        if text is not None:
            yield Told(step=0, text=text)
    state = TrainingState() if found is None else _gone_on(then, run, found.state)
    for damaged in found.damaged if found else ():
        yield Told(step=state.step, text=f"checkpoint {damaged} is not used")
    dry = options.following.dry_run
    if not dry:
        _clear(folder, run, checkpoints, state)
    with writing(folder.log):
        log = NoLog() if dry else RunLog(folder.log, state.log_bytes)
    try:
        loop = _loop(options, frame, material, run, session, folder, log, state)
        yield from _rehearsal(loop, session) if dry else _steps(loop, session, frame, report)
    finally:
        log.close()


def _session(
    starting: StartingModel,
    run: RunFile,
    device: ComputeDevice,
    ranks: Ranks,
    found: FoundCheckpoint | None,
    twice: bool,
) -> ComputeSession:
    """The model and its optimizer as the checkpoint has them, on all ranks; `twice`: activations
    are computed anew for the gradient."""
    from gptcli.training.compute.session import ComputeSession

    begin(ranks, run, found.path if found else None, twice)
    micro, weights = run.machine.micro_tokens, starting.weights
    session = ComputeSession(starting.config, run.settings, weights, device, micro, ranks, twice)
    if found is not None:
        session.load(found.path)
    lead(ranks, session)
    return session


def _newest(checkpoints: Checkpoints) -> FoundCheckpoint | None:
    """Raises BadInput where all are damaged."""
    with writing(checkpoints.folder):
        try:
            return checkpoints.newest()
        except ValueError as error:
            why = f"every checkpoint is damaged: {error}"
            raise BadInput(str(checkpoints.folder), why, f"Check the disk. {WAY_OUT}") from None


def _gone_on(then: RunFile | None, run: RunFile, state: TrainingState) -> TrainingState:
    """The state of a checkpoint; where limits changed, what was decided of the end is void."""
    if then is None or not limits_differ(then, run):
        return state
    pace = _pace(run)
    return state.but(knots=pace.renewed(state.step, state.seconds), waited=0)


def _clear(
    folder: RunFolder,
    run: RunFile,
    checkpoints: Checkpoints,
    state: TrainingState,
) -> None:
    """Write run.json; then remove what is later than the state, and what another run left."""
    folder.note(run.but(last=state.step or None, ending=None, made={}))
    with writing(folder.path):
        checkpoints.keep(step for step in checkpoints.steps() if step <= state.step)
        if state.step == 0:
            finish.remove_model(folder.path)


def _pace(run: RunFile) -> Pace:
    minutes, steps = run.asked.get("minutes"), run.settings.steps
    counted = any(name in run.asked for name in ("steps", "epochs"))
    seconds = 60.0 * minutes if isinstance(minutes, int | float) else None
    return Pace(steps, steps if counted or seconds is None else None, seconds)


def _loop(
    options: TrainOptions,
    frame: TrainingFrame,
    material: Material,
    run: RunFile,
    session: ComputeSession,
    folder: RunFolder,
    log: RunLog,
    state: TrainingState,
) -> TrainingLoop:
    following, starting = options.following, material.starting
    small = dict(starting.files)
    small |= [session.settings_file(starting.described, starting.base)]
    tools = LoopTools(
        stepper=session.stepper,
        corpus=material.corpus,
        settings=run.settings,
        pace=_pace(run),
        folder=folder,
        checkpoints=Checkpoints(folder.checkpoints, run.id),
        log=log,
        files=lambda: ModelFiles(small, session.files()),
        is_finite=session.is_finite,
        vocabulary=starting.config.vocab_size,
        clock=frame.clock,
        sample=frame.sample,
    )
    rules = LoopRules(
        eval_every=eval_every(following, run.settings.steps),
        stretched=following.eval_every is None and run.asked.get("minutes") is not None,
        rehearsed=following.dry_run,
        save_every=following.save_every,
        sample_every=following.sample_every,
        patience=following.patience,
        keep=following.keep,
        by_epochs=run.settings.steps != options.optimization.steps,
    )
    return TrainingLoop(tools, rules, state)


def _report(
    frame: TrainingFrame, material: Material, plan: Prepared, folder: RunFolder, done: Ended
) -> None:
    """Let the frame add to the folder. Raises CannotCreate, WriteFailed."""
    starting = material.starting
    if frame.report is None or folder.run is None:
        return
    finished = FinishedRun(
        folder=folder.path,
        log=folder.log,
        plan=plan,
        run=folder.run,
        corpus=material.corpus,
        tokenizer=starting.tokenizer,
        base_folder=starting.weights.folder if starting.weights is not None else None,
        done=done,
    )
    with frame.waiting("writing the report"), writing(folder.path):
        frame.report(finished)


def _rehearsal(loop: TrainingLoop, session: ComputeSession) -> Iterator[TrainingEvent]:
    """The first steps, until they tell the plan; nothing is kept of them."""
    yield _began(loop, session)
    for event in with_plan(loop, session):
        yield event
        if isinstance(event, Planned):
            break
    loop.ending = "planned"
    yield loop.ended()


def _began(loop: TrainingLoop, session: ComputeSession) -> Began:
    tools = loop.tools
    return Began(
        step=loop.state.step,
        steps=loop.steps,
        folder=tools.folder.path,
        parameters=session.parameters,
        trained=session.trained,
        tokens=tools.corpus.train.tokens,
        documents=tools.corpus.documents,
    )


def _steps(
    loop: TrainingLoop, session: ComputeSession, frame: TrainingFrame, report: Report
) -> Iterator[TrainingEvent]:
    """The steps, and what comes out of them."""
    yield _began(loop, session)
    with frame.stoppable() as stopping:
        session.stepper.stopping = stopping
        yield from with_plan(loop, session)
    if loop.ending == "interrupted":
        yield loop.ended()
    elif loop.ending == "diverged":
        done = loop.ended()
        made = {"step": done.step, "saved": done.saved, "why": done.why}
        loop.note(ending="diverged", made=made)
        yield done
    else:
        yield from _finished(loop, report)


def _finished(loop: TrainingLoop, report: Report) -> Iterator[TrainingEvent]:
    """Put the model in its place."""
    tools, state = loop.tools, loop.state
    chosen = state.best.step if state.best else state.step
    if state.best and state.start_loss is not None and state.best.loss >= state.start_loss:
        text = (
            "no validation loss is below that of the model it began with,"
            f" {state.start_loss:.4f}: lower --learning-rate, or give more text"
        )
        yield Told(step=state.step, text=text)
    if chosen != state.step and not tools.checkpoints.is_sound(chosen):
        text = f"checkpoint step-{chosen:06}, the best, is damaged: the last is taken"
        yield Told(step=state.step, text=text)
        chosen = state.step
    with writing(tools.folder.path):
        finish.put_model(tools.checkpoints.path(chosen), tools.folder.path)
    done = loop.ended(chosen)
    made = {name: getattr(done, name) for name in _MADE if name != "why"}
    with writing(tools.folder.path):
        tools.log.write(line_of(done))
        tools.log.flush()
        tools.checkpoints.keep(loop.kept())
    report(done)
    loop.note(ending=loop.ending, made=made)
    yield done


def _ended_before(run: RunFile, folder: RunFolder) -> Ended:
    """The event of a run that had ended when the command was given again."""
    made = {name: value for name, value in run.made.items() if name in _MADE}
    return Ended(ending=cast(Ending, run.ending), folder=folder.path, again=True, **made)  # type: ignore[arg-type]
