"""What a value may be, for a shell to complete: models, tasks, keys of the configuration, files.

One function for each kind of name. An option names its kind by `Spec.names`; an argument has the
function as its `autocompletion`. An unreadable file gives no candidates, because an error would
stand in the line being typed. Nothing heavy is imported: a model of the cache is the name of a
folder. Which word is completed and how the shell is told is in `gptcli.cli.completion.complete`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import typer

from gptcli import config
from gptcli.checkpoints import hf_cache
from gptcli.checkpoints.names import ALIASES, BUNDLED, HUB_ID, known_ids
from gptcli.cli import option_groups as groups
from gptcli.cli import registry
from gptcli.errors import GptcliError
from gptcli.options import Load, Sampling
from gptcli.options.registry import options_of
from gptcli.options.spec import Options

FILES, FOLDERS = "\0files", "\0folders"  # in place of those there are: the shell lists them itself
MAX_FOLDERS = 1000  # searched for a config.json: a slow disk must not hold up the shell
KEY = re.compile(r"[A-Za-z0-9_-]+")  # what TOML takes as a key without quotes

Suggestion = tuple[str, str]
"""A value, and a description; one of `FILES` and `FOLDERS` is what to list if no value fits."""


@dataclass(frozen=True)
class Typed:
    """What is on the command line up to the cursor: `obj` of the context that functions get."""

    words: tuple[str, ...]  # of the innermost command, whole ones
    value: str  # the part of the value that is there


def models() -> list[Suggestion]:
    """Aliases, the bundled model, those of the Hugging Face cache, and folders that hold one."""
    cached = {repo_id for repo_id in hf_cache.model_ids() if HUB_ID.fullmatch(repo_id)}
    here = ((_as_folder(name), "folder") for name in _model_folders())
    aliases = {name: _target(repo_id, cached) for name, repo_id in ALIASES.items()}
    found = {
        **dict(here),
        **dict.fromkeys(sorted(cached), "in the cache"),
        **aliases,
        BUNDLED: "comes with gptcli",
        **own_aliases(),
    }
    return [*found.items(), (FOLDERS, "")]


def tasks() -> list[Suggestion]:
    """The names of all tasks, with what they do or why they cannot."""
    from gptcli.tasks.definition import catalog, schema

    return [
        (task.name, task.error or task.description)
        for task in catalog.listing()
        if schema.NAME.fullmatch(task.name)
    ]


def settings(ctx: typer.Context) -> list[Suggestion]:
    """Options of the task that --task names: `to=de`, or `context=` where there are no choices."""
    from gptcli.tasks.definition import catalog

    words = ctx.obj.words if isinstance(ctx.obj, Typed) else ()
    named = [after for word, after in pairwise((*words, "")) if word == "--task"]
    named += [word.removeprefix("--task=") for word in words if word.startswith("--task=")]
    found: list[Suggestion] = []
    with suppress(GptcliError):
        for option in catalog.find(named[-1]).options if named else ():
            flag = ("true", "false") if option.kind == "flag" else ("",)
            values = option.choices or flag
            found += [(f"{option.name}={value}", brief(option.help)) for value in values]
    return found


def commands() -> list[Suggestion]:
    """The names of all commands and tasks."""
    found = dict(tasks())
    found |= {entry.name: entry.summary for entry in registry.COMMANDS}  # some are tasks
    return [(name, brief(said)) for name, said in found.items()]


def config_keys(ctx: typer.Context) -> list[Suggestion]:
    """Keys of config.toml: `top_p`, `generate.top_p`, `models.gpt2.dtype`.

    Tables have a dot at the end, and their keys are given once the table is there: hundreds at a
    time would help nobody.
    """
    typed = ctx.obj.value if isinstance(ctx.obj, Typed) else ""
    table = typed[: typed.rfind(".") + 1]
    return [(table + name, said) for name, said in _keys(table.removesuffix("."))]


def files() -> list[Suggestion]:
    """Files and folders, as the shell lists them."""
    return [(FILES, "")]


def folders() -> list[Suggestion]:
    """Folders, as the shell lists them."""
    return [(FOLDERS, "")]


NAMED: Mapping[str, Callable[..., list[Suggestion]]] = {
    "model": models,
    "model as typed": models,  # no alias is followed before the command sees it
    "command": commands,
    "task": tasks,
    "task's option": settings,
    "config key": config_keys,
    "file": files,
    "folder": folders,
}
"""The function for each of `Spec.names`."""


def own_aliases() -> dict[str, str]:
    """The user's own names for models, if config.toml has any: the table `[aliases]`."""
    with suppress(GptcliError):
        path = config.find(None)
        table = config.read(path).get(config.ALIAS_TABLE) if path else None
        if isinstance(table, dict):
            return {name: target for name, target in table.items() if isinstance(target, str)}
    return {}


def brief(help: str | None) -> str:
    """The first sentence of a help text."""
    text = (help or "").partition("\n\n")[0]
    return " ".join(text.split()).partition(". ")[0].removesuffix(".")


def _target(repo_id: str, cached: Collection[str | None]) -> str:
    """What an alias stands for, and whether that is here."""
    here = any(known_as in cached for known_as in known_ids(repo_id))
    return f"{repo_id}, in the cache" if here else repo_id


def _model_folders() -> Iterator[str]:
    """The folders of the working directory that hold a config.json."""
    with suppress(OSError), os.scandir() as entries:
        for entry in islice(entries, MAX_FOLDERS):
            with suppress(OSError):
                if entry.is_dir() and Path(entry.name, "config.json").is_file():
                    yield entry.name


def _as_folder(name: str) -> str:
    """A folder's name as -m takes it for one."""
    another = name in ALIASES or name == BUNDLED or name.startswith(("-", "~"))
    return f"./{name}" if another else name


def _keys(table: str) -> Iterator[Suggestion]:
    """What a table may hold; the top level is the table without a name."""
    if table == "":
        yield from _options(groups.every())
        yield from _tables()
    elif table == "models":
        yield from ((f"{name}.", target) for name, target in ALIASES.items() if KEY.fullmatch(name))
        yield (f"{BUNDLED}.", "comes with gptcli")
    elif table.startswith("models."):
        yield from _options((Load, Sampling))
    else:
        with suppress(GptcliError):  # no such task, or a broken one
            yield from _options(groups.groups_of(table))


def _options(groups: Iterable[type[Options]]) -> Iterator[Suggestion]:
    """The options of groups that a file can set."""
    for name, declared in options_of(groups).items():
        settable = [option for option in declared if not option.spec.instead]
        if settable and name != "config":
            yield name, brief(settable[0].spec.help)


def _tables() -> Iterator[Suggestion]:
    found = dict(commands()) | {"models": "What is set for one model"}
    yield from ((f"{name}.", said) for name, said in found.items())
