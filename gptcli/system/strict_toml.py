"""Read a user's TOML, within bounds.

`tomllib` takes a time that grows with the square of a dotted key's parts, and integers of any
length in hexadecimal, which Python then refuses to print. So both are refused here, as is nesting
that no file of ours has, and whoever uses a value can print it.
"""

from __future__ import annotations

import re
from typing import Any

from gptcli.system.strict_json import too_deep

MAX_KEY_PARTS = 32
MAX_DEPTH = 32
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_DOT = r"[ \t]*+\.[ \t]*+"
_LONG_KEY = re.compile(  # in a text of several lines there may be as many dots, but no = behind
    rf"(?:^|[\[{{,])[ \t]*+{_PART}(?:"
    rf"(?:{_DOT}{_PART}){{1000}}|(?:{_DOT}{_PART}){{{MAX_KEY_PARTS},}}+[ \t]*+[=\]])",
    re.MULTILINE,
)
MAX_BITS = 13_000  # of a whole number: Python prints at most 4300 digits


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises ValueError: tomllib's, which tells the line, or a rule."""
    import tomllib

    if _LONG_KEY.search(text):
        raise ValueError(f"a key of more than {MAX_KEY_PARTS} parts")
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:  # Python's own limit of an integer
        raise _too_long(text) from None
    if too_deep(found, MAX_DEPTH):
        raise ValueError("nested too deeply")
    if _holds_large_number(found):
        raise _too_long(text)
    return found


def _too_long(text: str) -> ValueError:
    """The error of a long number, with its line where it stands on one, as tomllib tells it."""
    import tomllib

    where = ""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            long = _holds_large_number(tomllib.loads(line))
        except (tomllib.TOMLDecodeError, RecursionError):
            continue
        except ValueError:
            long = True
        if long:
            where = f" (at line {number})"
            break
    return ValueError(f"a whole number that is too long{where}")


def _holds_large_number(table: dict[str, Any]) -> bool:
    rest: list[Any] = [table]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest.extend(value.values())
        elif isinstance(value, list):
            rest.extend(value)
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            return True
    return False
