"""A task's own options and the parameters of its answer, as its file declares them.

Both are values of a declared kind and range, so one rule checks an option's default, a parameter
written out, and what an option that a parameter refers to may be set to. Not here: the rest of the
file is in `gptcli.tasks.definition.schema`, options as flags are in
`gptcli.tasks.definition.options`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import cast, get_args

from gptcli.errors import UsageError
from gptcli.options.registry import taken
from gptcli.tasks.definition.labels import COMMA, check_labels
from gptcli.tasks.definition.tables import TomlTable, is_line, near
from gptcli.tasks.definition.task import AnswerKind, AnswerRule, OptionKind, TaskOption, Value

# No underscore at the end: `from_` is how the field of an option `from` is called.
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAX_NAME_CHARS = 40
ANOTHER = "Choose another name for the option."
MAX_NUMBER = 2**63  # TOML's integers end here, but Python reads longer ones
REFERENCE = re.compile(r"\{(.*)\}", re.DOTALL)
STRATEGIES = ("each", "reduce", "window", "truncate", "whole")
_OPTION_KEYS = ("type", "help", "default", "choices", "low", "high", "differs_from")
_NUMBERS = ("integer", "number")
_TYPES: dict[OptionKind, tuple[type, ...]] = {
    "text": (str,),
    "file": (str,),
    "choice": (str,),
    "integer": (int,),
    "number": (int, float),
    "flag": (bool,),
    "list": (tuple,),
}
_WORDS: dict[OptionKind, str] = {
    "text": "a text",
    "file": "a text",
    "choice": "a text",
    "integer": "a whole number",
    "number": "a number",
    "flag": "true or false",
    "list": "a list of texts",
}
# Which options a parameter of each kind may refer to.
_FITTING: dict[OptionKind, tuple[OptionKind, ...]] = {
    "text": ("text", "file", "choice"),
    "choice": ("choice",),
    "integer": ("integer",),
    "number": ("number", "integer"),
    "list": ("list",),
}


def _parameter(
    name: str,
    kind: OptionKind,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> TaskOption:
    return TaskOption(name=name, kind=kind, help="", low=low, high=high, choices=choices)


STRATEGY = _parameter("strategy", "choice", choices=STRATEGIES)
_ABSTAIN = (  # below a mean log-probability
    _parameter("abstain_below", "number", high=0),
    _parameter("abstain", "text"),
)
_PARAMETERS: dict[AnswerKind, tuple[TaskOption, ...]] = {
    "text": _ABSTAIN,
    "line": _ABSTAIN,
    "sentences": (
        _parameter("sentences", "integer", 1),
        _parameter("ratio", "number", 0, 1),
        *_ABSTAIN,
    ),
    "code": (
        _parameter("until", "choice", choices=("dedent", "blank", "fence", "none")),
        *_ABSTAIN,
    ),
    "labels": (
        _parameter("labels", "list"),
        _parameter("calibration", "choice", choices=("none", "contextual", "pmi")),
        _parameter("domain", "text"),
        _parameter("content_free", "list"),
        _parameter("abstain_below", "number", 0, 1),  # a probability
        _parameter("abstain", "text"),
    ),
    "spans": (_parameter("types", "list"),),
}
_NEEDED: dict[AnswerKind, str] = {"sentences": "sentences", "labels": "labels", "spans": "types"}


def read_options(table: TomlTable) -> dict[str, TaskOption]:
    """The options of `[options]`, by name. Raises BadTask."""
    found = {name: _option(table, name) for name in table.values}
    for name, option in found.items():
        own = table.table(name)
        if name.startswith("no_") and _kind(found, name[3:]) == "flag":
            raise table.error(name, f"--no-{name[3:]} is a flag of {name[3:]} already")
        other = option.differs_from
        if other is not None and (other == name or other not in found):
            raise own.error("differs_from", f"{other!r} is no other option", near(other, found))
        if other and option.default is not None and option.default == found[other].default:
            raise own.error("default", f"it does not differ from the default of {other}")
    return found


def read_answer(table: TomlTable, options: Mapping[str, TaskOption]) -> AnswerRule:
    """How the answer is read, from `[answer]`. Raises BadTask."""
    kind = cast(AnswerKind, table.word("kind", get_args(AnswerKind), "text"))
    table.expect(("kind", *(rule.name for rule in _PARAMETERS[kind])))
    needed = _NEEDED.get(kind)
    if needed is not None and needed not in table:
        raise table.error(needed, f"it is missing: the kind {kind} needs it")
    return AnswerRule(kind=kind, parameters=_given(table, kind, options))


def read_parameters(
    table: TomlTable, rule: AnswerRule, options: Mapping[str, TaskOption]
) -> dict[str, Value]:
    """Other values of an answer's parameters, in another language. Raises BadTask."""
    table.expect([name.name for name in _PARAMETERS[rule.kind]])
    return _given(table, rule.kind, options)


def _given(
    table: TomlTable, kind: AnswerKind, options: Mapping[str, TaskOption]
) -> dict[str, Value]:
    """The parameters of a kind of answer that stand in the table."""
    rules = [rule for rule in _PARAMETERS[kind] if rule.name in table]
    return {rule.name: read_parameter(table, rule, options) for rule in rules}


def read_defaults(table: TomlTable, options: Mapping[str, TaskOption]) -> dict[str, Value]:
    """Other defaults of options, in another language. Raises BadTask."""
    table.expect(options)
    return {name: _default(table, options[name], name) for name in table.values}


