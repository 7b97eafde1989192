"""What a task is: the contents of its TOML file as frozen data.

`gptcli.tasks.definition.schema` reads and checks the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

OptionKind = Literal["text", "file", "integer", "number", "flag", "choice", "list"]
"""`file`: a text, or the contents of the file of that name; `list`: texts separated by commas."""

AnswerKind = Literal["text", "line", "sentences", "code", "labels", "spans"]
"""How an answer is read from generated text. `text`: all of it; `line`: the first line;
`sentences`: the first ones; `code`: up to the end of the block; `labels`: no text is generated, the
likeliest label is the answer; `spans`: a list of parts of the input, with their types."""

Read = Callable[[str, bool], tuple[str, bool]]
"""(text so far, whether it is finished) -> (answer so far, whether it is complete).

The answer of a longer text begins with the answer of a shorter one. Once it is complete, more text
changes nothing.
"""

Value = str | int | float | bool | tuple[str, ...] | None
"""The value of an option."""


@dataclass(frozen=True, kw_only=True)
class TaskOption:
    """A task's own option, such as `--from` of translate."""

    name: str  # as in templates: `from`, `abstain_below`
    kind: OptionKind
    help: str
    default: Value = None
    choices: tuple[str, ...] = ()  # of a choice
    low: float | None = None
    high: float | None = None
    differs_from: str | None = None  # the name of an option that must have another value


@dataclass(frozen=True, kw_only=True)
class AnswerRule:
    """How the answer is read. A parameter is a value, or `{name}`: the value of that option.

    Every kind except `spans` may have `abstain_below` (the least confidence: a mean natural
    log-probability, for labels a probability) and `abstain` (the answer below it). Further
    parameters:

    sentences: `sentences` (how many), `ratio` (or: this share of the input's sentences)
    code:      `until` (dedent, blank, fence or none)
    labels:    `labels` (the list), `calibration` (none, contextual or pmi), `domain` (the text
               before a label without an input, for pmi; by default the part of the prompt after the
               input), `content_free` (list of inputs without content)
    spans:     `types` (the list)
    """

    kind: AnswerKind = "text"
    parameters: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Long:
    """How a text that does not fit is handled. `field` is `input`, or the name of an option.

    Strategies: `each` answers part by part and joins the answers in place. `reduce` answers part
    by part, joins the answers and asks again until one is left. `window` takes the part that has
    most words in common with the input. `truncate` takes the beginning. `whole` never splits. A
    part is a `sentence`, or a `passage`: as many sentences as fit the context.
    """

    field: str = "input"
    strategy: str = "whole"  # or {name}: an option's value
    unit: Literal["sentence", "passage"] = "passage"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Another wording, used when the option `when` is given."""

    when: str
    prompt: str
    example: str = ""
    examples: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task. Templates hold `{input}`, `{examples}` and `{option}`; `{{` is a brace."""

    name: str
    source: str  # the file it was read from
    description: str  # one sentence: what --help lists
    help: str = ""  # more of it
    prompt: str  # template
    example: str = ""  # template of one example: {input}, {output} and options
    examples: tuple[Mapping[str, str], ...] = ()  # each: column -> text
    columns: tuple[str, str] = ("input", "output")  # which columns are {input}, {output}; templates
    options: tuple[TaskOption, ...] = ()
    piped: str | None = None  # the option that takes standard input when there is an argument, too
    sampling: Mapping[str, object] = field(default_factory=dict)  # defaults of Sampling's fields
    stop: tuple[str, ...] = ()  # always, beside those of --stop
    answer: AnswerRule = AnswerRule()
    long: Long = Long()
    variants: tuple[Variant, ...] = ()

    @property
    def takes_examples(self) -> bool:
        """Whether the task has `--example`."""
        return bool(self.example)
