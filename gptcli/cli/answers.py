"""How the answers of a task are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gptcli.cli import shapes
from gptcli.cli.sink import Sink
from gptcli.errors import UsageError
from gptcli.options import Output, Sampling
from gptcli.tasks.answers import Answer, Piece


@dataclass(frozen=True)
class Style:
    """How answers are to be written. Raises UsageError for flags that do not go together."""

    sampling: Sampling
    output: Output
    lines: bool
    withheld: str = ""  # why the text cannot be streamed
    echo: str = ""  # what is shown of the input before its answer

    def __post_init__(self) -> None:
        if self.sampling.logprobs is not None and self.output.shape not in ("json", "jsonl"):
            why = f"{self.output.shape} cannot hold them"
            raise UsageError("--logprobs", why, "Add --format json.")
        if self.output.stream and self._obstacle:
            raise UsageError("--stream", f"{self._obstacle} cannot be streamed", "Drop --stream.")

    @property
    def _obstacle(self) -> str:
        if self.lines:
            return "the answers to several lines"
        if self.sampling.num_return_sequences > 1:
            return "several sequences"
        if self.sampling.num_beams > 1:
            return "beam search"
        return self.withheld if self.output.shape == "text" else self.output.shape

    @property
    def streamed(self) -> bool:
        """Whether text is written as it is made."""
        return self.output.stream is not False and not self._obstacle

    @property
    def several(self) -> bool:
        """Whether there can be more than one answer."""
        return self.lines or self.sampling.num_return_sequences > 1


def write(out: Sink, events: Iterator[Piece | Answer], style: Style) -> None:
    """Write answers in the shape asked for; a failed one is no text, but a line with --lines."""
    shape = style.output.shape
    if style.streamed:
        _stream(out, events, style)
        return
    found = (event for event in events if isinstance(event, Answer))
    if shape == "text":
        _texts(out, found, style)
    elif shape == "json":
        shown = list(found)
        if style.lines or not any(answer.error for answer in shown):
            out.write(shapes.as_json(shown, single=not style.several))
    elif shape == "csv":
        for line in shapes.as_csv(found, shapes.OF_ANSWERS):
            out.write(line)
    else:
        for line in shapes.as_json_lines(found):
            out.write(line)


def _stream(out: Sink, events: Iterator[Piece | Answer], style: Style) -> None:
    """The text of one answer as it is made, and a line break at the end."""
    begun = False
    for event in events:
        if isinstance(event, Answer) and event.error and not begun:
            return
        if not begun:
            out.dim(style.echo)
            begun = True
        if isinstance(event, Piece):
            out.write(event.text)
    out.write("\n")


def _texts(out: Sink, answers: Iterator[Answer], style: Style) -> None:
    """Each answer with a line break at the end; with --lines each in one line."""
    count = style.sampling.num_return_sequences
    for answer in answers:
        if style.lines:
            missing = count - 1 if answer.error else 0  # a line in place of each sequence
            out.write(" ".join(answer.text.split("\n")) + "\n" * (1 + missing))
            continue
        if answer.error:
            continue
        if count > 1 and out.terminal:
            out.dim(f"[{answer.index + 1} of {count}]\n")
        elif answer.index:
            out.write("\n")
        out.dim(style.echo)
        out.write(answer.text + "\n")


def details(answer: Answer) -> str:
    """What -v tells of an answer besides its text; empty where there is nothing."""
    if answer.labels is not None:
        return ", ".join(f"{label} {share:.3f}" for label, share in answer.labels)
    if answer.mean_logprob is not None:
        return f"mean log-probability {answer.mean_logprob:.3f}"
    return ""
