"""What is made of a model, where, and in which numbers: `--to`, `--type` and `--output`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gptcli.checkpoints.formats.conversion import refuse_cache, refuse_own_folder
from gptcli.checkpoints.formats.writers.ctranslate2 import CTRANSLATE2_TYPES
from gptcli.checkpoints.formats.writers.gguf_file import GGUF_TYPES
from gptcli.errors import CannotCreate, UsageError
from gptcli.models.options import Target

SUFFIX = ".gguf"
TYPES = {"gguf": GGUF_TYPES, "ctranslate2": CTRANSLATE2_TYPES}
DEFAULTS = {"gguf": "f16", "ctranslate2": "int8"}
SAME = (  # what llama.cpp and CTranslate2 call a type
    ("f32", "float32"),
    ("f16", "float16"),
    ("bf16", "bfloat16"),
    ("q8_0", "int8"),
)


@dataclass(frozen=True, kw_only=True)
class ForeignTarget:
    """A model for another program: its format, its type, and the file or folder it goes to."""

    format: str
    type: str
    place: Path


def written(target: Target) -> ForeignTarget | None:
    """What is to be written for another program; None where a model of ours is made.

    Raises UsageError, CannotCreate (a place that is taken).
    """
    output = target.output or ""
    format = target.to or ("gguf" if output.lower().endswith(SUFFIX) else "safetensors")
    kind = _type(format, target.type)
    if (format != "gguf") and output.lower().endswith(SUFFIX):
        why = f"{output} is named as a file for llama.cpp, and --to {format} makes a folder"
        raise UsageError("--output", why, "Give another name, or write --to gguf.")
    if kind is None:
        return None
    what = f"NAME{SUFFIX}" if format == "gguf" else "FOLDER"
    if not output or "\0" in output:
        raise UsageError("--output", f"--to {format} needs a place", f"Name it: -o {what}")
    place = Path(os.path.expanduser(output))  # noqa: PTH111 - never raises
    refuse_cache(place)
    (_check_file if format == "gguf" else _check_folder)(place, output, target.force)
    return ForeignTarget(format=format, type=kind, place=place)


def refuse_source(place: Path, folder: Path, files: tuple[Path, ...]) -> None:
    """Raise UsageError where the result would take the place of what it is made of."""
    refuse_own_folder(folder, place)
    if os.path.realpath(place) in {os.path.realpath(file) for file in files}:
        raise UsageError("--output", "it is the file to convert", "Give another name.")


def _type(format: str, asked: str | None) -> str | None:
    """The type of the numbers; None for safetensors, which keep those of the source."""
    known = TYPES.get(format)
    if known is None:
        if asked is not None:
            why = "safetensors keep the numbers that the source has"
            raise UsageError("--type", why, "Leave it out, or add --to gguf or --to ctranslate2.")
        return None
    kind = asked.lower() if asked else DEFAULTS[format]
    if kind not in known:
        near = next(
            (one for pair in SAME if kind in pair for one in pair if one in known), known[0]
        )
        why = f"{asked!r:.40} is not one of {', '.join(known)}, for --to {format}"
        raise UsageError("--type", why, f"Write --type {near}.")
    return kind


def _check_file(place: Path, output: str, force: bool) -> None:
    if place.is_dir():
        raise CannotCreate(output, "it is a folder", f"Name a file: -o {output}/model{SUFFIX}")
    if place.exists() and not place.is_file():
        raise CannotCreate(output, "it is no regular file", "Give another name.")
    if place.exists() and not force:
        raise CannotCreate(output, "it exists already", "Overwrite with --force.")


def _check_folder(place: Path, output: str, force: bool) -> None:
    if os.path.lexists(place) and not place.is_dir():
        raise CannotCreate(output, "it is not a folder", "Give another name.")
    there = sorted(os.listdir(place)) if place.is_dir() else []  # noqa: PTH208
    if there and not force:
        raise CannotCreate(output, f"it holds {there[0]} already", "Overwrite with --force.")
