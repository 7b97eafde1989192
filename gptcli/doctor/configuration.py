"""config.toml, the environment's GPTCLI_ variables and the user's own tasks, all of each looked at.

Which options there are, the command line knows: it passes them in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from gptcli.config import reading, settings
from gptcli.config.keys import Known, Tables, of_variable
from gptcli.doctor.findings import Finding, Findings
from gptcli.errors import GptcliError, UsageError
from gptcli.specs import spec_of
from gptcli.tasks import catalog

PREFIX = "GPTCLI_"
OTHERS = {"API_KEY", "CONFIG", "DEBUG", "PROFILE_STARTUP", "COMPLETE"}  # no options


def configuration(named: str | None, common: Known, tables: Tables) -> Findings:
    """What is set, and what of it is wrong."""
    yield from _file(named, common, tables)
    yield from _variables(common, tables)
    for item in catalog.listing():
        if item.error:
            yield Finding(
                area="settings",
                what=f"task {item.name}",
                value=item.error,
                level="problem",
                fix=f"Correct or remove {item.path}",
            )


def _file(named: str | None, common: Known, tables: Tables) -> Findings:
    try:
        path = reading.find(named)
    except GptcliError as error:
        yield _problem("config.toml", error)
        return
    if path is None:
        value = f"none; it would be {reading.place(named)}"
        yield Finding(area="settings", what="config.toml", value=value)
        return
    yield Finding(area="settings", what="config.toml", value=str(path))
    try:
        wrong = settings.faults(path, common, tables)
    except GptcliError as error:
        yield _problem("config.toml", error)
        return
    for fault in wrong:
        yield _problem("config.toml", fault)


def _variables(common: Known, tables: Tables) -> Findings:
    known: dict[str, tuple[Any, Any]] = {}
    for table in tables.values():
        known |= _by_variable(table())
    known |= _by_variable(common)
    for variable in sorted(name for name in os.environ if name.startswith(PREFIX)):
        name = variable.removeprefix(PREFIX)
        if name in OTHERS or not os.environ[variable]:  # an empty one counts as none
            continue
        if name not in known:
            near = get_close_matches(name, [*known, *OTHERS], 1)
            fix = f"Did you mean {PREFIX}{near[0]}?" if near else "Unset it."
            value = "there is no such option"
            yield Finding(area="settings", what=variable, value=value, level="problem", fix=fix)
            continue
        try:
            given = of_variable(os.environ[variable], known[name][1])
            reading.check((), name.lower(), given, {name.lower(): known[name]})
        except UsageError as error:  # its hint is for a file
            fix = f"Correct it, or unset {variable}."
            value = error.message
            yield Finding(area="settings", what=variable, value=value, level="problem", fix=fix)
        else:
            yield Finding(area="settings", what=variable, value="it is set")


def _by_variable(options: Known) -> Mapping[str, tuple[Any, Any]]:
    """The options that a variable can set, by its name without the prefix."""
    return {name.upper(): found for name, found in options.items() if not spec_of(found[0]).instead}


def _problem(what: str, error: GptcliError) -> Finding:
    fix = error.hint or "Correct it."
    return Finding(area="settings", what=what, value=error.message, level="problem", fix=fix)
