"""Where task files are: the user's folder, the built-in ones, and those of installed packages.

The first place that has a name wins, so a user replaces a task by a file of the same name. A
package offers tasks by an entry point of the group `gptcli.tasks`, whose value is a package with
such files, or a module beside them. Its code is never run for that. Packages are searched only for
a name that is found nowhere else. Not here: a file is read in `gptcli.tasks.definition.schema`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gptcli.errors import GptcliError, UsageError
from gptcli.tasks.definition import schema
from gptcli.tasks.definition.task import Task

GROUP = "gptcli.tasks"
SUFFIX = ".toml"
BUILT_IN = Path(__file__).parent.parent / "builtin"
SKELETON = BUILT_IN / "skeleton.toml.in"  # not listed, because of its suffix
_ALL = "gptcli tasks list shows them all."


@dataclass(frozen=True)
class TaskFolder:
    """A folder with tasks; `origin` is `user`, `built-in` or `package NAME`."""

    origin: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class ListedTask:
    """A task in the list, or a file that cannot be one: `error` says why."""

    name: str
    description: str
    origin: str
    path: Path
    overrides: tuple[str, ...]  # origins of tasks of the same name that this one hides
    error: str = ""

    def to_dict(self) -> dict[str, object]:
        """The shape of `gptcli tasks list --json`."""
        return {**asdict(self), "path": str(self.path), "overrides": list(self.overrides)}


def user_folder() -> Path:
    """The folder of the user's own tasks, which need not exist."""
    import platformdirs

    return Path(platformdirs.user_config_dir("gptcli", appauthor=False)) / "tasks"


def check_name(name: str) -> str:
    """The name, if a task can have it; raises UsageError. Only such a name becomes a path."""
    if schema.NAME.fullmatch(name):
        return name
    hint = "Give small letters, digits, - and _, a letter first, at most 64."
    raise UsageError("task", f"{name[:100]!r} is not a task's name", hint)


def find(name: str) -> Task:
    """The task of this name. Raises UsageError if there is none, BadTask if its file is broken."""
    return schema.read(locate(name))


def locate(name: str) -> Path:
    """The file of the task of this name. Raises UsageError if there is none."""
    check_name(name)
    for place in _places():
        path = place.folder / f"{name}{SUFFIX}"
        if os.path.lexists(path):
            return path
    from difflib import get_close_matches

    close = get_close_matches(name, names(), 1)
    hint = f"Did you mean {close[0]}? {_ALL}" if close else _ALL
    raise UsageError(f"task {name}", "there is no such task", hint)


def names() -> list[str]:
    """The names of all tasks, sorted; broken files have names, too."""
    return sorted({path.stem for _, path in _files() if schema.NAME.fullmatch(path.stem)})


def listing() -> list[ListedTask]:
    """All tasks by name, and the files in their folders that cannot be read as one."""
    found: dict[str, list[tuple[TaskFolder, Path]]] = {}
    for place, path in _files():
        found.setdefault(path.stem, []).append((place, path))
    return [_listed(name, found[name]) for name in sorted(found)]


def _listed(name: str, files: list[tuple[TaskFolder, Path]]) -> ListedTask:
    (place, path), *hidden = files
    description = error = ""
    try:
        description = schema.read(path).description
    except GptcliError as broken:
        error = broken.message
    return ListedTask(
        name=name,
        description=description,
        origin=place.origin,
        path=path,
        overrides=tuple(other.origin for other, _ in hidden),
        error=error,
    )


def _files() -> Iterator[tuple[TaskFolder, Path]]:
    """Every file with a task; of one name, the one that wins first."""
    for place in _places():
        for path in sorted(place.folder.glob(f"*{SUFFIX}")):
            if not path.name.startswith("."):  # an editor's
                yield place, path


def _places() -> Iterator[TaskFolder]:
    """Lazily: looking through the installed packages takes longer than reading a task."""
    yield TaskFolder("user", user_folder())
    yield TaskFolder("built-in", BUILT_IN)
    from importlib.metadata import entry_points

    seen = set()
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        origin = f"package {entry.dist.name if entry.dist else entry.name}"
        for folder in _folders(entry.value):
            if folder not in seen:
                yield TaskFolder(origin, folder)
            seen.add(folder)


def _folders(module: str) -> list[Path]:
    """The folders of a module or package, found without running its code; none if it is not there.

    `importlib.util.find_spec` would import the packages around a dotted name.
    """
    from importlib.machinery import PathFinder
    from importlib.util import find_spec

    first, *inner = module.partition(":")[0].strip().split(".")
    try:
        spec = find_spec(first) if first else None
        name = first
        for part in inner:
            inside = spec.submodule_search_locations if spec else None
            name = f"{name}.{part}"
            spec = PathFinder.find_spec(name, list(inside)) if inside is not None else None
    except (ImportError, ValueError):  # ValueError: __main__, which has no spec
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin).parent] if spec.has_location and spec.origin else []
