"""Which path is meant by one that does not exist: what people and clients get wrong.

Clients put their own /v1/completions behind a base URL, so a base URL with or without /v1 gives
/v1/v1/completions or /completions; some add a slash.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

PREFIXES = ("/v1", "")
PARAMETER = re.compile(r"\{([a-z_]+)(?::path)?\}")
MAX_CHARACTERS = 200


def meant_path(path: str, known: Collection[str]) -> str | None:
    """The path that is meant; None where that is not clear."""
    if len(path) > MAX_CHARACTERS:
        return None
    plain = "/" + "/".join(filter(None, path.split("/")))
    rest = plain
    while rest.startswith("/v1/") or rest == "/v1":
        rest = rest.removeprefix("/v1")
    for prefix in PREFIXES:
        if rest and _exists(prefix + rest, known):
            return prefix + rest
    near = get_close_matches(plain, [at for at in known if "{" not in at], 1, 0.8)
    return near[0] if near else None


def listed(known: Collection[str]) -> str:
    """All paths, in words."""
    return ", ".join(sorted({PARAMETER.sub(r"{\1}", at) for at in known}))


def _exists(path: str, known: Collection[str]) -> bool:
    return any(_pattern(at).fullmatch(path) for at in known)


def _pattern(at: str) -> re.Pattern[str]:
    parts = PARAMETER.split(at)[::2]
    inner = ".+" if ":path}" in at else "[^/]+"
    return re.compile(inner.join(map(re.escape, parts)))
