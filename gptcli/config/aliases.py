"""Names of the user's own for models: the table `[aliases]` of config.toml.

An alias stands for a folder, a Hub id or a name that gptcli knows; it is replaced by that before
anything looks for the model, and never followed twice, so there are no circles. Names that gptcli
knows cannot be given away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptcli.checkpoints.names import ALIASES, BUNDLED
from gptcli.config.lines import line_of
from gptcli.config.reading import ALIAS_TABLE, at_line, find, read, text_of
from gptcli.errors import BadConfig, UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def target(name: str, named: str | None) -> str:
    """What a model's name stands for: that of the alias, or itself where it is none.

    `named` is the file of --config. Raises MissingInput and BadConfig.
    """
    if not NAME.fullmatch(name) or name in ALIASES or name == BUNDLED:
        return name
    path = find(named)
    return name if path is None else aliases(path, read(path)).get(name, name)


def aliases(path: Path, everything: Mapping[str, Any]) -> dict[str, str]:
    """The aliases of a file that was read. Raises BadConfig."""
    table = everything.get(ALIAS_TABLE, {})
    if not isinstance(table, dict):
        raise BadConfig(f"{path}: {ALIAS_TABLE}", "it is no table", f"Write [{ALIAS_TABLE}].")
    for name, meant in table.items():
        try:
            check(name, meant)
        except UsageError as error:
            where = at_line(path, line_of(text_of(path), (ALIAS_TABLE, name)))
            raise BadConfig(f"{where}: [{ALIAS_TABLE}] {name}", error.why, error.hint) from None
    return dict(table)


def check(name: str, meant: object) -> None:
    """Raises UsageError where there cannot be such an alias."""
    if not NAME.fullmatch(name):
        hint = "Use letters, digits, dots, dashes and underscores."
        raise UsageError("alias", f"{name[:100]!r} cannot be a name", hint)
    if name in ALIASES or name == BUNDLED:
        raise UsageError("alias", f"{name} is a name that gptcli knows", "Choose another name.")
    if not isinstance(meant, str) or not meant or "\0" in meant:
        hint = "Give a folder, a Hub id or a name such as gpt2."
        raise UsageError("alias", f"{str(meant)[:100]!r} is no name of a model", hint)
