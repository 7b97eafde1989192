"""`gptcli replay`: run a record again and compare the answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated

import typer

from gptcli.cli.completion import candidates
from gptcli.cli.output import sink
from gptcli.cli.output.records import json_line, quoted
from gptcli.cli.session import Session
from gptcli.config import target, values_of
from gptcli.errors import BadModel, ExitCode, UsageError
from gptcli.inputs.prompt import read_prompt
from gptcli.options import AsJson, Input, Load, Network, Output, Talk
from gptcli.options.model import check_url, same_server
from gptcli.options.shared import ASKED
from gptcli.options.spec import Options, option
from gptcli.replay.record import RecordedRequest, RecordedRun, read
from gptcli.replay.recorder import run_of
from gptcli.replay.replaying import ReplayVerdict, differences
from gptcli.replay.replaying import replay as replayed
from gptcli.system.units import counted

WAY = "name it yourself with -m, or give --trust-record"
SEE = "Say -m where it lies, or compare all the same with --allow-changed-model"


@dataclass(frozen=True, kw_only=True)
class Other(Options):
    """What to use in place of the record's, and whether to do what the record alone asks for."""

    panel = "Model"

    model: str | None = option(
        None,
        "-m --model",
        "Where the model is now.",
        instead="The record names its model.",
        names="model as typed",
        redeclares="the record names its model, so neither the file nor a variable may",
    )
    server: str | None = option(
        None,
        "--server",
        "The endpoint to ask, which gets your key.",
        metavar="URL",
        check=check_url,
        instead="The record names its server, and asks for this flag where it is not yours.",
        redeclares="the record names its server, so neither the file nor a variable may",
    )
    trust_record: bool = option(
        False,
        "--trust-record",
        "Send prompts and your key to the server that the record names, and your Hub token for its"
        " models.",
        instead=ASKED,
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
    _check_server(record, run, other, talk)
    first = next(entries, None)
    given = _given(first, prompt, input, session)
    entries = chain([first] if first else [], entries)
    load = _load(run, other, network.offline, talk)
    with sink.opened(Output()) as out:
        with _token(other, load, talk):
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


def _check_server(record: str, run: RecordedRun, other: Other, talk: Talk) -> None:
    """A record can be a stranger's: prompts and the key go to servers that the user names.

    Raises UsageError.
    """
    server = run.options.server
    if server is None or other.server is not None or other.trust_record:
        return
    if any(same_server(server, own) for own in values_of("server", talk.config)):
        return
    hint = f"To send prompts and your key there: --server {server}, or --trust-record."
    raise UsageError(f"record {record}", f"it names the server {server}, and you do not", hint)


@contextmanager
def _token(other: Other, load: Load, talk: Talk) -> Iterator[None]:
    """Keep the Hub's token for models that the user names, inside the block."""
    if other.trust_record or load.server is not None:
        yield
        return
    from gptcli.checkpoints.hub.access import token_only_for

    own = values_of("model", talk.config) | values_of("draft_model", talk.config)
    if other.model is not None and load.model is not None:
        own |= {load.model}
    with token_only_for(own, WAY):
        yield


def _load(run: RecordedRun, other: Other, offline: bool, talk: Talk) -> Load:
    """How the model is opened: as it was, wherever it is now."""
    load = replace(run.options, offline=run.options.offline or offline)
    if other.server is not None:
        load = replace(load, server=other.server)
    if other.model is not None:
        return replace(load, model=target(other.model, talk.config), revision=None)
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
