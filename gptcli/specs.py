"""How an option is declared: a dataclass field that knows its flags, help and range.

A group of options is a frozen dataclass deriving from `Options`; constructing one checks every
range. Which options there are stands in `gptcli.options`; how they become flags stands in
`gptcli.cli.flags`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, cast

from gptcli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a command line needs to know of one option."""

    flags: tuple[str, ...]  # as Click takes them: "-t", "--temperature", "--echo/--no-echo"
    help: str
    low: float | None = None
    high: float | None = None
    above: float | None = None  # like low, but excluded
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None  # applied to each text that a flag was given
    panel: str | None = None  # where --help lists it; by default the group's own panel

    @property
    def range(self) -> str:
        """The allowed range in words, empty when there is none."""
        high = "" if self.high is None else f"at most {self.high:g}"
        if self.above is not None:
            return " and ".join(filter(None, (f"above {self.above:g}", high)))
        if self.low is None or self.high is None:
            return high if self.low is None else f"{self.low:g} or more"
        return f"from {self.low:g} to {self.high:g}"

    def allows(self, value: float) -> bool:
        """Whether a number lies in the range; NaN and infinities never do."""
        return (
            math.isfinite(value)
            and (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
        )


def option(default: Any, flags: str, help: str, **limits: Any) -> Any:
    """A dataclass field that is also a command-line option; see `Spec` for `limits`."""
    return field(
        default=default, metadata={"spec": Spec(flags=tuple(flags.split()), help=help, **limits)}
    )


def spec_of(item: Field[Any]) -> Spec:
    """The `Spec` of a field made by `option()`."""
    return cast(Spec, item.metadata["spec"])


def flag_of(item: Field[Any]) -> str:
    """The option's long name, as an error message quotes it: `--top-p`."""
    longs = [flag for flag in spec_of(item).flags if flag.startswith("--")]
    return longs[0].split("/")[0]


class Options:
    """A group of options: checks the range of every number when constructed."""

    panel: ClassVar[str]  # where `--help` lists the group

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value, spec = getattr(self, item.name), spec_of(item)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and not spec.allows(value):
                expected = spec.range or "a finite number"
                raise UsageError(flag_of(item), f"{value} is out of range", f"Give {expected}.")


def unescape(text: str) -> str:
    r"""Turn the escapes \n \t \r \0 \\ of a flag's text into the characters they name."""
    named = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}
    out, rest = [], iter(text)
    for char in rest:
        if char != "\\":
            out.append(char)
            continue
        after = next(rest, "")
        out.append(named.get(after, "\\" + after))
    return "".join(out)


def parse_bias(text: str) -> tuple[str, float]:
    """Split `TOKEN=VALUE`: TOKEN is an id (`50256`) or a text that is one token (` the`).

    Raises UsageError for a value that is missing or outside -100 to 100 (OpenAI's range).
    """
    token, equals, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or not token or not -100 <= number <= 100:
        raise UsageError(
            "--logit-bias", f"{text!r} is not TOKEN=VALUE", "Give a VALUE from -100 to 100."
        )
    return token, number
