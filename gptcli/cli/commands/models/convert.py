"""`gptcli models convert`: pickled weights into safetensors."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from gptcli.checkpoints.formats import conversion
from gptcli.checkpoints.resolve import on_disk
from gptcli.cli import signals
from gptcli.cli.output.sink import write, write_json
from gptcli.cli.session import Session
from gptcli.models.options import Target
from gptcli.options import AsJson, Talk
from gptcli.system.units import counted, model_size


def convert(
    folder: Annotated[
        str,
        typer.Argument(
            help="A folder with pytorch_model.bin, or a model of the cache.",
            show_default=False,
        ),
    ],
    *,
    target: Target,
    shape: AsJson,
    talk: Talk,
) -> None:
    """Make model.safetensors of pytorch_model.bin, which is a pickle and could run code.

    It is read in a process of its own, without a network, secrets or files to write, that makes
    nothing but tensors; the result is checked before it takes its place. Prints the folder.
    """
    session = Session.of(talk)
    found = on_disk(folder)
    place = conversion.check_target(found.folder, target.output, target.force)
    conversion.pickles(found.folder)
    with ExitStack() as stack:
        made = stack.enter_context(session.waiting(f"Converting {folder}"))
        staging = _staging(place, stack)
        result = conversion.convert(found.folder, staging)
        conversion.place(staging, place, whole=target.output is not None)
        if made:
            made()
    said = result.to_dict() | {"path": str(place)}
    if shape.json:
        write_json(said)
    else:
        write(f"{place}\n")
    tied = f"; {', '.join(result.dropped)} is the embedding" if result.dropped else ""
    count = f"{counted(result.tensors, 'tensor')}, {model_size(result.size)}"
    session.note(f"{count}{tied}; the pickle is kept")


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
