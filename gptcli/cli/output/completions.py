"""Completions and answers as text, JSON, JSON lines and CSV.

The command describes the output in a `CompletionStyle`. A streamed text is written piece by piece,
everything else when a sequence is finished. A failed request has no text; with --lines it has an
empty line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from gptcli.cli.output.records import document, written
from gptcli.cli.output.sink import Sink
from gptcli.errors import UsageError
from gptcli.options import Format, Output, Sampling
from gptcli.protocol import Chunk, Completion, Event
from gptcli.tasks.answers import Answer, AnswerChunk

COLUMNS = (
    "id",
    "index",
    "prompt",
    "text",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "seed",
    "model",
    "revision",
    "truncated",
    "error",
)
ANSWER_COLUMNS = (
    "task",
    *("input" if column == "prompt" else column for column in COLUMNS),
    "mean_logprob",
    "abstained",
    "labels",
    "entities",
)


@dataclass(frozen=True, kw_only=True)
class CompletionStyle:
    """How completions or answers are written."""

    shape: Format
    columns: Sequence[str] = COLUMNS  # of CSV
    streamed: bool = False  # whether the text is written piece by piece
    count: int = 1  # sequences for each input
    lines: bool = False  # --lines: one line of output for each line of input
    failures: bool = True  # whether JSON is written if a request failed
    prose: bool = True  # whether lines may end between words, on a terminal
    echo: str = ""  # the text shown before the continuation
    ids: bool = False  # whether a text is written as its token ids


def streamed(sampling: Sampling, output: Output, obstacles: Iterable[tuple[str, str]]) -> bool:
    """Whether the text is streamed.

    `obstacles` are reasons why it cannot be, each with a hint. Raises UsageError for flags that
    exclude each other.
    """
    if sampling.logprobs is not None and output.shape not in ("json", "jsonl"):
        raise UsageError("--logprobs", f"{output.shape} cannot hold them", "Add --format json.")
    for what, hint in obstacles:
        if output.stream:
            raise UsageError("--stream", f"{what} cannot be streamed", hint)
        return False
    return output.stream is not False


def write(
    out: Sink, events: Iterable[Event | AnswerChunk | Answer], style: CompletionStyle
) -> None:
    """Write completions or answers, which must come in order, in the format of `style`."""
    if style.streamed:
        _stream(out, events, style)
        return
    found = (event for event in events if isinstance(event, Completion | Answer))
    if style.shape == "text":
        _texts(out, found, style)
    elif style.shape == "json":
        shown = list(found)
        if style.failures or not any(item.error for item in shown):
            single = style.count == 1 and not style.lines
            rows = [item.to_dict() for item in shown]
            out.write(document(rows[0] if single else rows))
    else:
        flat = _flat if style.shape in ("csv", "tsv") else _nested
        first = next(found, None)
        carried = first.carried if isinstance(first, Answer) else ()
        columns = (*style.columns, *carried)
        begun = chain([] if first is None else [first], found)
        for piece in written(map(flat, begun), style.shape, columns):
            out.write(piece)


def _stream(
    out: Sink, events: Iterable[Event | AnswerChunk | Answer], style: CompletionStyle
) -> None:
    """Stream the text of one sequence, with a line break at the end."""
    begun = False
    for event in _spelled(events) if style.ids else events:
        if isinstance(event, Completion | Answer) and event.error is not None and not begun:
            return
        if not begun:
            out.dim(style.echo)
            begun = True
        if isinstance(event, Chunk | AnswerChunk):
            (out.prose if style.prose else out.write)(event.text)
    out.write("\n")


def _spelled(
    events: Iterable[Event | AnswerChunk | Answer],
) -> Iterator[Event | AnswerChunk | Answer]:
    """The events with the ids of their tokens as the text of each chunk."""
    between = ""
    for event in events:
        if isinstance(event, Chunk):
            spelled = " ".join(map(str, event.tokens))
            yield replace(event, text=between + spelled if spelled else "")
            between = " " if spelled else between
        else:
            yield event


def _texts(out: Sink, found: Iterator[Completion | Answer], style: CompletionStyle) -> None:
    """Each sequence with a line break at the end, and an empty line between two."""
    if style.lines:
        for item in found:
            missing = style.count - 1 if item.error else 0  # a line in place of each sequence
            out.write(" ".join(item.text.split("\n")) + "\n" * (1 + missing))
        return
    for place, item in enumerate(item for item in found if item.error is None):
        if style.ids and isinstance(item, Completion):
            out.write(f"{style.echo}{' '.join(map(str, item.tokens))}\n")
            continue
        if style.count > 1 and out.terminal:
            out.dim(f"[{item.index + 1} of {style.count}]\n")
        elif place:
            out.write("\n")
        out.dim(style.echo)
        (out.prose if style.prose else out.write)(item.text + "\n")


def _nested(item: Completion | Answer) -> dict[str, object]:
    return item.to_dict()


def _flat(item: Completion | Answer) -> dict[str, object]:
    """With the token counts as columns."""
    return {**item.to_dict(), **item.usage.to_dict()}
