"""`gptcli models info` and `path`: what is known of one model, and where it is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from gptcli.checkpoints.adapters.reference import is_adapter
from gptcli.checkpoints.adapters.said import lines_of
from gptcli.checkpoints.resolve import looks_like_path, missing, on_disk
from gptcli.checkpoints.sources import ModelSource, foreign
from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.output.sink import write, write_json
from gptcli.cli.output.table import table
from gptcli.cli.session import Session
from gptcli.errors import Unavailable
from gptcli.models.adapter_facts import AboutAdapter, about_adapter
from gptcli.models.facts import About, about
from gptcli.models.foreign import ForeignModel, about_foreign
from gptcli.models.options import Which
from gptcli.options import AsJson, Talk
from gptcli.system.units import model_size

Name = Annotated[
    str,
    typer.Argument(
        help="A model: Hub id, alias, folder, or tiny-tales.",
        autocompletion=candidates.models,
        show_default=False,
    ),
]
TEMPLATES = {
    "own": "its own",
    "eos": "none; chat uses turns set apart by the end of text",
    "transcript": "none; chat uses a transcript",
}
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


@command(naming=("name",))
def info(name: Name, *, which: Which, shape: AsJson, talk: Talk) -> None:
    """Show what is known of a model without loading it: sizes, memory, license, files, faults."""
    if (other := _other(name)) is not None:
        found = about_foreign(*other)
        if shape.json:
            write_json(found.to_dict())
        else:
            _show(found)
            Session.of(talk).note(*found.notices)
        return
    checkpoint = on_disk(name, which.revision)
    if is_adapter(checkpoint.folder):
        _show_adapter(about_adapter(checkpoint), shape.json)
        return
    known = about(checkpoint)
    if shape.json:
        write_json(known.to_dict())
        return
    write(table([*_lines(known), *_listed(known.files)]))
    Session.of(talk).note(*known.notices)


@command(naming=("name",))
def path(name: Name, *, which: Which, talk: Talk) -> None:
    """Print the folder of a model that is whole, without looking any further than this machine."""
    found = on_disk(name, which.revision)
    lacking = missing(found.folder) if found.source == "cache" else ()
    if lacking:
        hint = f"Fetch what is missing: gptcli models pull {found.name}"
        raise Unavailable(found.name, f"it is incomplete, without {', '.join(lacking)}", hint)
    write(os.path.abspath(found.folder) + "\n")  # noqa: PTH100
    Session.of(talk).note(*found.notices)


def _other(name: str) -> tuple[Path, ModelSource] | None:
    """Another program's model at a path; one whose config.json is ours is like a model of ours."""
    if "\0" in name:
        return None
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - never raises
    source = foreign(path) if looks_like_path(name) or path.is_file() else None
    return None if source is None or (source.companions and path.is_dir()) else (path, source)


def _show_adapter(known: AboutAdapter, as_json: bool) -> None:
    """What is known of an adapter."""
    if as_json:
        write_json(known.to_dict())
        return
    lines = [("name", known.checkpoint.name), ("kind", "adapter")]
    if known.checkpoint.revision:
        lines.append(("revision", known.checkpoint.revision))
    lines += [
        ("folder", str(known.checkpoint.folder)),
        ("usable", known.error or "yes: with -m, or beside its base with --adapter"),
    ]
    if known.read is not None:
        config = known.read.config
        lines += [
            ("base", config.base or "not named"),
            ("rank", str(config.rank or "-")),
            ("alpha", f"{config.alpha:g}"),
            ("scale", ", ".join(f"{scale:g}" for scale in known.scales) or "-"),
            ("tensors", str(known.read.tensors)),
        ]
        lines += [("  applies", line) for line in lines_of(known.read)]
    write(table([*lines, *_listed(known.files)]))


def _show(known: ForeignModel) -> None:
    """What is known of a model that must be converted first."""
    lines = [
        ("name", str(known.path)),
        ("folder", str(known.source.folder)),
        ("format", known.source.kind),
        ("usable", known.error or f"once it is converted: {known.command}"),
    ]
    for name, size in known.sizes.items():
        lines.append((name, f"{size:,} tokens" if name == "context" else f"{size:,}"))
    if known.dtypes:
        lines.append(("becomes", ", ".join(DTYPES.get(dtype, dtype) for dtype in known.dtypes)))
    if known.parameters is not None:
        lines.append(("parameters", f"{known.parameters:,}"))
        lines.append(("tokenizer", ", ".join(known.tokenizer) or "none beside it"))
    write(table([*lines, *_listed(known.files)]))


def _lines(known: About) -> Iterator[tuple[str, str]]:
    yield "name", known.checkpoint.name
    yield "source", known.checkpoint.source
    if known.checkpoint.revision:
        yield "revision", known.checkpoint.revision
    yield "folder", str(known.checkpoint.folder)
    if known.format:
        yield "format", known.format
    yield "usable", known.error or "yes: configuration and weights fit each other"
    if known.architecture:
        yield "architecture", known.architecture
    for name, value in known.settings.items():
        yield name, f"{value:,}"
    if known.context:
        yield "context", f"{known.context:,} tokens"
    if known.dtypes:
        yield "stored as", ", ".join(DTYPES.get(dtype, dtype) for dtype in known.dtypes)
    if known.total is not None:
        yield "parameters", f"{known.total:,}"
    yield from _numbers(known)
    yield "tokenizer", known.tokenizer.kind or known.tokenizer.error
    yield from _talk(known)


def _numbers(known: About) -> Iterator[tuple[str, str]]:
    if known.parts is None or known.memory is None:
        return
    for name, count in known.parts.to_dict().items():
        tied = name == "head" and known.tied
        yield f"  {name.replace('_', ' ')}", "the token embedding" if tied else f"{count:,}"
    memory = known.memory
    yield "memory", "of the weights"
    for dtype, size in (
        ("float32", memory.float32),
        ("16-bit", memory.half),
        ("int8", memory.int8),
    ):
        yield f"  {dtype}", model_size(size)
    yield "KV cache", "of each text"
    for dtype, size in (("float32", memory.token_float32), ("16-bit", memory.token_half)):
        full = model_size(size * memory.context)
        yield f"  {dtype}", f"{size:,} bytes a token, {full} when the context is full"


def _talk(known: About) -> Iterator[tuple[str, str]]:
    template = known.template
    said = f"{TEMPLATES[template.kind]}, in {template.file}" if template.file else ""
    yield "chat template", template.error or said or TEMPLATES[template.kind]
    if known.card is None:
        yield "license", "not known: the model card is not there"
        return
    for key, value in known.card.items():
        yield key.replace("_", " "), value if isinstance(value, str) else ", ".join(value)
    if "license" not in known.card:
        yield "license", "not named in the model card"


def _listed(files: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    yield "files", f"{model_size(sum(files.values()))} in all"
    for name, size in files.items():
        yield f"  {name}", f"{size:,} bytes"
