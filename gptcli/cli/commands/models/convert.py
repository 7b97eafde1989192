"""`gptcli models convert`: models of other programs into ours."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from gptcli.checkpoints.formats import conversion
from gptcli.checkpoints.resolve import on_disk
from gptcli.checkpoints.sources import find_source
from gptcli.cli import signals
from gptcli.cli.output.sink import write, write_json
from gptcli.cli.session import Session
from gptcli.models.options import Target
from gptcli.options import AsJson, Talk
from gptcli.system.units import counted, model_size


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder or a file of another program, or a model of the cache.",
            show_default=False,
        ),
    ],
    *,
    target: Target,
    shape: AsJson,
    talk: Talk,
) -> None:
    """Make a model of ours, with safetensors, of files that another program wrote.

    They are read in a process of its own, without a network, secrets or files to write, that makes
    nothing but tensors; the result is checked before it takes its place. Prints the folder. What is
    known: see gptcli docs formats.
    """
    session = Session.of(talk)
    found = find_source(_path(source), target.step)
    place = conversion.check_target(found, target.output, target.force)
    with ExitStack() as stack:
        made = stack.enter_context(session.waiting(f"Converting {source}"))
        staging = _staging(place, stack)
        result = conversion.convert(found, staging)
        conversion.place(staging, place, whole=target.output is not None)
        if made:
            made()
    said = result.to_dict() | {"path": str(place)}
    if shape.json:
        write_json(said)
    else:
        write(f"{place}\n")
    session.note(*result.notices, _summary(result))


def _path(name: str) -> Path:
    """The file or folder that a name means; a name of a model means its folder."""
    if "\0" not in name and (path := Path(os.path.expanduser(name))).is_file():  # noqa: PTH111
        return path
    return on_disk(name).folder


def _summary(result: conversion.Converted) -> str:
    """What was made, and what was left out, by reasons."""
    reasons: dict[str, list[str]] = {}
    for name, reason in result.left_out.items():
        reasons.setdefault(reason, []).append(name)
    shown = [
        f"{names[0] if len(names) == 1 else counted(len(names), 'tensor')} left out: {reason}"
        for reason, names in reasons.items()
    ]
    made = f"{counted(result.tensors, 'tensor')}, {model_size(result.size)}"
    return "; ".join([made, *shown, f"{result.source.shown} is kept"])


def _staging(place: Path, stack: ExitStack) -> Path:
    """An empty folder on the same disk, which goes when the stack ends. Raises CannotCreate."""
    parent = place if place.is_dir() else place.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        outer = stack.enter_context(
            TemporaryDirectory(prefix=".gptcli-convert-", dir=parent, ignore_cleanup_errors=True)
        )
        stack.enter_context(signals.cleaning(partial(rmtree, outer, ignore_errors=True)))
        inner = Path(outer, "model")  # with the permissions of a folder, not of a temporary one
        inner.mkdir()
    except OSError as error:
        raise conversion.failed(place, error) from None
    return inner
