"""`gptcli models convert`: models of other programs into ours, and ours into theirs."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from gptcli.checkpoints.resolve import on_disk
from gptcli.checkpoints.sources import recognise
from gptcli.cli import signals
from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.output.sink import write, write_json
from gptcli.cli.session import Session
from gptcli.models.options import Target
from gptcli.options import AsJson, Talk
from gptcli.system.units import counted, model_size

if TYPE_CHECKING:
    from gptcli.conversion.recipe import Made


@command(
    naming=("source",),
    examples=(
        "gptcli models convert models/124M -o gpt2-openai",
        "gptcli models convert model.Q8_0.gguf -o my-model",
        "gptcli models convert tiny-tales -o tiny-tales.gguf --type q8_0",
    ),
)
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder or a file of another program, or a model of gptcli.",
            autocompletion=candidates.models,
            show_default=False,
        ),
    ],
    *,
    target: Target,
    shape: AsJson,
    talk: Talk,
) -> None:
    """Make a model of ours, with safetensors, of files that another program wrote, or the reverse.

    They are read in a process of its own, without a network, secrets or files to write, that makes
    nothing but tensors. What comes out is checked, and computed with, before it takes its place.
    Prints the place. What is known: see gptcli docs formats.
    """
    session = Session.of(talk)
    path, name = _found(source)
    from gptcli.conversion import recipe  # readers and writers of many formats

    plan = recipe.plan(path, name, target)
    with ExitStack() as stack:
        made = stack.enter_context(session.waiting(f"Converting {source}"))
        result = recipe.make(plan, staging_beside(plan.place, stack))
        if made:
            made()
    if shape.json:
        write_json(result.to_dict())
    else:
        write(f"{result.place}\n")
    session.note(*result.notices, _summary(result))


def _found(source: str) -> tuple[Path, str]:
    """The file or folder that a name means, and what the model is called."""
    if "\0" not in source:
        path = Path(os.path.expanduser(source))  # noqa: PTH111 - never raises
        # A folder of OpenAI's may be called 124M, which is an alias, too.
        if path.is_file() or recognise(path) is not None:
            return path, path.stem if path.is_file() else path.resolve().name
    found = on_disk(source)
    name = found.name if found.source != "path" else str(found.folder.resolve())
    return found.folder, name.rpartition("/")[2]


def _summary(result: Made) -> str:
    """What was made, what it computes, and what was left out, by reasons."""
    reasons: dict[str, list[str]] = {}
    for name, reason in result.left_out.items():
        reasons.setdefault(reason, []).append(name)
    shown = [
        f"{names[0] if len(names) == 1 else counted(len(names), 'tensor')} left out: {reason}"
        for reason, names in reasons.items()
    ]
    model = result.written or result.converted
    assert model is not None
    made = f"{counted(model.tensors, 'tensor')}, {model_size(model.size)}"
    if result.written:
        made += f", {result.written.type}"
    kept = f"{result.converted.source.shown} is kept" if result.converted else ""
    return "; ".join(filter(None, [made, *_proofs(result), *shown, kept]))


def _proofs(result: Made) -> list[str]:
    """What the comparisons showed."""
    said = []
    check, comparison = result.converted and result.converted.check, result.comparison
    if check and check.largest is not None:
        tokens = counted(check.compared, "token")
        said.append(f"log-probabilities of {tokens} differ by at most {check.largest:.2g} nats")
    elif check and check.text:
        said.append(f"a probe text has {check.loss:.2f} nats a token")
    if comparison:
        said.append(
            f"{comparison.program}: log-probabilities of {counted(comparison.tokens, 'token')}"
            f" differ by at most {comparison.largest:.2g} nats"
        )
        if comparison.other_ids:
            said.append(f"it cuts {counted(len(comparison.other_ids), 'probe text')} otherwise")
    elif result.written:
        said.append("not run there: its package is not installed")
    return said


def staging_beside(place: Path, stack: ExitStack) -> Path:
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
        from gptcli.checkpoints.formats.conversion import failed

        raise failed(place, error) from None
    return inner
