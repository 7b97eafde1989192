"""What a task is: the contents of its TOML file as frozen data.

`gptcli.tasks.definition.schema` makes these from a file and checks them. Left out: everything that
is done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

OptionKind = Literal["text", "file", "integer", "number", "flag", "choice", "list"]
"""`file`: a text, or the contents of the file of that name; `list`: texts set apart by commas."""

ReadingKind = Literal["text", "line", "sentences", "code", "labels", "spans"]
"""How an answer is read from what the model writes. `text`: all of it; `line`: the first line;
`sentences`: the first ones; `code`: to the end of the block; `labels`: nothing is written, the
likeliest label is taken; `spans`: a list of parts of the input, with their types."""

Read = Callable[[str, bool], tuple[str, bool]]
"""(the text so far, whether it is finished) -> (the answer so far, whether that is all).

The answer to a longer text begins with the answer to a shorter one; once it is all, more text
changes nothing.
"""

Value = str | int | float | bool | tuple[str, ...] | None
"""What an option can be set to."""


@dataclass(frozen=True, kw_only=True)
class TaskOption:
    """An option of a task's own: `--from` of translate."""

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

    Every kind but `spans` may have `abstain_below` (a number: the least confidence that is good
    enough) and `abstain` (the text given instead). Further parameters:

    sentences: `sentences` (how many), `ratio` (or: this share of the input's sentences)
    code:      `until` (dedent, blank, fence or none)
    labels:    `labels` (the list), `calibration` (none, contextual or pmi), `domain` (what stands
               before a label without an input, for pmi; by default what follows the input in the
               prompt), `content_free` (list of inputs that say nothing)
    spans:     `types` (the list)
    """

    kind: ReadingKind = "text"
    parameters: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Long:
    """What is done with a text that is split: `field` is `input`, or an option's name.

    Strategies: `each` answers part by part and joins the answers in place; `reduce` answers part
    by part, joins the answers and asks again until one is left; `window` takes the part that has
    most in common with the input; `truncate` takes the beginning; `whole` never splits. A part is a
    `sentence`, or a `passage`: as many sentences as fit the context.
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
        """Whether `--example` makes sense."""
        return bool(self.example)
