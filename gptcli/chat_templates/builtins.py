"""What a template may use: filters, tests, functions, and methods of texts, lists, dictionaries.

It is a list of what is allowed: what published chat templates use and little more. Most are Jinja's
or Python's own, paid for by the size of what goes in and comes out; where the result can be much
larger than the arguments (replace, join, indent), or the work can (strip), the size is checked
first. Not allowed on purpose: format in all its forms, padding, random, word wrapping.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.filters import FILTERS
from jinja2.tests import TESTS
from jinja2.utils import Namespace

from gptcli.chat_templates.budget import MAX_STRIPPED_CHARACTERS, Budget, Runaway

Now = Callable[[], Budget]  # the budget of the rendering under way
DATE = re.compile(r"(?:%-?[A-Za-z%]|[^%]){0,100}")
MAX_INDENT = 1000


def words(text: str) -> frozenset[str]:
    """The words of a list of names."""
    return frozenset(text.split())


_FILTERS = words(
    "abs capitalize count d default dictsort first float int items last length list lower map max"
    " min reject rejectattr reverse select selectattr sort string title unique upper"
)


class Clock:
    """The time at which it is made: a template that names it must give the same text each turn."""

    def __init__(self) -> None:
        self._now = datetime.now()

    def strftime_now(self, format: str) -> str:
        """The time by a format of `strftime`, of letters without widths."""
        if not isinstance(format, str) or not DATE.fullmatch(format):
            raise TemplateError(f"strftime_now({str(format)[:40]!r}) is not a format of a date")
        return self._now.strftime(format)


def functions(now: Now, clock: Clock) -> dict[str, Any]:
    """The functions a template can call, by name."""

    def limited_range(*bounds: int) -> range:
        numbers = range(*bounds)
        try:
            now().fits(len(numbers))
        except OverflowError:
            raise Runaway("it counts too far") from None
        return numbers

    def raise_exception(message: object) -> None:
        raise TemplateError(str(message))

    return {
        "range": limited_range,
        "namespace": Namespace,
        "dict": dict,
        "raise_exception": raise_exception,
        "strftime_now": clock.strftime_now,
    }


def filters(now: Now) -> dict[str, Any]:
    """The filters, by name; each pays for its arguments and its result."""

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return now().as_json(
            value, indent, sort_keys, ensure_ascii=ensure_ascii, separators=separators
        )

    own: dict[str, Any] = {
        "join": lambda value, d="": _join(now(), str(d), value),
        "replace": lambda s, old, new, count=None: _replace(now(), str(s), old, new, count),
        "indent": functools.partial(_indent, now),
        "trim": lambda value, chars=None: _strip(str.strip)(now(), str(value), chars),
        "tojson": tojson,
        "safe": str,
    }
    known: dict[str, Any] = {name: FILTERS[name] for name in _FILTERS} | own
    return {name: _paying(known[name], now) for name in known}


def tests(now: Now) -> dict[str, Any]:
    """Jinja's tests, each paying for what it looks at."""
    known: dict[str, Any] = dict(TESTS)
    return {name: _paying(known[name], now) for name in known}


def _paying(function: Callable[..., Any], now: Now) -> Callable[..., Any]:
    """`function`, paying for arguments and result; a lazy result is computed at once."""
    passed = 1 if hasattr(function, "jinja_pass_arg") else 0  # Jinja's own first argument

    # A filter has any arguments, by place or by name.
    def paying(*args: Any, **kwargs: Any) -> Any:
        now().worth([*args[passed:], *kwargs.values()])
        result = function(*args, **kwargs)
        if isinstance(result, Iterator):
            result = list(_counted(result, now()))
        return now().worth(result)

    if passed:
        paying.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]
    return paying


def _counted(items: Iterator[Any], budget: Budget) -> Iterator[Any]:
    for count, item in enumerate(items, 1):
        budget.fits(count)
        budget.pay(1)
        yield item


def _join(budget: Budget, between: str, value: Any) -> str:
    texts = [str(item) for item in value]
    budget.fits(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


def _replace(budget: Budget, text: str, old: Any, new: Any, count: Any = None) -> str:
    old, new = str(old), str(new)
    most = text.count(old) if count is None or count < 0 else min(count, text.count(old))
    budget.fits(len(text) + most * len(new))
    return text.replace(old, new, most)


def _indent(
    now: Now, s: Any, width: int | str = 4, first: bool = False, blank: bool = False
) -> str:
    """As Jinja's: `width` blanks before each line but the first, and but empty ones."""
    if isinstance(width, int) and width > MAX_INDENT:
        raise Runaway("it indents too deeply")
    margin = width if isinstance(width, str) else " " * width
    lines = str(s).splitlines(keepends=True)
    now().fits(len(str(s)) + len(margin) * (len(lines) + 1))
    return "".join(
        margin + line if (place or first) and (blank or line.strip()) else line
        for place, line in enumerate(lines)
    )


def _strip(method: Callable[..., str]) -> Callable[..., str]:
    def strip(budget: Budget, text: str, characters: Any = None) -> str:
        if characters is not None and len(str(characters)) > MAX_STRIPPED_CHARACTERS:
            raise Runaway("it strips too many different characters")
        return method(text, None if characters is None else str(characters))

    return strip


_AS_IT_IS = None  # Python's own method does: its work and its result are within its arguments'
_TEXT = words(
    "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit"
    " islower isnumeric isspace istitle isupper lower partition removeprefix removesuffix rfind"
    " rindex rpartition rsplit split splitlines startswith swapcase title upper"
)
METHODS: Mapping[type, Mapping[str, Callable[..., Any] | None]] = {
    str: {
        **dict.fromkeys(_TEXT, _AS_IT_IS),
        "strip": _strip(str.strip),
        "lstrip": _strip(str.lstrip),
        "rstrip": _strip(str.rstrip),
        "replace": _replace,
        "join": _join,
    },
    list: dict.fromkeys(("index", "count"), _AS_IT_IS),
    tuple: dict.fromkeys(("index", "count"), _AS_IT_IS),
    dict: dict.fromkeys(("get", "items", "keys", "values"), _AS_IT_IS),
}
