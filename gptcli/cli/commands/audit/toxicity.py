"""`gptcli audit toxicity`: how often a model writes what a list or a classifier finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from gptcli.audit.options import DEFAULT_LIST, Continuations, JudgedBy, Report
from gptcli.audit.prompts import ReadPrompts, read_prompts
from gptcli.audit.record import record_of
from gptcli.audit.toxicity import JudgedPrompt, judged, toxicity_rows
from gptcli.cli.commands.audit.charts import toxicity_chart
from gptcli.cli.commands.audit.report import Findings, opened, say_errors
from gptcli.cli.commands.audit.tables import toxicity_text
from gptcli.cli.declaration import command
from gptcli.cli.output import render
from gptcli.cli.recording import recording
from gptcli.cli.session import Session
from gptcli.errors import ExitCode
from gptcli.options import Load, Record, Sampling, Talk
from gptcli.options.spec import changed

if TYPE_CHECKING:
    from gptcli.audit.judges import TextJudge


@command(
    presets=lambda given: Continuations.presets(),
    examples=(
        "gptcli audit toxicity prompts.txt --filter basic -n 25",
        "gptcli audit toxicity prompts.txt --moderator ./toxic-bert --moderator-label toxic",
    ),
)
def toxicity(
    prompts: Annotated[
        str,
        typer.Argument(
            help="Prompts: lines, a table, or RealToxicityPrompts' JSON lines; - is standard"
            " input.",
            show_default=False,
        ),
    ],
    *,
    judging: JudgedBy,
    load: Load,
    drawing: Continuations,
    report: Report,
    record: Record,
    talk: Talk,
) -> int:
    """Measure how often a model writes what a list or a classifier finds.

    The expected maximum and the probability, over prompts that are continued as in
    RealToxicityPrompts. What the numbers mean and do not mean: gptcli docs audit.
    """
    session = Session.of(talk)
    judge = _judge(judging, load, session)
    sampling, seed = drawing.sampling, drawing.seed
    read = read_prompts(prompts, session.stdin, session.note)
    chosen = read.sampled(judging.sample, seed)
    if sampling.effective_temperature == 0 and sampling.num_return_sequences > 1:
        session.note("without randomness all texts of a prompt are the same: -t 1 draws")
    with (
        recording(record, "audit", load, report.force, report.output) as watch,
        opened(report) as outlets,
    ):
        engine = session.open_engine(load, judging.batch_size, watch=watch)
        count = len(chosen.prompts) * sampling.num_return_sequences
        with _progress(session, count) as told:
            found = judged(engine, chosen.prompts, judge, sampling, told)
        rows = toxicity_rows(found, seed)
        if not rows:
            raise next(one.error for one in found if one.error is not None)
        made = record_of(
            "audit toxicity",
            {"model": engine.info},
            seed,
            **_measured(read, chosen, judge, sampling, rows[0].prompts),
        )
        outlets.write(
            Findings(
                record=made,
                rows=[row.to_dict() for row in rows],
                text=toxicity_text(rows, made),
                chart=toxicity_chart(engine.info.name, sampling.num_return_sequences, rows),
                named="prompts",
                details=[one.to_dict() for one in found],
            )
        )
    return _told(session, found, read.name)


def _judge(judging: JudgedBy, load: Load, session: Session) -> TextJudge:
    """What judges the texts; a list that nobody named is said. Raises as `judge_of`."""
    from gptcli.audit.judges import judge_of

    judge = judge_of(judging.judges(load))
    if not judging.moderated:
        session.note(f"what is looked for: the list {DEFAULT_LIST}; see --filter and --moderator")
    return judge


def _measured(
    read: ReadPrompts, chosen: ReadPrompts, judge: TextJudge, sampling: Sampling, count: int
) -> dict[str, object]:
    return {
        "judge": dict(judge.about),
        "prompts": {
            "name": read.name,
            "sha256": read.sha256,
            "read": len(read.prompts),
            "chosen": len(chosen.prompts),
            "measured": count,
        },
        "n": sampling.num_return_sequences,
        "sampling": changed(sampling),
    }


@contextmanager
def _progress(session: Session, count: int) -> Iterator[Callable[[int], object]]:
    """Show on a terminal how many texts are there."""
    if session.talk.quiet:
        yield lambda done: None
        return
    with render.status() as show:
        yield (lambda done: None) if show is None else (lambda done: show(f"{done} of {count}"))


def _told(session: Session, found: Sequence[JudgedPrompt], name: str) -> int:
    """Say which prompts were not measured; the exit code."""
    errors = [(f"{name} prompt {it.prompt.id}", it.error) for it in found if it.error is not None]
    say_errors(session, errors)
    return ExitCode.PARTIAL if errors else ExitCode.OK
