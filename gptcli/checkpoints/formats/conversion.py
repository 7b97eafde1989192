"""Models of other programs converted to ours, in a process without rights.

Never done by itself: only `gptcli models convert` starts it, and `models info` to look. The files
are read by `gptcli.checkpoints.formats.locked.program`, see `process` beside this. What comes out
is checked as any checkpoint is, and by what it computes, before it is moved to its place in one
step. A record says what was made of what: digests of the source's files, of every tensor and of
every file that was made.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from gptcli.checkpoints.config_json import CONFIG, OTHER_MODEL
from gptcli.checkpoints.formats import process
from gptcli.checkpoints.formats.locked.source import Proof, some
from gptcli.checkpoints.formats.process import ToldSource
from gptcli.checkpoints.hf_cache import is_cached
from gptcli.checkpoints.hub.offer import small_files
from gptcli.checkpoints.integrity import digests
from gptcli.checkpoints.integrity.noted import RECORD, write_note
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.checkpoints.safetensors_headers import INDEX, NOTE, SINGLE
from gptcli.checkpoints.sources import ModelSource
from gptcli.checkpoints.tokenization.files import names_in
from gptcli.errors import BadModel, CannotCreate, GptcliError, UsageError, WriteFailed
from gptcli.system import durable
from gptcli.system.os_errors import reason
from gptcli.system.strict_json import read_object

__all__ = ["RECORD", "Converted", "SelfCheck", "check_target", "convert", "failed", "look", "place"]

COMPANION_FILES = {"README.md", "LICENSE"}  # what goes along into another folder, too
MARGIN_BYTES = 2**26  # bytes that must stay free


@dataclass(frozen=True, kw_only=True)
class SelfCheck:
    """What our plainest network computed with a converted model.

    text: what was read; None where there is no tokenizer, then some ids. loss: nats a token.
    compared: tokens of which the source's own program left its log-probability beside the model;
    largest: by how much ours differs at most, in nats.
    """

    text: str | None
    tokens: int
    loss: float
    compared: int = 0
    largest: float | None = None

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        largest = self.largest
        return {
            "text": self.text,
            "tokens": self.tokens,
            "loss_nats": round(self.loss, 4),
            "compared_tokens": self.compared,
            "largest_difference_nats": None if largest is None else float(f"{largest:.2g}"),
        }


Prove = Callable[[CheckedCheckpoint, Proof | None], SelfCheck | None]
"""(model, what the source's program computed) -> what ours does; raises BadModel where it differs.
None for what is no GPT-2. Networks are above this room, so the caller gives it."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A model in safetensors; `left_out` are the source's other tensors, each with its reason."""

    source: ModelSource
    folder: Path
    tensors: int
    size: int  # bytes of the weights
    left_out: Mapping[str, str]
    notices: tuple[str, ...] = ()
    check: SelfCheck | None = None

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        return {
            "path": str(self.folder),
            "file": SINGLE,
            "format": self.source.kind,
            "tensors": self.tensors,
            "bytes": self.size,
            "left_out": dict(self.left_out),
            "notices": list(self.notices),
            "self_check": self.check.to_dict() if self.check else None,
        }


def check_target(source: ModelSource, output: str | None, force: bool) -> Path:
    """The folder that the result goes to. Raises UsageError, CannotCreate."""
    folder = source.folder
    if output is None:
        if not source.companions:
            why = f"{source.shown} is {source.kind}, which becomes a folder of its own"
            raise UsageError(str(folder), why, "Name the new folder with -o FOLDER.")
        target, what = folder, [SINGLE, INDEX]
    else:
        if not output or "\0" in output:
            raise UsageError("--output", "it is no name of a folder", "Give another name.")
        target = Path(os.path.expanduser(output))  # noqa: PTH111 - never raises
        if os.path.lexists(target) and not target.is_dir():
            raise CannotCreate(output, "it is not a folder", "Give another name.")
        what = sorted(os.listdir(target)) if target.is_dir() else []  # noqa: PTH208
        if not source.companions:
            refuse_own_folder(folder, target)
    refuse_cache(target)
    there = [name for name in what if os.path.lexists(target / name)]
    if there and not force:
        raise CannotCreate(f"{target}", f"it holds {there[0]} already", "Overwrite with --force.")
    return target


def refuse_own_folder(folder: Path, target: Path) -> None:
    """Raise UsageError where a result would take the place of files that it is made of."""
    if os.path.realpath(folder) == os.path.realpath(target):
        why = "it holds the files to convert, and some would be replaced"
        raise UsageError("--output", why, "Give another folder.")


def refuse_cache(target: Path) -> None:
    """Raise UsageError for a place in the Hugging Face cache."""
    if is_cached(target):
        why = "it is in the cache, which holds what was downloaded and nothing else"
        raise UsageError(str(target), why, "Give another folder with -o FOLDER.")


def convert(
    source: ModelSource, staging: Path, prove: Prove | None = None, whole: bool = True
) -> Converted:
    """Make a model of another program's files in the empty folder `staging`, and check it.

    whole: as for `place`; the record lists the files that are put in their place.
    Raises BadModel (damaged or hostile files, or what comes out is no model, or computes something
    else), MissingInput, Unavailable (a reader's library is not installed), WriteFailed.
    """
    size = sum(file.stat().st_size for file in source.files)
    if shutil.disk_usage(staging).free < size + MARGIN_BYTES:
        raise WriteFailed(str(staging.parent), "no space left on device", "Make room.")
    answer = process.run(staging / SINGLE, source, _options(source))
    try:
        if source.companions:
            _copy_companions(source.folder, staging)
        for name, text in _texts(answer).items():
            durable.save(staging / name, text.encode())
        checked = inspect(staging)
        _refuse_more(source, answer, checked)
        check = prove(checked, _proof(answer, checked)) if prove else None
        made = {name: digests.digest(staging / name) for name in _kept(staging, whole)}
        durable.save(staging / RECORD, _record(source, answer, check, made))
        write_note(staging)
        durable.sync_folder(staging / SINGLE)
    except OSError as error:
        raise failed(Path(error.filename2 or error.filename or staging), error) from None
    return Converted(
        source=source,
        folder=staging,
        tensors=len(answer["tensors"]),
        size=(staging / SINGLE).stat().st_size,
        left_out=answer["left_out"],
        notices=(*answer["notices"], *checked.notices),
        check=check,
    )


def _refuse_more(source: ModelSource, told: ToldSource, checked: CheckedCheckpoint) -> None:
    """Raise BadModel for tensors that no GPT-2 of this configuration has; pickles may hold some."""
    known = dict(checked.gpt2.tensors()) if checked.gpt2 else told["tensors"]
    more = [name for name in told["tensors"] if name not in known]
    if more and source.reader != "pickles":
        why = f"tensors that a GPT-2 of this {CONFIG} lacks: {some(more)}"
        raise BadModel("unsafe model file", why, OTHER_MODEL)


def look(source: ModelSource) -> ToldSource:
    """What the headers of another program's files say, read as `convert` reads them.

    Raises BadModel, MissingInput, Unavailable, WriteFailed.
    """
    with TemporaryDirectory(prefix="gptcli-look-") as folder:
        return process.run(Path(folder, SINGLE), source, _options(source), look=True)


def _options(source: ModelSource) -> dict[str, object]:
    """What the reader is told: `tied` where the configuration beside the files decides."""
    if not source.companions:
        return dict(source.options)
    config = read_object(source.folder / CONFIG)
    return {**source.options, "tied": config.get("tie_word_embeddings") is not False}


def _proof(answer: ToldSource, checked: CheckedCheckpoint) -> Proof | None:
    """What the source's own program computed. Raises BadModel for what the model cannot read."""
    told = answer.get("proof")
    if told is None or checked.gpt2 is None:
        return None
    vocabulary, longest = checked.gpt2.vocab_size, checked.gpt2.n_positions + 1
    rows = list(zip(told["ids"], told["logprobs"], strict=False))
    for ids, logprobs in rows:
        known = all(type(id) is int and 0 <= id < vocabulary for id in ids)
        numbers = all(isinstance(number, float | int) for number in logprobs)
        if not known or not numbers or not len(logprobs) + 1 == len(ids) <= longest:
            raise BadModel("unsafe model file", "its proof is none for this model", OTHER_MODEL)
    return Proof(
        ids=tuple(tuple(ids) for ids, _ in rows),
        logprobs=tuple(tuple(map(float, logprobs)) for _, logprobs in rows),
    )


def _copy_companions(folder: Path, staging: Path) -> None:
    names = set(names_in(folder))
    for name in sorted(small_files(names) | (COMPANION_FILES & names)):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, staging / name)
            durable.flush_file(staging / name)


