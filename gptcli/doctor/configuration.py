"""Checks of config.toml, of the environment's GPTCLI_ variables and of the user's own tasks.

The command line passes in which options there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches

from gptcli.config import checks, reading, settings
from gptcli.config.keys import Tables, of_variable
from gptcli.doctor.findings import Finding, Findings
from gptcli.errors import GptcliError, UsageError
from gptcli.options.registry import Declared, Known
from gptcli.tasks.definition import catalog

PREFIX = "GPTCLI_"
NO_OPTIONS = {"API_KEY", "CONFIG", "DEBUG", "PROFILE_STARTUP", "COMPLETE"}


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
    known = _settable((common, *(table() for table in tables.values())))
    for variable in sorted(name for name in os.environ if name.startswith(PREFIX)):
        name = variable.removeprefix(PREFIX)
        if name in NO_OPTIONS or not os.environ[variable]:  # an empty one counts as none
            continue
        if name not in known:
            near = get_close_matches(name, [*known, *NO_OPTIONS], 1)
            fix = f"Did you mean {PREFIX}{near[0]}?" if near else "Unset it."
            value = "there is no such option"
            yield Finding(area="settings", what=variable, value=value, level="problem", fix=fix)
            continue
        try:
            _check(name.lower(), os.environ[variable], known[name])
        except UsageError as error:  # its hint is for a file
            fix = f"Correct it, or unset {variable}."
            value = error.message
            yield Finding(area="settings", what=variable, value=value, level="problem", fix=fix)
        else:
            yield Finding(area="settings", what=variable, value="it is set")


def _settable(tables: Iterable[Known]) -> dict[str, list[Declared]]:
    """The options that a variable can set, by its name without the prefix."""
    known: dict[str, list[Declared]] = {}
    for options in tables:
        for name, declared in options.items():
            settable = [option for option in declared if not option.spec.instead]
            if settable:
                known.setdefault(name.upper(), []).extend(settable)
    return known


def _check(name: str, text: str, options: list[Declared]) -> None:
    """Raises UsageError where no declaration of an option takes a variable's text."""
    for option in options:
        given = of_variable(text, option.hint)
        if checks.taker((), name, given, [option]):
            return
    checks.check((), name, of_variable(text, options[0].hint), {name: options[:1]})


def _problem(what: str, error: GptcliError) -> Finding:
    fix = error.hint or "Correct it."
    return Finding(area="settings", what=what, value=error.message, level="problem", fix=fix)
