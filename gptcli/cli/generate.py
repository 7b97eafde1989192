"""`gptcli generate`: continue a prompt.

Cheap refusals come first, the output is opened next, and only then is a model loaded. Text of one
sequence is written as it is made; other shapes when each sequence is finished. Left out: prompt
files with many rows, and tasks with a template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import typer

from gptcli import engines
from gptcli.cli import render, shapes, sink, streams
from gptcli.cli.declaration import command
from gptcli.cli.recording import recording
from gptcli.cli.report import Report
from gptcli.cli.sink import Sink
from gptcli.errors import UsageError
from gptcli.files import read_prompt
from gptcli.options import Input, Load, Output, Record, Sampling, Talk
from gptcli.results import Chunk, Completion, Event, Request

MOST_SLOTS = 16  # sequences computed at a time


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
    load: Load,
    sampling: Sampling,
    output: Output,
    record: Record,
    talk: Talk,
) -> None:
    """Continue a prompt.

    Prints prompt and continuation. The prompt is an argument, a pipe or a file.
    """
    streamed = _streamed(sampling, output)
    asked = read_prompt(prompt, input, streams.stdin_bytes())
    note: Callable[[str], None] = (lambda text: None) if talk.quiet else streams.note
    for notice in asked.notices:
        note(notice)
    slots, beams = min(sampling.num_return_sequences, MOST_SLOTS), sampling.num_beams > 1
    with (
        recording(record, "generate", load, output.force, output.output) as watch,
        sink.opened(output) as out,
    ):
        with render.waiting(f"loading {load.model or 'the model'}", talk.quiet) as progress:
            engine = engines.open_engine(load, slots, beams, progress)
        for notice in engine.info.notices:
            note(notice)
        engine = watch(engine, slots, beams)
        request = Request(
            id="0", prompt=asked.text, sampling=sampling, on_overflow=input.on_overflow
        )
        report = Report()
        events = report.watched(engine.run([request]))
        _write(out, events, asked.text if _echoed(output) else "", streamed, sampling, output)
    for notice in report.notices:
        note(notice)
    if report.error:
        raise report.error
    if talk.verbose:
        note(report.closing(engine.info))


def _streamed(sampling: Sampling, output: Output) -> bool:
    """Whether text is written as it is made. Raises UsageError for a bad combination."""
    if sampling.logprobs is not None and output.shape not in ("json", "jsonl"):
        raise UsageError("--logprobs", f"{output.shape} cannot hold them", "Add --format json.")
    obstacles = [
        (sampling.num_return_sequences > 1, "several sequences", "Drop --stream or -n."),
        (sampling.num_beams > 1, "beam search", "Drop --stream or --num-beams."),
        (output.shape != "text", output.shape, "Drop --stream, or write text."),
    ]
    for present, what, hint in obstacles:
        if present and output.stream:
            raise UsageError("--stream", f"{what} cannot be streamed", hint)
    return output.stream is not False and not any(present for present, _, _ in obstacles)


def _echoed(output: Output) -> bool:
    return output.echo is not False


def _write(
    out: Sink,
    events: Iterator[Event],
    echo: str,
    streamed: bool,
    sampling: Sampling,
    output: Output,
) -> None:
    """Write the answer in the shape asked for."""
    count = sampling.num_return_sequences
    if streamed:
        _stream(out, events, echo)
        return
    answers = _in_order(event for event in events if isinstance(event, Completion))
    if output.shape == "text":
        _texts(out, answers, echo, count)
    elif output.shape == "json":
        out.write(shapes.as_json(list(answers), single=count == 1))
    else:
        lines = shapes.as_csv if output.shape == "csv" else shapes.as_json_lines
        for line in lines(answers):
            out.write(line)


def _stream(out: Sink, events: Iterator[Event], echo: str) -> None:
    """The prompt and the text of one sequence as it comes, and a line break at the end."""
    begun = False
    for event in events:
        if isinstance(event, Completion) and event.error is not None and not begun:
            return
        if not begun:
            out.dim(echo)
            begun = True
        if isinstance(event, Chunk):
            out.write(event.text)
    out.write("\n")


def _texts(out: Sink, answers: Iterator[Completion], echo: str, count: int) -> None:
    """Each sequence with a line break at the end; several are set apart."""
    for place, item in enumerate(item for item in answers if item.error is None):
        if count > 1 and out.terminal:
            out.dim(f"[{item.index + 1} of {count}]\n")
        elif place:
            out.write("\n")
        out.dim(echo)
        out.write(item.text + "\n")


def _in_order(completions: Iterable[Completion]) -> Iterator[Completion]:
    """By index, each as soon as those before it are there."""
    early: dict[int, Completion] = {}
    due = 0
    for item in completions:
        early[item.index] = item
        while due in early:
            yield early.pop(due)
            due += 1
    yield from (early[index] for index in sorted(early))
