"""The commands that are tasks: `summarize`, `translate`, ..., and `run NAME` for any.

A command is made from the task's file: the task's options are its flags, the task's sampling is its
default. All other options are those of every command. No task has code of its own here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, BinaryIO, Unpack

import typer

from gptcli.cli import rehearsing
from gptcli.cli.declaration import command as declare
from gptcli.cli.output import sink
from gptcli.cli.output.completions import ANSWER_COLUMNS, CompletionStyle, streamed, write
from gptcli.cli.output.report import RunReport
from gptcli.cli.recording import recording
from gptcli.cli.registry import TASKS, CommandEntry
from gptcli.cli.root import Group, LazyCommand
from gptcli.cli.session import Session
from gptcli.errors import ExitCode, GptcliError, UsageError
from gptcli.inputs.columns import CarriedNames
from gptcli.inputs.json_lines import plain
from gptcli.inputs.lines import InputLine, read_lines
from gptcli.inputs.prompt import empty, read_piped, read_prompt, read_text
from gptcli.options import Input, Many, Output, Record, Sampling, TableInput, Talk
from gptcli.options.moderation import ModeratedLoad
from gptcli.options.registry import TaskGroups
from gptcli.options.spec import Options
from gptcli.tasks.answers import Answer, AnswerChunk, Question
from gptcli.tasks.definition import catalog
from gptcli.tasks.definition.options import options_class, values
from gptcli.tasks.definition.task import BLANK_ALLOWED, Task, Value
from gptcli.tasks.prompts import Wording, worded
from gptcli.tasks.run_context import check_sampling, withheld
from gptcli.tasks.solver import solve

Questions = Iterator[Question | None]
_PLACED = re.compile(r"(.+ )?line \d+\b")  # an error that names its line
Text = Annotated[
    str | None,
    typer.Argument(metavar="[INPUT]", help="The input; - is standard input.", show_default=False),
]


def command(name: str) -> Callable[..., Any]:
    """The function of a task's command, for `gptcli.cli.root`. Raises UsageError, BadTask."""
    return run if name == "run" else made(catalog.find(name))


def made(task: Task) -> Callable[..., Any]:
    """A plain function whose parameters are the groups of options that a task has."""

    def asked(text: Text = None, *, own: Any, **groups: Unpack[TaskGroups]) -> int:
        return ask(task, own, text, **groups)

    asked.__annotations__["own"] = options_class(task)
    asked.__name__ = task.name
    asked.__doc__ = f"{task.description}\n\n{task.help.strip()}"
    return declare(presets=lambda given: task.sampling, table=task.name)(asked)


class RunGroup(Group):
    """The group `run`, whose commands are all tasks there are."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The tasks' names."""
        return catalog.names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A task as it is listed. Raises UsageError if there is none, but not for completion."""
        try:
            summary = catalog.find(cmd_name).description
        except UsageError:
            if ctx.resilient_parsing:
                return None
            raise
        except GptcliError:  # its file cannot be used
            summary = "Broken: see gptcli tasks list."
        return LazyCommand(CommandEntry(cmd_name, __name__, summary, TASKS))


run = typer.Typer(cls=RunGroup, add_completion=False, rich_markup_mode=None)


@run.callback()
def _run() -> None:
    """Run a task by its name."""


def ask(
    task: Task,
    own: Options,
    text: str | None,
    input: Input,
    many: Many,
    table: TableInput,
    load: ModeratedLoad,
    sampling: Sampling,
    output: Output,
    record: Record,
    talk: Talk,
) -> int:
    """Answer the inputs of a command line; returns the exit code."""
    session = Session.of(talk)
    chosen = values(task, own)
    style = _style(task, chosen, sampling, output, many.lines)
    check_sampling(task, chosen, sampling)
    if table.given and not many.lines:
        flags = "--column, --id-column, --delimiter and --quoting"
        raise UsageError(flags, "they are for many inputs", "Add --lines.")
    rows = _Rows(table, session)
    examples = getattr(own, "example", ())
    wording, questions = _prepared(task, chosen, examples, text, input, many, session, rows)
    if many.dry_run:
        return rehearsing.show(load, wording, questions, sampling, input, session)
    if output.echo and not many.lines:
        first = next(questions)
        assert first
        style = replace(style, echo=first.text + ("" if task.answer.kind == "code" else "\n"))
        questions = iter([first])
    slots, beams = many.batch_size, sampling.num_beams > 1
    with (
        recording(record, task.name, load, output.force, output.output) as watch,
        sink.opened(output) as out,
    ):
        engine = session.open_engine(load, slots, beams, watch=watch)
        report = RunReport()
        settings = sampling, input.on_overflow, many.batch_size, session.detail, style.streamed
        solved = rows.named(solve(engine, wording, questions, *settings))
        write(out, report.watched(_told(solved, many.lines, session)), style)
    session.note(*report.said)
    session.detail(report.closing(engine.info, sampling))
    if report.error and not many.lines:
        raise report.error
    if report.error:
        return ExitCode.PARTIAL
    return ExitCode.FILTERED if report.filtered else ExitCode.OK


def _style(
    task: Task, chosen: Mapping[str, Value], sampling: Sampling, output: Output, lines: bool
) -> CompletionStyle:
    """How answers are written. Raises UsageError for flags that do not go together."""
    obstacles = [
        "the answers to several lines" if lines else "",
        "several sequences" if sampling.num_return_sequences > 1 else "",
        "beam search" if sampling.num_beams > 1 else "",
        withheld(task, chosen) if output.shape == "text" else output.shape,
    ]
    return CompletionStyle(
        shape=output.shape,
        columns=ANSWER_COLUMNS,
        streamed=streamed(
            sampling, output, [(what, "Drop --stream.") for what in obstacles if what]
        ),
        count=sampling.num_return_sequences,
        lines=lines,
        failures=lines,
        prose=task.answer.kind != "code",
    )


def _told(
    events: Iterator[AnswerChunk | Answer], lines: bool, session: Session
) -> Iterator[AnswerChunk | Answer]:
    """Pass answers on; say errors of lines and details on stderr."""
    for event in events:
        if isinstance(event, Answer):
            where = f"{_place(event.id)}: " if lines else ""
            if event.error and lines:
                own = _PLACED.match(str(event.error)) is not None
                session.error(f"{'' if own else where}{event.error}")
            elif _details(event):
                session.detail(where + _details(event))
            if event.blank_because:
                session.note(where + event.blank_because)
        yield event


def _place(id: str) -> str:
    """A line in words, by its number or its row's id."""
    return f"line {id}" if id.isdigit() else id


