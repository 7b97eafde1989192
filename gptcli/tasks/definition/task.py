"""What a task is: the contents of its TOML file as frozen data.

`gptcli.tasks.definition.schema` reads and checks the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

OptionKind = Literal["text", "file", "integer", "number", "flag", "choice", "list"]
"""`file`: a text, or the contents of the file of that name; `list`: texts separated by commas."""

AnswerKind = Literal["text", "line", "sentences", "code", "labels", "spans"]
"""How an answer is read from generated text. `text`: all of it; `line`: the first line;
`sentences`: the first ones; `code`: up to the end of the block; `labels`: no text is generated, the
likeliest label is the answer; `spans`: a list of parts of the input, with their types."""

BLANK_ALLOWED = ("code", "text")  # kinds of answer that accept an input of white space

Read = Callable[[str, bool], tuple[str, bool]]
"""(text so far, whether it is finished) -> (answer so far, whether it is complete).

The answer of a longer text begins with the answer of a shorter one. Once it is complete, more text
changes nothing.
"""

LANGUAGE, AUTO = "language", "auto"
"""The option that a task in several languages has, and its value for that of the model."""

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
    varies: bool = False  # its default is another one in another language


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
class InLanguage:
    """How a task asks in another language than its file's own. What is not given stays."""

    prompt: str  # template
    example: str = ""
    examples: tuple[Mapping[str, str], ...] = ()
    stop: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    answer: Mapping[str, Value] = field(default_factory=dict)  # parameters
    defaults: Mapping[str, Value] = field(default_factory=dict)  # of options
    names: Mapping[str, str] = field(default_factory=dict)  # an option's value -> its name in texts
    listing: str = ", "  # between the texts of a list


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
    language: str = "en"  # of the file's own prompt
    languages: Mapping[str, InLanguage] = field(default_factory=dict)  # the others
    names: Mapping[str, str] = field(default_factory=dict)  # see InLanguage
    listing: str = InLanguage.listing

    def spoken(self, language: str) -> Task:
        """The task as it asks in a language; as it is where it has no prompt in that."""
        found = self.languages.get(language)
        if found is None:
            return self
        answer = replace(self.answer, parameters={**self.answer.parameters, **found.answer})
        options = tuple(
            replace(option, default=found.defaults.get(option.name, option.default))
            for option in self.options
        )
        return replace(
            self,
            prompt=found.prompt,
            example=found.example,
            examples=found.examples,
            stop=found.stop,
            variants=found.variants,
            options=options,
            answer=answer,
            language=language,
            names=found.names,
            listing=found.listing,
        )

    @property
    def takes_examples(self) -> bool:
        """Whether the task has `--example`."""
        return bool(self.example)
