"""Where in a TOML text a key stands: what an error names, and what `--origin` shows.

tomllib and tomlkit tell no positions, and a second parser of ours could disagree with them. So the
text is parsed again and again, each time by one line more, until the key is there: a configuration
has a few dozen lines, and this runs only when something is to be said of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAX_LINES = 400  # lines; of a longer text no positions are told, which would take seconds
MAX_PARSED = 4 << 20  # characters in all; positions behind them are not told


def line_of(text: str, keys: Sequence[str]) -> int | None:
    """The line, from 1, on which the key at this path is given; None where that is unknown."""
    return lines_of(text, [tuple(keys)])[tuple(keys)]


def lines_of(text: str, paths: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], int | None]:
    """`line_of` for several keys at once."""
    import tomllib

    found: dict[tuple[str, ...], int | None] = dict.fromkeys(paths)
    lines = text.splitlines(keepends=True)
    if len(lines) > MAX_LINES:
        return found
    start = 0  # lines before the statement that is being read
    parsed = 0  # characters
    for end in range(1, len(lines) + 1):
        begun = "".join(lines[:end])
        parsed += len(begun)
        if parsed > MAX_PARSED:
            return found
        try:
            values = tomllib.loads(begun)
        except (ValueError, RecursionError):
            continue  # within a value of several lines
        for path in paths:
            if found[path] is None and _holds(values, path):
                found[path] = start + 1
        start = end
    return found


def _holds(values: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Whether there is a value at the path."""
    here: Any = values
    for key in path:
        if not isinstance(here, dict) or key not in here:
            return False
        here = here[key]
    return True
