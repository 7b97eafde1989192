"""`gptcli generate`: continue a prompt.

First come the checks that need no model, then the output is opened, then the model is loaded. The
text of one sequence is streamed; other formats are written when a sequence is finished. Not here:
many prompts are in `gptcli.cli.commands.batch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Annotated

import typer

from gptcli.cli.declaration import command
from gptcli.cli.interactive.editor import edited, rescuing
from gptcli.cli.output import sink
from gptcli.cli.output.completions import COLUMNS, CompletionStyle, streamed, write
from gptcli.cli.output.report import RunReport
from gptcli.cli.recording import recording
from gptcli.cli.session import Session
from gptcli.errors import ExitCode, UsageError
from gptcli.inputs.prompt import ENDS_IN_SPACE, Prompt, empty, read_prompt
from gptcli.inputs.token_ids import ids_of
from gptcli.multiplex import InOrder
from gptcli.options import GeneratedOutput, Input, Load, Output, Record, Sampling, Talk
from gptcli.options.moderation import ModeratedLoad
from gptcli.protocol import Completion, Engine, Event, GenerateRequest, TextOrIds
from gptcli.writing import Writing, check, written

DEFAULT_WRITING = Writing()  # no editor, and no text beyond the context unless it is asked for
INCOMPLETE = "\ufffd"  # at the end of ids, what the new ones complete
MAX_SLOTS = 16  # sequences computed at a time


@command(
    examples=(
        'gptcli generate "Once upon a time" --max-new-tokens 40',
        "echo 'The capital of France is' | gptcli generate --greedy -m gpt2",
    )
)
def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="Text to continue; - is stdin. Piped text comes first.",
            show_default=False,
        ),
    ] = None,
    *,
    input: Input,
    writing: Writing = DEFAULT_WRITING,
    load: ModeratedLoad,
    sampling: Sampling,
    output: GeneratedOutput,
    record: Record,
    talk: Talk,
) -> int:
    """Continue a prompt.

    Prints prompt and continuation. The prompt is an argument, a pipe or a file.
    """
    session = Session.of(talk)
    style = _style(sampling, output, writing.ids)
    if output.as_ids and load.server is not None:
        why = "a server gives texts, no token ids"
        raise UsageError("--format", why, "Write text or JSON, or run the model here.")
    if writing.continue_:
        check(sampling)
    asked = _asked(prompt, input, writing, session)
    session.note(*(notice for notice in asked.notices if notice != ENDS_IN_SPACE))
    prompt_given: TextOrIds = ids_of(asked.text) if writing.ids else asked.text
    alone = writing.ids and (output.as_ids or output.shape != "text")  # no text is needed
    slots, beams = min(sampling.num_return_sequences, MAX_SLOTS), sampling.num_beams > 1
    with (
        rescuing(asked.text, session.note) if writing.edit else nullcontext(),
        recording(record, "generate", load, output.force, output.output) as watch,
        sink.opened(output) as out,
    ):
        engine = session.open_engine(load, slots, beams, watch=watch, text=not alone)
        if isinstance(prompt_given, str):
            session.note_last_space(prompt_given, None if load.server else engine.tokenizer)
        style = replace(style, echo=_echo(engine, prompt_given, output, load))
        request = GenerateRequest(
            id="0",
            prompt=prompt_given,
            sampling=sampling,
            on_overflow=input.on_overflow,
            shown=style.streamed,
        )
        report = RunReport()
        events = report.watched(written(engine, request, writing.continue_))
        write(out, events if style.streamed else _in_order(events), style)
        session.note(*report.said)
        if report.error:
            raise report.error
    session.detail(report.closing(engine.info, sampling))
    return ExitCode.FILTERED if report.filtered else ExitCode.OK


def _echo(engine: Engine, prompt: TextOrIds, output: Output, load: Load) -> str:
    """What stands before the continuation: the prompt as it was given, or as ids or as a text."""
    if output.shape != "text" or (output.as_ids if output.echo is None else not output.echo):
        return ""
    if isinstance(prompt, str) and not output.as_ids:
        return prompt
    if load.server is not None:  # which alone knows the text of ids
        return ""
    tokenizer = engine.tokenizer
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    if not output.as_ids:
        return tokenizer.decode(ids).rstrip(INCOMPLETE)
    begin = tokenizer.roles.begin
    return "".join(f"{id} " for id in ids or ([] if begin is None else [begin]))


def _asked(prompt: str | None, input: Input, writing: Writing, session: Session) -> Prompt:
    """The prompt, edited first if that was asked for. Raises as `read_prompt`, and Unavailable."""
    if not writing.edit:
        return read_prompt(prompt, input, session.stdin)
    if not session.interactive:
        raise UsageError("--edit", "it needs a terminal", "Give the prompt by -f FILE.")
    begun = read_prompt(prompt, replace(input, allow_empty=True), None)
    text = edited(begun.text)
    if not text and not input.allow_empty:
        raise empty("empty prompt")
    return Prompt(text, begun.notices)


def _style(sampling: Sampling, output: Output, ids: bool) -> CompletionStyle:
    """How the text is written. Raises UsageError for flags that exclude each other."""
    obstacles = [
        (sampling.num_return_sequences > 1, "several sequences", "Drop --stream or -n."),
        (sampling.num_beams > 1, "beam search", "Drop --stream or --num-beams."),
        (output.shape != "text", output.shape, "Drop --stream, or write text."),
    ]
    return CompletionStyle(
        shape=output.shape,
        streamed=streamed(sampling, output, [(what, hint) for is_, what, hint in obstacles if is_]),
        columns=(*COLUMNS, "token_ids") if ids else COLUMNS,
        count=sampling.num_return_sequences,
        ids=output.as_ids,
    )


def _in_order(events: Iterable[Event]) -> Iterator[Completion]:
    """The completions in the order of their index, each as soon as those before it are finished."""
    order = InOrder[Completion]()
    for event in events:
        if isinstance(event, Completion):
            yield from order.put(event.index, event)
    yield from order.rest()
