"""How an option is declared: a dataclass field with flags, help and range.

A group of options is a frozen dataclass that derives from `Options`. Its constructor checks every
range. Not here: the options are in `gptcli.options`, and how they become flags is in
`gptcli.cli.flags`.
"""

from __future__ import annotations

import math
import os
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import wraps
from numbers import Integral, Real
from typing import (
    Any,
    ClassVar,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from gptcli.errors import UsageError, told_in_python

OptionsT = TypeVar("OptionsT", bound="Options")
MAX_ID_DIGITS = 9  # of a token's id
MAX_LOGIT_BIAS = 100  # OpenAI's limit; larger values change no choice


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Declaration of one option for the command line."""

    flags: tuple[str, ...]  # in Click's notation: "-t", "--temperature", "--echo/--no-echo"
    help: str
    low: float | None = None
    high: float | None = None
    above: float | None = None  # like low, but excluded
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None  # converts each text of the flag
    check: Callable[[Any], object] | None = None  # raises UsageError for a bad value
    instead: str | None = None  # for a flag that repeats an option: how to set it in config.toml
    panel: str | None = None  # heading in --help; by default that of the group
    names: str | None = None  # what a value names, for completion: "model", "file"
    shown_default: str | None = None  # default in words, if no value says it
    rare: bool = False  # shown only by --help-all
    digits: bool = False  # a text that config.toml may give as a number, without quotes
    needs: str | None = None  # the options without all of which this one has no meaning
    redeclares: str | None = None  # why the flag of another group is declared again

    @property
    def needed(self) -> tuple[str, ...]:
        """The options of which one gives this one its meaning; none where it has its own."""
        return tuple((self.needs or "").split())

    @property
    def range(self) -> str:
        """The allowed range in words, or an empty text."""
        low, high = _shown(self.low), _shown(self.high)
        if self.above is not None:
            return f"above {_shown(self.above)}" + (f" and at most {high}" if high else "")
        if low and high:
            return f"from {low} to {high}"
        return f"{low} or more" if low else f"at most {high}" if high else ""

    def allows(self, value: float) -> bool:
        """Whether a number is in the range; NaN and infinities never are."""
        return (
            (isinstance(value, int) or math.isfinite(value))  # isfinite fails on large integers
            and (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
        )


def _shown(bound: float | None) -> str:
    return "" if bound is None else str(bound) if isinstance(bound, int) else f"{bound:g}"


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
    return longs_of(item)[0]


def longs_of(item: Field[Any]) -> tuple[str, ...]:
    """All long names of the option: `--echo` and `--no-echo`, `--temperature` and `--temp`."""
    flags = "/".join(spec_of(item).flags).split("/")
    return tuple(flag for flag in flags if flag.startswith("--"))


def key_of(field_name: str) -> str:
    """An option's name in configuration and environment: `from` for a field `from_`."""
    return field_name.removesuffix("_")


def environment_name(field_name: str) -> str:
    """The environment variable of an option: `GPTCLI_TOP_P` for `top_p`."""
    return f"GPTCLI_{key_of(field_name).upper()}"


def mismatch(value: object, hint: Any) -> str:
    """What is wrong with the type of a value, in words; empty if it fits `hint`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return ""
        return mismatch(value, next(kind for kind in inner if kind is not types.NoneType))
    if origin is Literal:
        return "" if value in inner else f"{value!r} is not one of {', '.join(inner)}"
    if origin is tuple:
        kind = get_origin(inner[0]) or inner[0]
        fits = isinstance(value, tuple) and all(_is_item(item, inner[0]) for item in value)
        return "" if fits else f"{value!r} is not a tuple of {kind.__name__}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    allowed = (int, float) if hint is float else hint
    fits = isinstance(value, allowed) and (hint is bool or not isinstance(value, bool))
    return "" if fits else f"{value!r} is not {names[hint]}"


def _is_item(item: object, hint: Any) -> bool:
    """Whether an item of many fits: a text, a number, or a pair such as (token, bias)."""
    kinds = get_args(hint)
    if not kinds:
        return isinstance(item, hint) and not isinstance(item, bool)
    return (
        isinstance(item, tuple) and len(item) == len(kinds) and not any(map(mismatch, item, kinds))
    )


def plain(value: Any, hint: Any) -> Any:
    """A value as a field of type `hint` keeps it, where Python has other types for the same.

    Numbers of numpy become Python's, a path a text, a text or a list of texts a tuple, a mapping a
    tuple of pairs. What has no such form is given back unchanged.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in inner if kind is not types.NoneType]
        return plain(value, kinds[0]) if len(kinds) == 1 else value
    if origin is tuple:
        return _as_tuple(value, inner[0])
    if hint is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if hint is bool and type(value).__module__ == "numpy" and isinstance(value.item(), bool):
        return bool(value)
    if hint in (int, float) and not isinstance(value, int | float):
        if isinstance(value, Integral):
            return int(value)
        return float(value) if hint is float and isinstance(value, Real) else value
    return value


