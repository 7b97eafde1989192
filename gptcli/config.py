"""`config.toml`: defaults of the user's own.

Top-level keys are options of every command that has them, a table `[generate]` holds those of one
command; the names are the fields of `gptcli.options`, so that the same declarations check a flag
and a line of the file. Only the top level and the table of the command that runs are checked. Left
out: environment variables and flags, which win over the file and are read by the command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from gptcli.errors import BadConfig, MissingInput, UsageError
from gptcli.options import Input, Load, Output, Sampling, Talk
from gptcli.specs import Options, key_of, mismatch, spec_of

LIMIT = 1 << 20  # bytes
COMMON: tuple[type[Options], ...] = (Input, Load, Sampling, Output, Talk)


def find(named: str | None) -> Path | None:
    """The file to read: `named` by --config, by GPTCLI_CONFIG, or the user's if there is one.

    Raises MissingInput when a named file is not there.
    """
    name = named or os.environ.get("GPTCLI_CONFIG")
    if name:
        if not os.path.lexists(name):
            raise MissingInput(f"configuration {name}", "no such file", "Check --config.")
        return Path(name)
    import platformdirs

    path = Path(platformdirs.user_config_dir("gptcli", appauthor=False)) / "config.toml"
    return path if path.exists() else None


def defaults(
    named: str | None,
    command: str,
    groups: Iterable[type[Options]],
    tables: Callable[[], Iterable[str]],
    presets: Mapping[str, Any],
) -> dict[str, Any]:
    """The fields that are set for `command`, whose options are those of `groups`, and their values.

    `presets` are the command's own, as a task's sampling: they win over the file's top level, which
    is meant for all, but not over the command's table. `tables` gives the names that tables may
    have; it is asked only where the file has some of other commands. Raises MissingInput, or
    BadConfig naming file and key.
    """
    path = find(named)
    if path is None:
        return dict(presets)
    everything = _read(path)
    known = _known((*COMMON, *groups))  # a command's own options win over others of their name
    top = {name: value for name, value in everything.items() if not isinstance(value, dict)}
    others = everything.keys() - top.keys() - {command}
    names = set(tables()) if others else set()
    for name in others - names:
        raise BadConfig(f"{path}: table [{name}]", "there is no such command", _near(name, names))
    table = everything.get(command, {})
    if not isinstance(table, dict):
        raise BadConfig(f"{path}: {command}", "it is a command's name", f"Write [{command}].")
    own = _known(groups)
    _check(path, "", top, known)
    _check(path, f"[{command}] ", table, own)
    common = {own[name][0].name: value for name, value in top.items() if name in own}
    return {**common, **presets, **{own[name][0].name: value for name, value in table.items()}}


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise MissingInput(f"configuration {path}", why, "Check --config.") from None
    if len(data) > LIMIT:
        raise BadConfig(str(path), "more than 1 MiB", "A configuration is a few lines.")
    import tomllib

    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        why = f"invalid UTF-8 at byte {error.start}"
    except tomllib.TOMLDecodeError as error:
        why = f"not TOML: {error}"
    except RecursionError:
        why = "nested too deeply"
    raise BadConfig(str(path), why, "Correct the file, or use another with --config.")


def _known(groups: Iterable[type[Options]]) -> dict[str, tuple[Field[Any], Any]]:
    """Field and type of every option, by name."""
    found = {}
    for group in groups:
        hints = get_type_hints(group)
        for item in fields(group):  # type: ignore[arg-type]
            found[key_of(item.name)] = (item, hints[item.name])
    return found


def _check(
    path: Path,
    where: str,
    values: Mapping[str, Any],
    known: Mapping[str, tuple[Field[Any], Any]],
) -> None:
    for name, value in values.items():
        what = f"{path}: {where}{name}"
        if name not in known:
            raise BadConfig(what, "there is no such option", _near(name, known))
        item, hint = known[name]
        instead = spec_of(item).instead
        if name == "config":
            instead = "A configuration file cannot name another."
        if instead:  # a flag could not take it back
            raise BadConfig(what, "it can only be a flag", instead)
        wrong = _wrong(value, hint) or _outside(item, value)
        if wrong:
            raise BadConfig(what, wrong, "Correct the file.")


def _wrong(value: object, hint: Any) -> str:
    """What is wrong with the type of `value`, in words; empty when it fits `hint`."""
    if get_origin(hint) is tuple:
        texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
        return "" if texts else f"{value!r} is not a list of texts"
    return mismatch(value, hint) if value is not None else ""


def _outside(item: Field[Any], value: Any) -> str:
    """What is wrong with a value of the right type, in words."""
    spec = spec_of(item)
    if isinstance(value, int | float) and not isinstance(value, bool) and not spec.allows(value):
        return f"{value} is out of range: give {spec.range or 'a finite number'}"
    if spec.parse is not None:
        try:
            for text in value:
                spec.parse(text)
        except UsageError as error:
            return error.why
    return ""


def _near(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(name.replace("-", "_"), names, 1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(names)}."
