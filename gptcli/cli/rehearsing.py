"""`--dry-run` of a task: write the prompts that would be run, and tell what is not shown.

Lengths are counted with the model's tokenizer, or by the server, so texts are split as in a run. A
model that is not on this disk is not downloaded for that: then long texts are shown unsplit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import sleep

from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.cli.output import sink
from gptcli.cli.session import Session
from gptcli.errors import ExitCode, Unavailable
from gptcli.options import Input, Load, Output, Sampling
from gptcli.protocol import ModelInfo
from gptcli.system.units import counted
from gptcli.tasks.answers import Question
from gptcli.tasks.prompts import Wording
from gptcli.tasks.rehearsal import RehearsedQuestion, rehearse
from gptcli.tasks.run_context import TokenCounting, calibration_prompts, prepared

POLL_SECONDS = 0.01  # between two looks for a line


@dataclass(frozen=True)
class NoLimit:
    """Stands in for a model that is not here: every text fits."""

    info = ModelInfo(
        name="",
        revision=None,
        architecture="",
        context=10**9,
        vocabulary=0,
        parameters=0,
        dtype="",
        device="",
    )
    tokenizer: Tokenizer | None = None

    def count(self, text: str) -> int:
        """0 for any text."""
        return 0


def show(
    load: Load,
    wording: Wording,
    questions: Iterator[Question | None],
    sampling: Sampling,
    input: Input,
    session: Session,
) -> int:
    """Write the prompts, set apart by an empty line; returns the exit code.

    An input that a run would refuse is an error here, too.
    """
    model = _token_counter(load, session)
    context = prepared(model, wording, sampling, input.on_overflow, session.detail)
    session.note(*context.notices)
    between, failed = "", False
    with sink.opened(Output()) as out:
        for question in questions:
            if question is None:  # there is none right now
                sleep(POLL_SECONDS)
                continue
            found = rehearse(context, question)
            for prompt in found.prompts:
                out.write(f"{between}{prompt}\n")
                between = "\n"
            failed |= found.error is not None
            _tell(found, question, session)
    calibration = calibration_prompts(context.wording)
    if calibration:
        shown = ", ".join(map(repr, calibration))
        session.note(f"not shown, scored once for the calibration of the labels: {shown}")
    return ExitCode.PARTIAL if failed else ExitCode.OK


def _tell(found: RehearsedQuestion, question: Question, session: Session) -> None:
    """Say what is not shown of one input. Raises the error of an input that is the only one."""
    where = f"line {question.id}: " if question.id != "0" else ""
    if found.error is not None:
        if not where:
            raise found.error
        own = str(found.error).startswith(f"line {question.id}")
        session.error(f"{'' if own else where}{found.error}")
    elif found.continued:
        parts = counted(len(found.prompts), "prompt")
        session.note(f"{where}not shown: what follows these {parts} is made of their answers")


def _token_counter(load: Load, session: Session) -> TokenCounting:
    """What counts tokens; without the model, with a note."""
    try:
        if load.server is not None:
            return session.open_engine(load)
        from gptcli.engines.token_counter import open_token_counter

        counter = open_token_counter(load)
    except Unavailable as error:
        session.note(f"a text too long for the model is shown unsplit: {error.message}")
        return NoLimit()
    session.note(*counter.info.notices)
    return counter