def _as_tuple(value: Any, kind: Any) -> Any:
    """A tuple for a field of many: of texts, of ids, or of pairs such as (token, bias)."""
    if kind is str:
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value
    if kind is int:
        many = [value] if _whole(value) else value
        listed = isinstance(many, Iterable) and not isinstance(many, str | bytes | Mapping)
        return tuple(plain(item, int) for item in many) if listed else value
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        return value
    return tuple(
        (str(name) if isinstance(name, Integral) else name, plain(number, float))
        for name, number in pairs
    )


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(group: type) -> dict[str, Any]:
    if group not in _HINTS:
        _HINTS[group] = get_type_hints(group)
    return _HINTS[group]


def _told_in_python(check: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(check)
    def told(self: Any) -> None:
        with told_in_python():
            check(self)

    return told


class Options:
    """A group of options: checks type and range of every value when constructed.

    What it raises names fields (`top_p`), because a program constructs it; the command line asks
    for the flags by `GptcliError.in_flags`.
    """

    panel: ClassVar[str]  # where `--help` lists the group
    all_shown: ClassVar[bool] = False  # whether `--help` shows those that are rare elsewhere, too

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "__post_init__" in cls.__dict__:
            cls.__post_init__ = _told_in_python(cls.__post_init__)  # type: ignore[method-assign]

    @_told_in_python
    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            given, spec, hint = getattr(self, item.name), spec_of(item), _hints(type(self))
            value = plain(given, hint[item.name])
            if value is not given:
                object.__setattr__(self, item.name, value)
            wrong = mismatch(value, hint[item.name])
            if wrong:
                raise UsageError(flag_of(item), wrong, "See its type in gptcli.options.")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and not spec.allows(value):
                expected = spec.range or "a finite number"
                raise UsageError(flag_of(item), f"{value} is out of range", f"Give {expected}.")
            if spec.check is not None and value is not None:
                spec.check(value)


def changed(options: Options) -> dict[str, Any]:
    """The values that differ from their defaults, by field, for JSON: tuples become lists."""
    return {
        item.name: _as_lists(getattr(options, item.name))
        for item in fields(options)  # type: ignore[arg-type]
        if getattr(options, item.name) != item.default
    }


def rebuilt(kind: type[OptionsT], values: Mapping[str, Any]) -> OptionsT:
    """The options whose `changed` values these are. Raises UsageError for any others."""
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise UsageError(name[:60], "there is no such option", "Was a newer gptcli used?")
    return kind(**{name: _as_tuples(value) for name, value in values.items()})


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


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


def parse_id(text: str | int) -> int:
    """A token's id. Raises UsageError for what is none of any model."""
    digits = str(text).strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_ID_DIGITS):
        hint = "gptcli inspect tokens TEXT shows the ids of a text."
        raise UsageError("--stop-token-id", f"{digits[:20]!r} is no token id", hint)
    return int(digits)


def parse_bias(text: str) -> tuple[str, float]:
    """Split `TOKEN=VALUE`: TOKEN is an id (`50256`) or a text that is one token (` the`).

    Raises UsageError for a value that is missing or outside -100 to 100 (OpenAI's range).
    """
    token, equals, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or not token or not abs(number) <= MAX_LOGIT_BIAS:
        raise UsageError(
            "--logit-bias", f"{text!r} is not TOKEN=VALUE", "Give a VALUE from -100 to 100."
        )
    return token, number
