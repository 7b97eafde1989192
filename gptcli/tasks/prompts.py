"""From a task, its options and an input to a prompt.

Not here: an input that does not fit the context is handled in `gptcli.tasks.plans`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gptcli.errors import UsageError
from gptcli.tasks.definition.labels import check_labels
from gptcli.tasks.definition.task import Task, Value, Variant
from gptcli.tasks.definition.templates import fill

BETWEEN = " = "  # in --example

Shot = tuple[str, str]
"""An example: (input, output)."""


@dataclass(frozen=True)
class Wording:
    """A task with its options: everything of its prompts except the input."""

    task: Task
    chosen: Mapping[str, Value]
    prompt: str  # template
    example: str  # template
    shots: tuple[Shot, ...] = ()

    def text(self, input: str, field: str = "", value: str = "") -> str:
        """The prompt for an input; `value` stands in for the option `field`."""
        values = {name: shown(value) for name, value in self.chosen.items()} | {field: value}
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
        values = {name: shown(value) for name, value in self.chosen.items()} | {"examples": ""}
        if self.parameter("domain"):
            return fill(str(self.parameter("domain")), values)
        return fill(self.prompt.rpartition("{input}")[2], values).lstrip()

    def without(self, number: int) -> Wording:
        """The same without the first `number` examples."""
        return replace(self, shots=self.shots[number:])

    def parameter(self, name: str) -> Value:
        """A parameter of the answer rule, or the value of the option that it names."""
        return resolved(self.task.answer.parameters.get(name), self.chosen)


def worded(task: Task, chosen: Mapping[str, Value], given: Sequence[str] = ()) -> Wording:
    """The wording for these options; `given` are the user's examples, as "INPUT = OUTPUT".

    Raises UsageError for a malformed example, an output that is no label, and labels that leave no
    choice.
    """
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


def shown(value: Value) -> str:
    """An option's value in a prompt."""
    if isinstance(value, tuple):
        return ", ".join(value)
    return "" if value is None else str(value)


def _split(text: str) -> Shot:
    given, between, wanted = text.partition(BETWEEN)
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
