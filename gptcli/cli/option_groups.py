"""Which groups of options the commands have, computed from their signatures.

The configuration, completion and tests use this; there is no second list. Each step imports a
command, so a caller that looks for one option should stop at the first group that has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from gptcli.cli import registry
from gptcli.cli.declaration import Declaration, declaration_of
from gptcli.cli.registry import CommandEntry
from gptcli.errors import GptcliError
from gptcli.options.registry import TASK_GROUPS
from gptcli.options.spec import Options


def declarations(entry: CommandEntry) -> Iterator[tuple[str, Declaration]]:
    """What each function of a command declares, by its name: `models alias add`.

    Raises UsageError and BadTask, as `CommandEntry.target`.
    """
    if entry.parts:
        for part in entry.parts:
            for name, found in declarations(part):
                yield f"{entry.name} {name}", found
        return
    target = entry.target()
    members: Any = getattr(target, "registered_commands", None)
    if members is None:
        yield entry.name, declaration_of(target)
        return
    for member in members:
        yield f"{entry.name} {member.name}", declaration_of(member.callback)


def groups_of(name: str) -> tuple[type[Options], ...]:
    """The groups of a command, a task, or all commands of a group. Raises as `declarations`."""
    found = [declared.groups for _, declared in declarations(registry.entry_of(name))]
    return tuple(dict.fromkeys(group for groups in found for group in groups.values()))


def every() -> Iterator[type[Options]]:
    """The groups of all commands that take defaults from the file, the cheapest to find first.

    A task whose file is broken has none.
    """
    from gptcli.tasks.definition import catalog

    yield from TASK_GROUPS.values()
    entries = [*registry.COMMANDS, *map(registry.entry_of, catalog.names())]
    for entry in dict.fromkeys(entries):
        with suppress(GptcliError):
            for _, declared in declarations(entry):
                if declared.configured:
                    yield from declared.groups.values()
