"""`gptcli replay`: run a record again and compare the answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated

import typer

from gptcli.cli.completion import candidates
from gptcli.cli.output import sink
from gptcli.cli.output.records import json_line, quoted
from gptcli.cli.session import Session
from gptcli.config import target
from gptcli.errors import BadModel, ExitCode, UsageError
from gptcli.inputs.prompt import read_prompt
from gptcli.options import AsJson, Input, Load, Network, Output, Talk
from gptcli.options.shared import ASKED
from gptcli.options.spec import Options, option
from gptcli.replay.record import RecordedRequest, RecordedRun, read
from gptcli.replay.recorder import run_of
from gptcli.replay.replaying import ReplayVerdict, differences
from gptcli.replay.replaying import replay as replayed
from gptcli.system.units import counted

SEE = "Say -m where it lies, or compare all the same with --allow-changed-model"


@dataclass(frozen=True, kw_only=True)
class Other(Options):
    """The model to use in place of the record's."""

    panel = "Model"

    model: str | None = option(
        None,
        "-m --model",
        "Where the model is now.",
        instead="The record names its model.",
        names="model as typed",
        redeclares="the record names its model, so neither the file nor a variable may",
    )
    allow_changed_model: bool = option(
        False,
        "--allow-changed-model",
        "Compare with the answers of another model.",
        instead=ASKED,
    )


def replay(
    record: Annotated[
        str,
        typer.Argument(
            metavar="RECORD", help="A record.", show_default=False, autocompletion=candidates.files
        ),
    ],
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="The prompt, where the record keeps its hash; - is standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    other: Other,
    network: Network,
    input: Input,
    shape: AsJson,
    talk: Talk,
) -> int:
    """Run a record again.

    Each answer has a line: identical, or where it differs. The exit code is 3 where one differs.
    """
    session = Session.of(talk)
    run, entries = read(record)
    first = next(entries, None)
    given = _given(first, prompt, input, session)
    entries = chain([first] if first else [], entries)
    load = _load(run, other.model, network.offline, talk)
    with sink.opened(Output()) as out:
        engine = session.open_engine(load, run.slots, run.beams, notices=False)
        now = run_of(engine, run.command, load, run.slots, run.beams)
        grave, changes = differences(run, now)
        if grave and not other.allow_changed_model and load.server is None:
            raise BadModel(f"record {record}", grave[0], SEE)
        session.note(*grave, *changes)
        if load.server is not None:
            session.note("a server promises nothing about what it writes twice")
        counts = [0, 0]
        for verdict in replayed(engine, entries, given):
            counts[verdict.identical] += 1
            out.write(_line(verdict, shape.json))
    session.detail(f"{counts[True]} of {sum(counts)} answers are identical")
    return ExitCode.PARTIAL if counts[False] else ExitCode.OK


def _given(
    first: RecordedRequest | None, prompt: str | None, input: Input, session: Session
) -> str | None:
    """The prompt that is given, where the record has only its hash. Raises as `read_prompt`."""
    if first is None or first.prompt is None:
        return read_prompt(prompt, input, session.stdin).text if first else None
    if prompt is not None or input.file is not None:
        raise UsageError("prompt", "the record holds its own", "Leave it out.")
    return None


def _load(run: RecordedRun, model: str | None, offline: bool, talk: Talk) -> Load:
    """How the model is opened: as it was, wherever it is now."""
    load = replace(run.options, offline=run.options.offline or offline)
    if model is not None:
        return replace(load, model=target(model, talk.config), revision=None)
    if load.model is None and load.server is None:  # gpt2 or the bundled one, whichever it was
        load = replace(load, model=run.model)
    if run.revision is not None and len(run.revision) == 40 and load.server is None:
        load = replace(load, revision=run.revision)  # the very commit
    return load


def _line(verdict: ReplayVerdict, json: bool) -> str:
    if json:
        return json_line(verdict.to_dict())
    name = f"{verdict.id}.{verdict.index}" if verdict.index else verdict.id
    if verdict.identical:
        return f"{name}  identical  {counted(verdict.tokens, 'token')}\n"
    if verdict.at is None:
        return f"{name}  differs\n"
    was, now = (quoted(text) for text in (verdict.was, verdict.now))
    return f"{name}  differs at character {verdict.at}: {was} is now {now}\n"
