"""Which options a set of groups has, and which names a task's own options cannot have.

Everything that needs the list of options asks here: flags, config.toml, environment variables,
completion, task files. Which groups a command has is read from its signature by
`gptcli.cli.option_groups`. Only those of a task's command are declared here, because a task file is
checked where no command line is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from functools import cache
from typing import Any, TypedDict, get_type_hints

from gptcli.options.common import Input, Many, Output, Record, TableInput, Talk
from gptcli.options.moderation import ModeratedLoad
from gptcli.options.sampling import Sampling
from gptcli.options.spec import Options, Spec, key_of, longs_of, spec_of


class TaskGroups(TypedDict):
    """The option groups of every task's command, beside the task's own."""

    input: Input
    many: Many
    table: TableInput
    load: ModeratedLoad
    sampling: Sampling
    output: Output
    record: Record
    talk: Talk


TASK_GROUPS: Mapping[str, type[Options]] = get_type_hints(TaskGroups)
# Arguments of a task's command, options that every command has, and fields of its templates.
_NO_OPTIONS = (
    *("text", "help", "help_all", "version", "yes", "panel"),
    *("input", "output", "examples", "example", "prompt", "name", "task"),
)


@dataclass(frozen=True)
class Declared:
    """An option as one group declares it."""

    item: Field[Any]
    hint: Any  # its type

    @property
    def spec(self) -> Spec:
        """How it is declared."""
        return spec_of(self.item)


Known = Mapping[str, Sequence[Declared]]
"""Options by their name in config.toml; several where commands declare one differently."""


def options_of(groups: Iterable[type[Options]]) -> dict[str, tuple[Declared, ...]]:
    """Every option of some groups; if several declare one, the first declaration comes first."""
    found: dict[str, tuple[Declared, ...]] = {}
    for group in dict.fromkeys(groups):
        for option in declared(group):
            name = key_of(option.item.name)
            same = found.get(name, ())
            if all(option.item is not other.item for other in same):
                found[name] = (*same, option)
    return found


_declared: dict[type, tuple[Declared, ...]] = {}


def declared(group: type[Options]) -> tuple[Declared, ...]:
    """The options of one group, in its order."""
    if group not in _declared:
        hints, items = get_type_hints(group), fields(group)  # type: ignore[arg-type]
        _declared[group] = tuple(Declared(item, hints[item.name]) for item in items)
    return _declared[group]


@cache
def taken() -> frozenset[str]:
    """The names that a task's own option and flag cannot have: those of its command."""
    found = set(_NO_OPTIONS)
    for group in TASK_GROUPS.values():
        for item in fields(group):  # type: ignore[arg-type]
            found |= {item.name, *(flag[2:].replace("-", "_") for flag in longs_of(item))}
    return frozenset(found)
