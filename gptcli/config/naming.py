"""What the user's own environment and configuration name, for any command.

To know whether a server or a model that a stranger's file names is the user's as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from gptcli.config.reading import ALIAS_TABLE, find, read
from gptcli.options.spec import environment_name


def values_of(field: str, named: str | None) -> frozenset[str]:
    """The texts that the environment and config.toml give to an option, in whichever table.

    To `model` belong what aliases stand for. `named` is the file of --config. Raises MissingInput
    and BadConfig.
    """
    found = {os.environ.get(environment_name(field), "")}
    path = find(named)
    if path is not None:
        everything = read(path)
        found |= set(_texts(field, everything))
        aliases = everything.get(ALIAS_TABLE)
        if field == "model" and isinstance(aliases, dict):
            found |= {name for name in aliases.values() if isinstance(name, str)}
    return frozenset(found - {""})


def _texts(field: str, table: Mapping[str, object]) -> Iterator[str]:
    """Of a table and those inside it."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _texts(field, value)
        elif key == field and isinstance(value, str):
            yield value
