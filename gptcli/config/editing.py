"""Writing config.toml: one value set or taken out, everything else left as it was.

tomlkit keeps comments, order and spelling. The file is replaced by one that is whole; a link stays
a link, as people keep such files elsewhere and link to them; and while one process reads, changes
and writes, another waits. What would be refused on the next run is refused here, and nothing is
written. What values mean is in `gptcli.config.keys`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.config.checks import CORRECT
from gptcli.config.lines import line_of
from gptcli.config.reading import at_line, parse, text_of
from gptcli.errors import BadConfig, CannotCreate, UsageError
from gptcli.system import durable

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

PRIVATE = 0o600  # of a new file: aliases tell what lies where


def put(path: Path, keys: Sequence[str], value: object) -> bool:
    """Set the value at the path of keys; whether the file was made by it.

    Raises BadConfig (the file is broken, or a table's name is a value's), CannotCreate.
    """
    with _changed(path) as (document, new):
        table: Any = document
        for place, key in enumerate(keys[:-1], 1):
            if key not in table:
                import tomlkit

                # [models] alone says nothing: only the tables below it get a head.
                table.append(key, tomlkit.table(is_super_table=place < len(keys) - 1))
            table = table[key]
            if not isinstance(table, dict):
                where = at_line(path, line_of(text_of(path), keys[:place]))
                raise BadConfig(f"{where}: {'.'.join(keys[:place])}", "it is no table", CORRECT)
        table[keys[-1]] = value
    return new


def drop(path: Path, keys: Sequence[str]) -> None:
    """Take the value at the path of keys out, and tables that are empty then.

    Raises UsageError where it is not set; BadConfig, CannotCreate.
    """
    with _changed(path) as (document, _):
        tables: list[Any] = [document]
        for key in keys[:-1]:
            inner = tables[-1].get(key)
            tables.append(inner if isinstance(inner, dict) else {})
        if keys[-1] not in tables[-1]:
            raise UsageError(".".join(keys), f"it is not set in {path}", "See gptcli config show.")
        del tables[-1][keys[-1]]
        for place in range(len(keys) - 2, -1, -1):
            if not tables[place + 1] and not tables[place + 1].as_string().strip():
                del tables[place][keys[place]]


@contextmanager
def _changed(path: Path) -> Iterator[tuple[TOMLDocument, bool]]:
    """The file's document and whether it is new; what the block changes of it is written."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    place = Path(os.path.realpath(path))
    with _errors(path), _alone(place):
        new = not os.path.exists(place)  # noqa: PTH110
        text = "" if new else text_of(path)
        parse(path, text)  # names the line of what is wrong
        try:
            document = tomlkit.parse(text)
        except TOMLKitError as error:  # stricter than tomllib in corners
            raise BadConfig(str(path), f"not TOML: {error}", CORRECT) from None
        yield document, new
        text = document.as_string().rstrip("\n")
        try:
            data = f"{text}\n".encode() if text else b""
        except UnicodeEncodeError:
            why = "it holds bytes that are not UTF-8, as TOML must be"
            raise UsageError("value", why, "Give another, or set it by its flag.") from None
        durable.rewrite(place, data, new=PRIVATE)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold the folder's lock, which needs no file of its own; makes the folder."""
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks: the last writer wins
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """What the system refuses, in our words."""
    from gptcli.system.os_errors import reason

    try:
        yield
    except OSError as error:
        hint = "Check the permissions of its folder, or name another with --config."
        raise CannotCreate(f"configuration {path}", reason(error), hint) from None
