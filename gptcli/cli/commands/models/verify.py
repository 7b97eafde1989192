"""`gptcli models verify`: are a model's files the ones that were published?

Exit codes: 65 where a file is wrong or missing; else 69 where a file has no checksum to be compared
with, because what cannot be verified has not been; else 0.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from gptcli.checkpoints.resolve import Checkpoint, on_disk
from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.output import render
from gptcli.cli.output.sink import write, write_json
from gptcli.errors import BadModel, Unavailable, UsageError
from gptcli.models.entries import inventory
from gptcli.models.options import Extent, Which
from gptcli.models.verification import Check, VerifyProgress
from gptcli.models.verification import verify as verified
from gptcli.options import AsJson, Talk
from gptcli.system.sanitizer import one_line
from gptcli.system.units import counted, model_size

MIN_SHOWN_SIZE = 2**26  # bytes of a file whose reading is shown


@dataclass(frozen=True)
class VerifiedModel:
    """What was found of one model."""

    checkpoint: Checkpoint
    checks: tuple[Check, ...]

    def of(self, *verdicts: str) -> list[Check]:
        """The files with one of these verdicts."""
        return [check for check in self.checks if check.verdict in verdicts]

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "model": self.checkpoint.name,
            "revision": self.checkpoint.revision,
            "path": str(self.checkpoint.folder),
            "right": len(self.of("right")),
            "wrong": len(self.of("wrong", "missing")),
            "unknown": len(self.of("unknown")),
            "files": [check.to_dict() for check in self.checks],
        }


@command(naming=("name",))
def verify(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A model: Hub id, alias, folder, or tiny-tales.",
            show_default=False,
            autocompletion=candidates.models,
        ),
    ] = None,
    *,
    which: Which,
    extent: Extent,
    shape: AsJson,
    talk: Talk,
) -> None:
    """Compare every file of a model, or of all models, with its checksum; without a network.

    Files of the Hugging Face cache are named by their checksums, and so are those of a folder that
    hf download --local-dir filled; any other folder cannot be verified (69).
    """
    results = []
    with _reading(talk.quiet) as progress:
        for checkpoint in _meant(name, which, extent):
            tell = progress(checkpoint.name) if progress else None
            results.append(VerifiedModel(checkpoint, tuple(verified(checkpoint, tell))))
    if shape.json:
        write_json([result.to_dict() for result in results])
    else:
        write("".join(line + "\n" for result in results for line in _lines(result)))
    _judge(results)


def _meant(name: str | None, which: Which, extent: Extent) -> list[Checkpoint]:
    if extent.all:
        if name is not None or which.revision is not None:
            raise UsageError("--all", "a model is named too", "Give one of them.")
        return [
            Checkpoint(
                name=entry.name,
                folder=entry.path,
                revision=entry.revision,
                source="bundled" if entry.kind == "bundled" else "cache",
            )
            for entry in inventory().entries
            if entry.revision is not None or entry.kind == "bundled"
        ]
    if name is None:
        raise UsageError("NAME", "no model is named", "Name one, or say --all.")
    return [on_disk(name, which.revision)]


def _lines(result: VerifiedModel) -> Iterator[str]:
    """One line for a model that is right, else one for each file that is not."""
    checkpoint = result.checkpoint
    title = checkpoint.name + (f" {checkpoint.revision[:7]}" if checkpoint.revision else "")
    right = result.of("right")
    size = model_size(sum(check.size for check in right))
    if right and len(right) == len(result.checks):
        yield one_line(f"{title}: {len(right)} files are right, {size}")
    for check in result.of("wrong", "missing", "unknown"):
        yield one_line(f"{title}: {check.name}: {check.verdict}: {_said(check)}")


def _said(check: Check) -> str:
    if check.expected is None or check.verdict == "missing":
        return check.why
    sums = f"expected {check.algorithm} {check.expected}, found {check.actual}"
    return f"{check.why}: {sums}" if check.actual else check.why


def _judge(results: list[VerifiedModel]) -> None:
    """Raises BadModel for what is wrong, Unavailable for what cannot be verified."""
    for result in results:
        if wrong := result.of("wrong", "missing"):
            check, name = wrong[0], result.checkpoint.name
            others = sum(len(result.of("wrong", "missing")) for result in results) - 1
            more = f" (and {counted(others, 'more file')})" if others else ""
            raise BadModel(f"{name}: {check.name}", f"{_said(check)}{more}", _remedy(result))
    for result in results:
        if unknown := result.of("unknown"):
            what = f"{result.checkpoint.name}: {unknown[0].name}"
            count = f"{len(unknown)} of {len(result.checks)} files cannot be verified"
            why = f"no checksum is known, so {count}"
            raise Unavailable(what, why, "Compare them with those of the model's page")
        if not result.checks:
            raise Unavailable(result.checkpoint.name, "there are no files to verify", "")


def _remedy(result: VerifiedModel) -> str:
    checkpoint = result.checkpoint
    if checkpoint.source == "bundled":
        return "Install gptcli again"
    if checkpoint.source == "path":
        return "Download it again"
    name = shlex.quote(checkpoint.name)
    if not result.of("wrong"):
        return f"Fetch what is missing: gptcli models pull {name}"
    return f"Fetch it again: gptcli models rm {name}, then gptcli models pull {name}"


@contextmanager
def _reading(quiet: bool) -> Iterator[Callable[[str], VerifyProgress] | None]:
    """Show on a terminal which large file is read, and how far."""
    if quiet:
        yield None
        return
    with render.status() as show:
        yield None if show is None else lambda model: _progress(show, model)


def _progress(show: Callable[[str], None], model: str) -> VerifyProgress:
    def progress(file: str, done: int, size: int) -> None:
        if size >= MIN_SHOWN_SIZE:
            show(f"{model}: {file}: {100 * done // size} % of {model_size(size)}")

    return progress