def read_parameter(table: TomlTable, rule: TaskOption, options: Mapping[str, TaskOption]) -> Value:
    """A value that fits `rule`, or a reference `{name}` to an option that does. Raises BadTask."""
    value = _plain(table.values[rule.name])
    reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if reference is None:
        wrong = _unfit(rule, value)
        if wrong:
            raise table.error(rule.name, wrong)
        return cast(Value, value)
    name = reference.group(1)
    if name not in options:
        raise table.error(rule.name, f"{name!r} is no option of the task", near(name, options))
    option = options[name]
    if option.kind not in _FITTING[rule.kind]:
        known = " or ".join(_FITTING[rule.kind])
        raise table.error(rule.name, f"the option {name} is of type {option.kind}, not {known}")
    for possible in possible_values(option):
        wrong = _unfit(rule, possible)
        if wrong:
            raise table.error(rule.name, f"by the option {name}, {wrong}")
    return cast(Value, value)


def possible_values(option: TaskOption) -> tuple[Value, ...]:
    """What is known of the values of an option: its choices, or its default."""
    if option.kind == "choice":
        return option.choices
    return () if option.default is None else (option.default,)


def _kind(options: Mapping[str, TaskOption], name: str) -> OptionKind | None:
    return options[name].kind if name in options else None


def _option(parent: TomlTable, name: str) -> TaskOption:
    _check_name(parent, name)
    table = parent.table(name)
    table.expect(_OPTION_KEYS)
    kind = cast(OptionKind, table.word("type", get_args(OptionKind)))
    if kind == "flag" and f"no_{name}" in taken():
        raise table.error(name, f"its flag --no-{name.replace('_', '-')} is taken", ANOTHER)
    option = TaskOption(
        name=name,
        kind=kind,
        help=table.line("help"),
        choices=_choices(table, kind),
        low=_bound(table, "low", kind),
        high=_bound(table, "high", kind),
        differs_from=table.line("differs_from") if "differs_from" in table else None,
    )
    if option.low is not None and option.high is not None and option.low > option.high:
        raise table.error("low", f"{option.low:g} is more than high, {option.high:g}")
    return replace(option, default=_default(table, option))


def _check_name(table: TomlTable, name: str) -> None:
    if not NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS:
        rule = "an option's name is small letters, digits and single underscores"
        raise table.error(name, rule, f"At most {MAX_NAME_CHARS} characters, a letter first.")
    if name in taken():
        raise table.error(name, "the name is taken", ANOTHER)


def _choices(table: TomlTable, kind: OptionKind) -> tuple[str, ...]:
    if kind != "choice":
        if "choices" in table:
            raise table.error("choices", f"an option of type {kind} has none")
        return ()
    found = table.texts("choices")
    if not found or not all(is_line(choice) and choice == choice.strip() for choice in found):
        raise table.error("choices", "choices are words of one line, at least one")
    if len(set(found)) < len(found):
        raise table.error("choices", "a choice stands twice")
    return found


def _bound(table: TomlTable, key: str, kind: OptionKind) -> float | None:
    if key not in table:
        return None
    value = table.values[key]
    if kind not in _NUMBERS:
        raise table.error(key, f"an option of type {kind} has no range")
    wrong = _wrong(_parameter(key, kind), value)
    if wrong:
        raise table.error(key, wrong)
    return cast(float, value)


def _default(table: TomlTable, option: TaskOption, key: str = "default") -> Value:
    if key not in table:
        return False if option.kind == "flag" else None
    value = _plain(table.values[key])
    wrong = _wrong(option, value)
    if not wrong and isinstance(value, tuple):
        parts = COMMA.split(",".join(value))  # as the flag's text is split
        if parts != list(value) or not all(part == part.strip() != "" for part in parts):
            wrong = "a text of the list is empty, holds a comma, or begins or ends in a space"
    if wrong:
        raise table.error(key, wrong)
    return float(cast(float, value)) if option.kind == "number" else cast(Value, value)


def _plain(value: object) -> object:
    """A TOML value as options hold it: a list is a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _wrong(rule: TaskOption, value: object) -> str:
    """What is wrong with a value for this option or parameter, in words; empty if nothing is."""
    if not isinstance(value, _TYPES[rule.kind]) or (
        isinstance(value, bool) and rule.kind != "flag"
    ):
        return f"it is not {_WORDS[rule.kind]}"
    if isinstance(value, tuple):
        return _wrong_list(value)
    if rule.kind in _NUMBERS:
        return _wrong_number(rule, cast(float, value))
    if rule.kind == "choice" and value not in rule.choices:
        return f"{str(value)[:40]!r} is not one of {', '.join(rule.choices)}"
    return ""


def _unfit(rule: TaskOption, value: object) -> str:
    """What is wrong with a value for this parameter; as `_wrong`, and what its name implies."""
    wrong = _wrong(rule, value)
    if wrong or not isinstance(value, tuple):
        return wrong
    if rule.name == "labels":
        try:
            check_labels(value)
        except UsageError as error:
            return error.why
    if "" in value and rule.name != "content_free":  # where it is the input that says nothing
        return "a text of the list is empty"
    return ""


def _wrong_number(rule: TaskOption, value: float) -> str:
    if not abs(value) <= MAX_NUMBER:  # NaN neither
        return "it is not a number of at most 64 bits"
    if rule.low is not None and value < rule.low:
        return f"{value} is out of range: at least {rule.low:g}"
    if rule.high is not None and value > rule.high:
        return f"{value} is out of range: at most {rule.high:g}"
    return ""


def _wrong_list(value: tuple[object, ...]) -> str:
    if not all(isinstance(item, str) for item in value):
        return "it is not a list of texts"
    if not value:
        return "the list is empty"
    return "a text of the list stands twice" if len(set(value)) < len(value) else ""
