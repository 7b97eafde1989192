"""From a task, its options and an input to a prompt.

A task in several languages asks in the one that `--language` names. `auto` is that of the model's
vocabulary, known only once there is a model; see `Wording.spoken`. Until then a wording is that of
the file's own language.

Not here: an input that does not fit the context is handled in `gptcli.tasks.plans`.
"""

# ruff: noqa: RUF001 - full-width marks are signs of text here

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gptcli.errors import UsageError
from gptcli.system.text.scripts import language_of_letters
from gptcli.tasks.definition.labels import check_labels
from gptcli.tasks.definition.task import AUTO, LANGUAGE, Task, Value, Variant
from gptcli.tasks.definition.templates import fill

BETWEEN, WIDE_BETWEEN = " = ", "＝"  # in --example; the second needs no spaces
MAX_LOOKED_AT = 2000  # characters of a text, to tell its language
NAMES = {"zh": "Chinese", "ja": "Japanese", "ko": "Korean"}

Shot = tuple[str, str]
"""An example: (input, output)."""


@dataclass(frozen=True)
class Wording:
    """A task with its options: everything of its prompts except the input."""

    task: Task  # in the language it asks in
    chosen: Mapping[str, Value]
    prompt: str  # template
    example: str  # template
    shots: tuple[Shot, ...] = ()
    asked: tuple[Task, Mapping[str, Value], tuple[str, ...]] | None = None  # see `worded`

    @property
    def open(self) -> bool:
        """Whether the model decides on the language."""
        return self.asked is not None and self.chosen.get(LANGUAGE) == AUTO

    def spoken(self, language: str | None) -> Wording:
        """The wording for a model of this language, None for any; as it is where a user chose.

        Raises UsageError as `worded`.
        """
        if not self.open or self.asked is None or language not in self.asked[0].languages:
            return self
        task, chosen, given = self.asked
        return worded(task, {**chosen, LANGUAGE: language}, given)

    def text(self, input: str, field: str = "", value: str = "") -> str:
        """The prompt for an input; `value` stands in for the option `field`."""
        values = self._shown() | {field: value}
        examples = "".join(
            fill(self.example, {**values, "input": given, "output": wanted})
            for given, wanted in self.shots
        )
        return fill(self.prompt, {**values, "input": input, "examples": examples})

    @property
    def domain(self) -> str:
        """The text before a label without an input, for calibration by PMI.

        It is the parameter `domain`, or else the part of the prompt after the input.
        """
        values = self._shown() | {"examples": ""}
        if self.parameter("domain"):
            return fill(str(self.parameter("domain")), values)
        return fill(self.prompt.rpartition("{input}")[2], values).lstrip()

    @cached_property
    def before_answer(self) -> str | None:
        """What stands between a prompt and its answer in the examples; None if none shows it."""
        head, output, _ = self.example.partition("{output}")
        closing = self.prompt.rpartition("{input}")[2]
        _, input, after = head.rpartition("{input}")
        if not (output and input and closing and after.startswith(closing)):
            return None
        return after[len(closing) :]

    def _shown(self) -> dict[str, str]:
        """The options as they stand in templates."""
        return {name: shown(value, self.task) for name, value in self.chosen.items()}

    def without(self, number: int) -> Wording:
        """The same without the first `number` examples."""
        return replace(self, shots=self.shots[number:])

    def parameter(self, name: str) -> Value:
        """A parameter of the answer rule, or the value of the option that it names."""
        return resolved(self.task.answer.parameters.get(name), self.chosen)


def worded(task: Task, chosen: Mapping[str, Value], given: Sequence[str] = ()) -> Wording:
    """The wording for these options; `given` are the user's examples, as "INPUT = OUTPUT".

    Raises UsageError for a malformed example, an output that is no label, and labels that leave no
    choice; where the model decides on the language, if it is so in every one.
    """
    asked = str(chosen.get(LANGUAGE, AUTO))
    fault = None
    for language in [asked] if asked != AUTO else [task.language, *task.languages]:
        try:
            found = _worded(task.spoken(language), chosen, given)
        except UsageError as error:
            fault = fault or error
            continue
        return replace(found, asked=(task, chosen, tuple(given)))
    assert fault is not None
    raise fault


def _worded(task: Task, asked: Mapping[str, Value], given: Sequence[str]) -> Wording:
    """The wording of a task in its language."""
    varied = [option.name for option in task.options if option.varies]
    chosen = {**asked, **{name: default(task, name) for name in varied if asked.get(name) is None}}
    variants = [v for v in task.variants if _given(chosen.get(v.when), default(task, v.when))]
    plain = Variant(when="", prompt=task.prompt, example=task.example, examples=task.examples)
    used = variants[0] if variants else plain
    columns = [fill(column, {n: shown(v) for n, v in chosen.items()}) for column in task.columns]
    shots = [(row[columns[0]], row[columns[1]]) for row in used.examples]
    own = [_split(text) for text in given]
    if task.answer.kind == "labels":
        labels = resolved(task.answer.parameters["labels"], chosen)
        assert isinstance(labels, tuple)
        check_labels(labels)
        _check_outputs(own, labels)
        shots = _balanced(shots, labels)
    return Wording(task, chosen, used.prompt, used.example, (*shots, *own))


def unlike(wording: Wording, text: str) -> str:
    """What to say of a text in another language than that of the prompt; empty if nothing.

    Only where the model's vocabulary did not decide, and the task has a prompt in that language.
    """
    if not wording.open:
        return ""
    language = language_of_letters(text[:MAX_LOOKED_AT])
    if language is None or language not in wording.task.languages:
        return ""
    return f"the text seems to be {NAMES[language]}, the prompt is not: see --language {language}"


def default(task: Task, name: str) -> Value:
    """The default of an option."""
    return next(option.default for option in task.options if option.name == name)


def _given(value: Value, default: Value) -> bool:
    """Whether an option differs from its default; the order of a list does not matter."""
    if isinstance(value, tuple) and isinstance(default, tuple):
        return set(value) != set(default)
    return value not in (None, default)


def resolved(value: Value, chosen: Mapping[str, Value]) -> Value:
    """The value itself, or for `{name}` the value of that option."""
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        return chosen[value[1:-1]]
    return value


def shown(value: Value, task: Task | None = None) -> str:
    """An option's value in a prompt, by the names and the way to list things of the task."""
    names = task.names if task else {}
    if isinstance(value, tuple):
        listing = task.listing if task else ", "
        return listing.join(names.get(text, text) for text in value)
    text = "" if value is None else str(value)
    return names.get(text, text)


def _split(text: str) -> Shot:
    given, between, wanted = text.partition(BETWEEN if BETWEEN in text else WIDE_BETWEEN)
    if not between or not given.strip() or not wanted.strip():
        raise UsageError("--example", f"{text[:60]!r} is no pair", 'Write it as "INPUT = OUTPUT".')
    return given.strip(), wanted.strip()


def _balanced(shots: list[Shot], labels: tuple[str, ...]) -> list[Shot]:
    """The examples of these labels; none unless every label has one, to favour no label."""
    fitting = [shot for shot in shots if shot[1] in labels]
    return fitting if {output for _, output in fitting} == set(labels) else []


def _check_outputs(shots: Sequence[Shot], labels: tuple[str, ...]) -> None:
    for _, output in shots:
        if output not in labels:
            raise UsageError(
                "--example", f"{output!r} is no label", f"Labels are {', '.join(labels)}."
            )
