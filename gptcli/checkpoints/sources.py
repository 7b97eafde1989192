"""Models of other programs that `gptcli models convert` reads: what a file or folder holds.

Names decide, and the first bytes where a name says nothing. Nothing is read that a file could do
harm with: that is for `gptcli.checkpoints.formats`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from gptcli.checkpoints import inference_files, training_files
from gptcli.checkpoints.config_json import OTHER_MODEL
from gptcli.checkpoints.file_kinds import refuse_placeholder
from gptcli.checkpoints.hf_cache import is_cached
from gptcli.checkpoints.safetensors_headers import INDEX, MAX_INDEX_BYTES, PICKLED, SINGLE
from gptcli.checkpoints.training_files import TrainingFiles
from gptcli.errors import BadModel, MissingInput, UsageError
from gptcli.system.os_errors import reason
from gptcli.system.strict_json import corrupt, open_model_file, read_object, unsafe

BINARY_SHARD = re.compile(r"[A-Za-z0-9._-]+\.bin")
MAX_FOLDERS, MAX_SHOWN = 100, 5  # folders that are looked into, and names in an error
TF_H5, TF_INDEX = "tf_model.h5", "tf_model.h5.index.json"
TF_SHARD = re.compile(r"tf_model[A-Za-z0-9._-]*\.h5")
FLAX, FLAX_INDEX = "flax_model.msgpack", "flax_model.msgpack.index.json"
FLAX_SHARD = re.compile(r"flax_model[A-Za-z0-9._-]*\.msgpack")
KERAS_WEIGHTS = ("model.weights.h5", "model.weights.json")
KERAS_FILES = (  # beside the weights, where they are
    *("config.json", "task.json", "tokenizer.json"),
    *("assets/tokenizer/vocabulary.json", "assets/tokenizer/merges.txt"),
)


Finder = Callable[[Path, int | None], "ModelSource | None"]
"""(path, step) -> what there is; raises UsageError for a step that is not there."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model in another program's files.

    reader: the module of `gptcli.checkpoints.formats.locked.readers` for it. companions: the
    config.json and the tokenizer beside the files are those of the result; then weights can also be
    added to the same folder.
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
    said = "the folder holds" if path.is_dir() else f"{path.name} is"
    if found.companions and not path.is_dir() and _has_safetensors(path.parent):
        hint = f"The folder has been converted: use -m {_quoted(path.parent)}"
        return BadModel("foreign model", f"{said} {found.kind}", hint)
    return BadModel("foreign model", f"{said} {found.kind}", f"Convert it: {command(path, found)}")


def command(path: Path, found: ModelSource) -> str:
    """The command that converts what there is at a path."""
    if found.companions and not is_cached(path):
        return f"gptcli models convert {_quoted(path)}"
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - links keep their names
    stem = (whole.name if path.is_dir() else whole.stem) or "model"
    return f"gptcli models convert {_quoted(path)} -o {_quoted(Path(stem + '-converted'))}"


def _quoted(path: Path) -> str:
    """A path for a shell; one that begins as an option or as a home does gets its folder."""
    return shlex.quote(f"./{path}" if str(path).startswith(("-", "~")) else str(path))


def foreign(path: Path) -> ModelSource | None:
    """What must be converted before gptcli can run it; None where safetensors of ours are there.

    Raises BadModel for several models in one place.
    """
    if not path.is_dir() or not _has_safetensors(path):
        return recognise(path)
    found = _mlx(path, None)  # whose safetensors are named as ours are
    return None if found is None or found.files[1].name == inference_files.MLX_WEIGHTS else found


def _has_safetensors(folder: Path) -> bool:
    return (folder / SINGLE).exists() or (folder / INDEX).exists()


def find_source(path: Path, step: int | None = None) -> ModelSource:
    """What there is to convert at a path, a folder or a file.

    step: of a training run that kept several. Raises BadModel where there is nothing, or where an
    index names what is no file beside it; UsageError for a step that is not there.
    """
    found = recognise(path, step)
    if found is None:
        if path.is_dir() and _has_safetensors(path):
            hint = "Name another format: --to gguf or --to ctranslate2"
            raise BadModel("nothing to convert", f"{path}: it has safetensors already", hint)
        why = f"{path}: no model of another program is known there"
        raise BadModel("nothing to convert", why, "See: gptcli docs formats")
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
    try:
        if path.is_dir():
            return _first(IN_FOLDERS, path, step) or _run_inside(path, step)
        # What files begin with may also be no file.
        return _first(IN_FILES if path.is_file() else (_tensorflow,), path, step)
    except OSError as error:
        raise MissingInput(str(path), reason(error), "Check the path") from None


def _first(finders: Iterable[Finder], path: Path, step: int | None) -> ModelSource | None:
    found = (finder(path, step) for finder in finders)
    return next(filter(None, found), None)