def _details(answer: Answer) -> str:
    """What -v adds to an answer's text: label shares or mean log-probability; may be empty."""
    if answer.labels is not None:
        return ", ".join(f"{label} {share:.3f}" for label, share in answer.labels)
    if answer.mean_logprob is not None:
        return f"mean log-probability {answer.mean_logprob:.3f}"
    return ""


def _prepared(
    task: Task,
    chosen: dict[str, Value],
    examples: tuple[str, ...],
    text: str | None,
    input: Input,
    many: Many,
    session: Session,
    rows: _Rows,
) -> tuple[Wording, Questions]:
    """The wording and the inputs; every error that needs no model is raised here."""
    stdin = session.stdin
    for option in task.options:
        value = chosen[option.name]
        if option.kind == "file" and isinstance(value, str):
            chosen[option.name] = read_text(value, input)
            if not chosen[option.name]:
                raise UsageError(f"--{option.name}", "it is empty", "Give a text, or leave it out.")
    if task.piped and text not in (None, "-"):
        input, stdin = _beside(task.piped, chosen, input, session), None
    wording = worded(task, chosen, examples)
    if many.lines:
        return wording, rows.questions(text, input, stdin)
    prompt = read_prompt(text, input, stdin)
    if not prompt.text.strip() and not input.allow_empty and task.answer.kind not in BLANK_ALLOWED:
        raise empty("empty input")
    if task.prompt.endswith("{input}"):
        session.note(*prompt.notices)
    return wording, iter([Question("0", prompt.text)])


def _beside(name: str, chosen: dict[str, Value], input: Input, session: Session) -> Input:
    """Give the file, or else piped text, to the option `name`; the input is the argument."""
    if input.file is not None:
        if chosen[name] is not None:
            hint = f"The file is for --{name}: give one of them."
            raise UsageError("--file", f"--{name} is given as well", hint)
        chosen[name] = read_prompt(None, input, session.stdin).text
    elif chosen[name] is None:
        piped = read_piped(input, session.stdin)
        session.note(*(piped.notices if piped else ()))
        chosen[name] = piped.text or None if piped else None
    return replace(input, file=None)


class _Rows:
    """The inputs of --lines: asked by number, answered with the ids and columns of their rows."""

    def __init__(self, table: TableInput, session: Session) -> None:
        self._table = table
        self._session = session
        self._under_way: dict[str, InputLine] = {}
        self._names = CarriedNames({*ANSWER_COLUMNS, "usage", "logprobs"}, session.note)

    def questions(self, text: str | None, input: Input, stdin: BinaryIO | None) -> Questions:
        """Every line or row as an input. Raises now what is known before a model is loaded."""
        return self._asked(read_lines(text, input, stdin, self._table, self._session.note))

    def _asked(self, lines: Iterator[InputLine | None]) -> Questions:
        for line in lines:
            if line is None:
                yield None
                continue
            id = str(line.number)
            if line.id != id or line.others:
                self._under_way[id] = line
            yield Question(id, line.text or "", line.error)

    def named(self, events: Iterator[AnswerChunk | Answer]) -> Iterator[AnswerChunk | Answer]:
        """Pass answers on, each with the id and the other columns of its row."""
        last = ""
        for event in events:
            if isinstance(event, Answer):
                if event.id != last:
                    self._under_way.pop(last, None)
                last = event.id
                line = self._under_way.get(event.id)
                if line is not None:
                    carried = plain(self._names.carried(line.others))
                    assert isinstance(carried, dict)
                    event = replace(event, id=line.id, carried=carried)
            yield event
