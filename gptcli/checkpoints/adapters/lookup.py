"""Which adapter a folder holds, and which base its own file names."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gptcli.checkpoints.adapters.config import read_config
from gptcli.checkpoints.adapters.reference import CONFIG, CONFIG_OF_MODELS, Adapter, is_adapter
from gptcli.checkpoints.names import ALIASES
from gptcli.errors import BadModel, GptcliError


def adapter_in(folder: Path, name: str, scale: float, revision: str | None) -> Adapter:
    """The adapter of a folder. Raises BadModel for a folder with none."""
    if is_adapter(folder):
        return Adapter(name=name, folder=folder, scale=scale, revision=revision)
    inner = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    hint = "Give a folder in PEFT's layout."
    if inner:
        hint = f"It holds adapters by their names: {name}/{inner[0]}"
    elif (folder / CONFIG_OF_MODELS).exists():
        hint = "It is a model: give it with -m."
    raise BadModel(f"adapter {name}", f"there is no {CONFIG} in it", hint)


def base_named(folder: Path, name: str) -> tuple[str, str | None]:
    """The base that an adapter's file names, and its revision; a path beside the adapter first.

    Raises BadModel where it names none, MissingInput.
    """
    config = read_config(folder)
    if config.base is None:
        raise BadModel(f"adapter {name}", f"{CONFIG} names no base", give_base(name))
    beside = folder / os.path.expanduser(config.base)  # noqa: PTH111 - never raises
    with suppress(OSError, ValueError):  # a name too long, a NUL
        if config.base not in ALIASES and beside.is_dir():
            return str(beside), None
    return config.base, config.base_revision


def base_missing(name: str, base: str, error: GptcliError) -> BadModel:
    """The error for an adapter whose base cannot be found."""
    why = f"its base {base!r:.200} is not there ({error.why or error.what})"
    return BadModel(f"adapter {name}", why, give_base(name))


def give_base(name: str) -> str:
    """How a base is named on the command line."""
    return f"Give the base: -m BASE --adapter {name}"
