"""`--recipe`: options of `gptcli train` from a file, one of ours or the user's.

The file is TOML as config.toml, without tables. Its values are defaults of this command: flags,
variables and the command's table in config.toml win.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gptcli
from gptcli.config.checks import check, taker
from gptcli.config.reading import read
from gptcli.errors import BadConfig, MissingInput, UsageError
from gptcli.options.registry import options_of
from gptcli.options.spec import Options

FOLDER = Path(gptcli.__file__).parent / "bundled"


def names() -> list[str]:
    """The recipes that come with gptcli."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def presets(given: Mapping[str, Any], groups: Iterable[type[Options]]) -> dict[str, Any]:
    """The values of the recipe that is named, by field.

    Raises MissingInput where there is none of that name, BadConfig for a value that is wrong.
    """
    name = given.get("recipe") or os.environ.get("GPTCLI_RECIPE")
    if not name:
        return {}
    path = FOLDER / f"{name}.toml" if name in names() else Path(name)
    if not path.is_file():
        hint = f"Name a file, or one of: {', '.join(names())}."
        raise MissingInput(f"recipe {name}", "there is none of that name", hint)
    known, found = options_of(groups), {}
    for key, value in read(path).items():
        try:
            check((), key, value, known)
        except UsageError as error:
            raise BadConfig(f"{path}: {key}", error.why, error.hint) from None
        option = taker((), key, value, known[key])
        assert option is not None
        found[option.item.name] = value
    return found
