"""Models of other programs that `gptcli models convert` reads: what a file or folder holds.

Names decide, and the first bytes where a name says nothing. Nothing is read that a file could do
harm with: that is for `gptcli.checkpoints.formats`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gptcli.checkpoints import training_files
from gptcli.checkpoints.config_json import OTHER_MODEL
from gptcli.checkpoints.file_kinds import refuse_placeholder
from gptcli.checkpoints.safetensors_headers import INDEX, MAX_INDEX_BYTES, PICKLED, SINGLE
from gptcli.checkpoints.training_files import TrainingFiles
from gptcli.errors import BadModel, UsageError
from gptcli.system.strict_json import corrupt, open_model_file, read_object, unsafe

BINARY_SHARD = re.compile(r"[A-Za-z0-9._-]+\.bin")
MAX_STATE_BYTES = 2**20  # of TensorFlow's `checkpoint`, which lists the steps that were kept
LATEST = re.compile(r'^model_checkpoint_path: "([^"/\\]+)"', re.MULTILINE)
STEP = re.compile(r"-(\d{1,12})$")


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model in another program's files.

    reader: the module of `gptcli.checkpoints.formats.locked` for it. companions: the config.json
    and the tokenizer beside the files are those of the result; then weights can also be added to
    the same folder.
    """

    kind: str  # as a part of a sentence: "a GGUF model, for llama.cpp"
    reader: str
    folder: Path
    files: tuple[Path, ...]
    companions: bool = False
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The file's name, or of several the first one's."""
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return self.files[0].name + more


def refusal(path: Path) -> BadModel | None:
    """The error for a model that must be converted first; None where none is recognised."""
    found = recognise(path)
    if found is None:
        return None
    output = "" if found.companions else f" -o {shlex.quote(path.stem + '-converted')}"
    hint = f"Convert it: gptcli models convert {shlex.quote(str(path))}{output}"
    said = f"{path.name} is" if path.is_file() else "the folder holds"
    return BadModel("foreign model", f"{said} {found.kind}", hint)


def find_source(path: Path, step: int | None = None) -> ModelSource:
    """What there is to convert at a path, a folder or a file.

    step: of a training run that kept several. Raises BadModel where there is nothing, or where an
    index names what is no file beside it; UsageError for a step that is not there.
    """
    found = recognise(path, step)
    if found is None:
        done = path.is_dir() and ((path / SINGLE).exists() or (path / INDEX).exists())
        why = "it has safetensors already" if done else "no model of another program is known there"
        raise BadModel("nothing to convert", f"{path}: {why}", "See: gptcli docs formats")
    if step is not None and "step" not in found.options:
        raise UsageError("--step", f"{found.kind} has no steps", "Leave it out.")
    for file in found.files:
        open_model_file(file).close()
        refuse_placeholder(file)
    return found


def recognise(path: Path, step: int | None = None) -> ModelSource | None:
    """As `find_source`, with None where nothing is recognised; no file is opened but indexes.

    Safetensors in the same folder do not count.
    """
    for finder in IN_FOLDERS if path.is_dir() else IN_FILES:
        if (found := finder(path, step)) is not None:
            return found
    return None


def _pickles(folder: Path, step: int | None) -> ModelSource | None:
    single, index = (folder / name for name in PICKLED)
    if single.exists():
        files = [single]
    elif index.exists():
        files = _shards(index, BINARY_SHARD)
    else:
        return None
    return ModelSource(
        kind="pickled weights of PyTorch",
        reader="pickles",
        folder=folder,
        files=tuple(files),
        companions=True,
    )


def _shards(index: Path, allowed: re.Pattern[str]) -> list[Path]:
    """The files beside an index that its weight_map names. Raises BadModel and MissingInput."""
    places = read_object(index, MAX_INDEX_BYTES).get("weight_map")
    listed = list(places.values()) if isinstance(places, dict) else []
    for name in listed:
        if not isinstance(name, str) or not allowed.fullmatch(name):
            rule = f"shard {name!r:.80} is not a {allowed.pattern[-4:].lstrip(chr(92))} beside it"
            raise unsafe(index, rule, OTHER_MODEL)
    if not listed:
        raise corrupt(index, "weight_map is not an object that names shards")
    return [index.parent / name for name in sorted({str(name) for name in listed})]


def _pickle(file: Path, step: int | None) -> ModelSource | None:
    """A single pickle stands for the folder that it lies in."""
    return _pickles(file.parent, step) if file.name in PICKLED else None


def _tensorflow(path: Path, step: int | None) -> ModelSource | None:
    kind = "a GPT-2 for TensorFlow 1"
    return _trained(kind, "tf_bundle", training_files.tensorflow_files(path, step))


def _torch(path: Path, step: int | None) -> ModelSource | None:
    kind = "a checkpoint of a training program for PyTorch"
    return _trained(kind, "nanogpt", training_files.torch_files(path))


def _llmc(path: Path, step: int | None) -> ModelSource | None:
    return _trained("a model of llm.c", "llmc", training_files.llmc_files(path, step))


def _trained(kind: str, reader: str, found: TrainingFiles | None) -> ModelSource | None:
    if found is None:
        return None
    options = {} if found.step is None else {"step": found.step}
    folder = found.files[0].parent
    return ModelSource(kind=kind, reader=reader, folder=folder, files=found.files, options=options)


Finder = Callable[[Path, int | None], ModelSource | None]
IN_FOLDERS: tuple[Finder, ...] = (_pickles, _tensorflow, _torch, _llmc)
IN_FILES: tuple[Finder, ...] = (_pickle, _tensorflow, _torch, _llmc)
