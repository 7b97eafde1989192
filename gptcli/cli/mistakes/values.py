"""Values of a wrong kind, and arguments that are missing."""

from __future__ import annotations

from typing import Any

from gptcli.cli.help_page import MAX_SHOWN_BOUND
from gptcli.cli.mistakes.words import CHOICES, NUMBERS, help_of, near, short
from gptcli.errors import UsageError
from gptcli.options.spec import Spec


def bad_value(error: Exception, param: Any, context: Any, message: str) -> UsageError:
    """A value of a wrong kind, or an argument that is missing."""
    name, see = named(param), help_of(context)
    if type(error).__name__ == "MissingParameter":
        return UsageError(name, "it is missing", see)
    kind = getattr(param.type, "name", "")
    choices = [str(choice) for choice in getattr(param.type, "choices", None) or ()]
    given = message.partition("'")[2].partition("'")[0]
    if choices:
        known = CHOICES.get(given)
        meant = known if known in choices else near(given, choices)
        return UsageError(name, message, f"Did you mean {meant}?" if meant else see)
    if kind in NUMBERS:
        spec = getattr(context.command, "specs", {}).get(param.name) if context else None
        hint = f"Give {_range(spec)}." if spec is not None and spec.range else see
        return UsageError(name, f"{short(given)!r} is not {NUMBERS[kind]}", hint)
    return UsageError(name, message or "it is missing", see)


def _range(spec: Spec) -> str:
    """A range without a bound that is of no use to a reader."""
    bounded = spec.high is None or spec.high < MAX_SHOWN_BOUND
    return spec.range if bounded or spec.low is None else f"{spec.low} or more"


def named(param: object) -> str:
    """The name by which the user knows a parameter: an option's long form."""
    from gptcli.cli.flags import known_as

    names = [name for name in getattr(param, "opts", []) if name.startswith("--")]
    return known_as(names[0]) if names else str(getattr(param, "name", "argument")).upper()