def _run_inside(folder: Path, step: int | None) -> ModelSource | None:
    """The only model for TensorFlow in a folder of them: `checkpoint` has run1, `models` 124M."""
    inner = islice((place for place in sorted(folder.iterdir()) if place.is_dir()), MAX_FOLDERS)
    found = {place: model for place in inner if (model := _tensorflow(place, step))}
    if len(found) > 1:
        names = ", ".join(place.name for place in list(found)[:MAX_SHOWN])
        why = f"the folder holds {len(found)} models for TensorFlow: {names}"
        place, model = next(iter(found.items()))
        raise BadModel("foreign model", why, f"Convert one of them: {command(place, model)}")
    return next(iter(found.values()), None)


def _pickles(folder: Path, step: int | None) -> ModelSource | None:
    return _companion("pickled weights of PyTorch", "pickles", folder, PICKLED, BINARY_SHARD)


def _tf_h5(folder: Path, step: int | None) -> ModelSource | None:
    names = TF_H5, TF_INDEX
    return _companion("a TensorFlow model of transformers", "tf_h5", folder, names, TF_SHARD)


def _flax(folder: Path, step: int | None) -> ModelSource | None:
    names = FLAX, FLAX_INDEX
    return _companion("a Flax model of transformers", "flax_msgpack", folder, names, FLAX_SHARD)


def _companion(
    kind: str, reader: str, folder: Path, names: tuple[str, str], shard: re.Pattern[str]
) -> ModelSource | None:
    """Weights that transformers wrote beside config.json: one file, or an index and its shards."""
    single, index = (folder / name for name in names)
    if not single.exists() and not index.exists():
        return None
    files = [single] if single.exists() else _shards(index, shard)
    return ModelSource(kind=kind, reader=reader, folder=folder, files=tuple(files), companions=True)


def _keras_hub(folder: Path, step: int | None) -> ModelSource | None:
    """A preset of Keras Hub, whose metadata.json no other program writes."""
    weights = [folder / name for name in KERAS_WEIGHTS if (folder / name).exists()]
    if not weights or not (folder / "metadata.json").exists():
        return None
    shards = sorted(folder.glob("model_[0-9]*.weights.h5")) if weights[0].suffix == ".json" else []
    beside = [folder / name for name in KERAS_FILES if (folder / name).exists()]
    files = (*weights[:1], *shards, *beside)
    return ModelSource(kind="a preset of Keras Hub", reader="keras_hub", folder=folder, files=files)


def _keras_archive(file: Path, step: int | None) -> ModelSource | None:
    if file.suffix != ".keras":
        return None
    return ModelSource(
        kind="an archive of Keras", reader="keras_hub", folder=file.parent, files=(file,)
    )


def _beside(file: Path, step: int | None) -> ModelSource | None:
    """A file that stands for the folder that it lies in."""
    finders = {TF_H5: _tf_h5, FLAX: _flax, **dict.fromkeys(PICKLED, _pickles)}
    finders |= dict.fromkeys(KERAS_WEIGHTS, _keras_hub) | {inference_files.MLX_WEIGHTS: _mlx}
    return finders[file.name](file.parent, step) if file.name in finders else None


def _shards(index: Path, allowed: re.Pattern[str]) -> list[Path]:
    """The files beside an index that its weight_map names. Raises BadModel and MissingInput."""
    places = read_object(index, MAX_INDEX_BYTES).get("weight_map")
    listed = list(places.values()) if isinstance(places, dict) else []
    for name in listed:
        if not isinstance(name, str) or not allowed.fullmatch(name):
            suffix = allowed.pattern.rpartition(".")[2]
            rule = f"shard {name!r:.80} is not a .{suffix} beside it"
            raise unsafe(index, rule, OTHER_MODEL)
    if not listed:
        raise corrupt(index, "weight_map is not an object that names shards")
    return [index.parent / name for name in sorted({str(name) for name in listed})]


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


def _gguf(path: Path, step: int | None) -> ModelSource | None:
    kind = "a GGUF model, for llama.cpp"
    return _made_for(kind, "gguf_file", inference_files.gguf_files(path))


def _mlx(path: Path, step: int | None) -> ModelSource | None:
    return _made_for("an MLX model", "mlx", inference_files.mlx_files(path))


def _made_for(kind: str, reader: str, files: tuple[Path, ...] | None) -> ModelSource | None:
    if files is None:
        return None
    return ModelSource(kind=kind, reader=reader, folder=files[0].parent, files=files)


IN_FOLDERS: tuple[Finder, ...] = (
    *(_pickles, _tf_h5, _flax, _keras_hub),
    *(_tensorflow, _torch, _llmc, _gguf, _mlx),
)
IN_FILES: tuple[Finder, ...] = (
    *(_beside, _keras_archive),
    *(_tensorflow, _torch, _llmc, _gguf),
)
