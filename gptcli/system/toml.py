"""Parse TOML in a time that is bounded by its size.

tomllib takes a key of many parts, `a.a.a`, in a time that is quadratic in their number: minutes for
100 kB. No file of ours has such keys.
"""

from __future__ import annotations

from typing import Any

MAX_PERIODS = 1000  # of one line


def loads(text: str) -> dict[str, Any]:
    """The values of a text. Raises ValueError, with the rule; RecursionError."""
    import tomllib

    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MAX_PERIODS:
            raise ValueError(f"more than {MAX_PERIODS} periods in line {number}")
    return tomllib.loads(text)