def _texts(answer: ToldSource) -> dict[str, str]:
    """The files that the process made beside the weights."""
    texts = dict(answer["texts"])
    if answer["config"] is not None:
        texts[CONFIG] = json.dumps(answer["config"], indent=2) + "\n"
    strange = sorted(texts.keys() - small_files(texts))
    if strange:
        raise BadModel("unsafe model file", f"it would make {strange[0]!r:.80}", OTHER_MODEL)
    return texts


def _record(
    source: ModelSource, answer: ToldSource, check: SelfCheck | None, made: Mapping[str, str]
) -> bytes:
    """What was made of what, as JSON: the same bytes each time."""
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": digests.digest(file)}
        for file in source.files
    }
    record = {
        "format": answer["format"],
        "files": files,
        "tensors": answer["tensors"],
        "left_out": answer["left_out"],
        "notices": answer["notices"],
        "self_check": check.to_dict() if check else None,
        "made": dict(made),
    }
    return (json.dumps(record, indent=2) + "\n").encode()


def place(staging: Path, target: Path, whole: bool) -> None:
    """Move the checked weights to their place; with `whole`, and the small files beside them.

    Each file appears at once and whole. Raises CannotCreate, WriteFailed.
    """
    try:
        if whole and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            durable.put(staging, target)
            return
        durable.remove(target / NOTE)  # of what was there
        for name in sorted(_kept(staging, whole), key=(SINGLE, NOTE).__contains__):  # come last
            durable.put(staging / name, target / name)
        if (target / INDEX).exists():  # of older shards, which the new file takes the place of
            durable.remove(target / INDEX)
            durable.sync_folder(target / INDEX)
    except OSError as error:
        raise failed(target, error) from None


def _kept(staging: Path, whole: bool) -> list[str]:
    """The files that go to their place; without `whole` those that are not there already."""
    return [name for name in names_in(staging) if whole or name in (RECORD, SINGLE, NOTE)]


def failed(path: Path, error: OSError) -> GptcliError:
    """The error for a folder that cannot be made or written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return WriteFailed(str(path), reason(error), "Make room, or give another folder with -o.")
    return CannotCreate(str(path), reason(error), "Give another folder with -o FOLDER.")
