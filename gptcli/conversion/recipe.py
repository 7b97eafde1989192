"""The steps of a conversion: plan, make it all in a folder of its own, prove it, put it in place.

A model for llama.cpp or CTranslate2 is written from a model of ours; another program's files become
one first, which is dropped afterwards. Whatever fails, nothing is put in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gptcli.checkpoints import sources
from gptcli.checkpoints.formats import conversion
from gptcli.checkpoints.formats.conversion import Converted
from gptcli.checkpoints.formats.writers.ctranslate2 import write_ctranslate2
from gptcli.checkpoints.formats.writers.gguf_file import write_gguf
from gptcli.checkpoints.formats.writers.proof import Comparison, prove
from gptcli.checkpoints.formats.writers.tensors import WrittenModel
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.sources import ModelSource, find_source
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.conversion.proof import log_probabilities, self_check, tokenizer_of
from gptcli.conversion.target import ForeignTarget, refuse_source, written
from gptcli.errors import BadModel, GptcliError, UsageError
from gptcli.models.options import Target
from gptcli.system import durable


@dataclass(frozen=True, kw_only=True)
class ConversionPlan:
    """What is made of what.

    source: another program's model; None for `path`, a model of ours. name: what the model is
    called. written: the other program's format; None for a model of ours. place: where it goes.
    """

    path: Path
    name: str
    source: ModelSource | None
    written: ForeignTarget | None
    place: Path
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Made:
    """What was made: a model of ours, or one for another program, by itself or by way of one."""

    place: Path
    source: str
    converted: Converted | None
    written: WrittenModel | None = None
    comparison: Comparison | None = None

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know of each step."""
        first = self.converted.notices if self.converted else ()
        return first + (self.written.notices if self.written else ())

    @property
    def left_out(self) -> Mapping[str, str]:
        """The source's other tensors, each with its reason."""
        return self.converted.left_out if self.converted else {}

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        first = self.converted.to_dict() if self.converted else {}
        if self.written is None:
            return {**first, "path": str(self.place)}
        return {
            **self.written.to_dict(),
            "path": str(self.place),
            "source": first.get("format", self.source),
            "left_out": dict(self.left_out),
            "notices": list(self.notices),
            "self_check": first.get("self_check"),
            "comparison": self.comparison.to_dict() if self.comparison else None,
        }


def plan(path: Path, name: str, target: Target) -> ConversionPlan:
    """What is to be made of the model at a path.

    Raises UsageError, CannotCreate (a place that is taken), BadModel, MissingInput.
    """
    other = written(target)
    ours = other is not None and sources.foreign(path) is None and path.is_dir()
    if ours and target.step is not None:
        raise UsageError("--step", "a model of ours has no steps", "Leave it out.")
    source = None if ours else find_source(path, target.step)
    if other is None:
        assert source is not None
        place = conversion.check_target(source, target.output, target.force)
    else:
        place = other.place
        refuse_source(place, source.folder if source else path, source.files if source else ())
    return ConversionPlan(
        path=path,
        name=name,
        source=source,
        written=other,
        place=place,
        whole=target.output is not None,
    )


def make(found: ConversionPlan, staging: Path) -> Made:
    """Make it in the empty folder `staging`, prove it, and put it in its place.

    Raises BadModel, MissingInput, Unavailable, WriteFailed, CannotCreate.
    """
    if found.written is None:
        assert found.source is not None
        made = conversion.convert(found.source, staging, self_check, found.whole)
        conversion.place(staging, found.place, whole=found.whole)
        return Made(place=found.place, source=found.name, converted=made)
    converted, checkpoint = None, found.path
    if found.source is not None:
        checkpoint = staging.with_name("converted")
        checkpoint.mkdir()
        converted = conversion.convert(found.source, checkpoint, self_check)
        _check_tokenizer(checkpoint, found.source, found.written)
    model, comparison = _written(found.written, checkpoint, found.name, staging)
    return Made(
        place=found.place,
        source=found.name,
        converted=converted,
        written=model,
        comparison=comparison,
    )


def _check_tokenizer(checkpoint: Path, source: ModelSource, asked: ForeignTarget) -> None:
    """Raise BadModel where a source has no tokenizer for a format that needs one."""
    try:
        load_tokenizer(checkpoint)
    except GptcliError as error:
        why = f"{asked.format} needs a tokenizer ({error.what})"
        hint = "Convert it without --to, copy its tokenizer into the new folder, and convert that"
        raise BadModel(source.shown, why, hint) from None


def _written(
    asked: ForeignTarget, checkpoint: Path, name: str, staging: Path
) -> tuple[WrittenModel, Comparison | None]:
    """A model for another program, in its place, and what that program computes with it."""
    if asked.format == "gguf":
        model = write_gguf(checkpoint, staging / "model.gguf", asked.type, name)
    else:
        model = write_ctranslate2(checkpoint, staging, asked.type)
    checked = inspect(checkpoint)
    assert checked.gpt2 is not None
    tokenizer = tokenizer_of(checked)
    compared = (
        prove(model, tokenizer, checked.gpt2.n_positions, log_probabilities(checked))
        if tokenizer and checked.gpt2.n_positions > 1
        else None
    )
    if asked.format == "gguf":
        _put(model.place, asked.place)
    else:
        conversion.place(staging, asked.place, whole=True)
    return replace(model, place=asked.place), compared


def _put(file: Path, place: Path) -> None:
    try:
        target = durable.followed(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        durable.put(file, target)
    except OSError as error:
        raise conversion.failed(place, error) from None
