"""Defaults of a command from config.toml and environment variables.

One rule for both: a command takes the values that its own options allow. It skips a value that only
another command allows. A value that no command allows is an error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gptcli import config
from gptcli.cli import option_groups
from gptcli.cli.declaration import Declaration
from gptcli.cli.registry import table_names
from gptcli.config.checks import taker
from gptcli.config.keys import of_variable
from gptcli.options.registry import Declared, options_of
from gptcli.options.spec import environment_name


def scope_of(
    declared: Declaration,
    name: str,
    model: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> config.Scope:
    """How the file is read for a command; `given` are the flags as they were given."""
    table = declared.table or name
    return config.Scope(
        command=table,
        groups=tuple(declared.groups.values()),
        tables=table_names,
        presets=declared.presets(given or {}),
        model=model,
        others=option_groups.every,
        family=lambda: option_groups.groups_of(table),
    )


def foreign_variables(declared: Declaration) -> set[str]:
    """The fields whose variable holds a value that only other commands take."""
    unfit = {
        name: option.item.name
        for name, [option] in options_of(declared.groups.values()).items()
        if not option.spec.instead and not _takes(name, option)
    }
    return _taken_elsewhere(unfit) if unfit else set()


def _taken_elsewhere(unfit: Mapping[str, str]) -> set[str]:
    """Those of the fields, by option, whose variable another command takes."""
    found = set()
    for group in option_groups.every():
        for name, [option] in options_of([group]).items():
            if name in unfit and _takes(name, option):
                found.add(unfit[name])
        if len(found) == len(unfit):
            break
    return found


def _takes(name: str, option: Declared) -> bool:
    """Whether an option takes its variable's text, if that is set."""
    text = os.environ.get(environment_name(name))
    return not text or taker((), name, of_variable(text, option.hint), [option]) is not None
