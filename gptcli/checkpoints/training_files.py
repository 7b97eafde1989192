"""Which files belong to a model that a program of training left behind.

TensorFlow's runs (gpt-2-simple, nshepperd), checkpoints of nanoGPT and Lightning, llm.c's models.
Names decide, and of `.bin` files the first bytes. What belongs to a model may also lie where these
programs keep it: hparams.json in `models/124M`, a data set's characters in `data/NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gptcli.errors import UsageError
from gptcli.system.strict_json import open_model_file, read_bytes

STATE = "checkpoint"  # TensorFlow's list of the steps that were kept
MAX_STATE_BYTES = 2**20
LATEST = re.compile(rb'^model_checkpoint_path: "(?:[^"\n]*[/\\])?([^"/\\\n]+)"', re.MULTILINE)
STEP = re.compile(r"[-_](\d{1,12})$")
INDEX_SUFFIX = ".index"
BUNDLE_FILES = ("hparams.json", "encoder.json", "vocab.bpe")
TORCH_SUFFIXES = (".pt", ".pth", ".ckpt")
NO_MODEL = re.compile(r"(?:optimizer|scheduler|scaler|rng_state(?:_\d+)?)\.(?:pt|pth)")
TORCH_FILES = (
    *("config.json", "tokenizer.json", "vocab.json", "merges.txt", "encoder.json", "vocab.bpe"),
    "meta.pkl",
)
LLMC_MAGIC = (20240326).to_bytes(4, "little")
LLMC_TOKENS = "gpt2_tokenizer.bin"
MAX_NEIGHBOURS = 100  # files of other folders that are looked at


@dataclass(frozen=True, kw_only=True)
class TrainingFiles:
    """The files of a model, the weights first; `step` is the one that was taken of a run's."""

    files: tuple[Path, ...]
    step: int | None = None


def tensorflow_files(path: Path, step: int | None) -> TrainingFiles | None:
    """Of a folder with bundles, an `.index`, or a bundle's name without it.

    Raises UsageError for a step that is not there.
    """
    if path.is_dir():
        indexes = [file for file in path.glob("*" + INDEX_SUFFIX) if _data_of(file)]
        latest = _latest(path / STATE) if step is None else None
    else:
        named = path if path.name.endswith(INDEX_SUFFIX) else Path(f"{path}{INDEX_SUFFIX}")
        indexes, latest = [named] if named.is_file() and _data_of(named) else [], None
    if not indexes:
        return None
    preferred = [file for file in indexes if file.name == f"{latest}{INDEX_SUFFIX}"]
    index, taken = _of_step(preferred or indexes, step)
    folder = index.parent
    beside = [folder / name for name in BUNDLE_FILES if (folder / name).is_file()]
    for above in (folder, *list(folder.absolute().parents)[:2]):
        if len(beside) < len(BUNDLE_FILES):
            beside += _neighbours(above / "models", BUNDLE_FILES)
    return TrainingFiles(files=(index, *_data_of(index), *beside), step=taken)


def torch_files(path: Path) -> TrainingFiles | None:
    """Of a checkpoint, or of a folder that has one: nanoGPT's, or a single one of any name."""
    if path.is_dir():
        found = [
            file
            for file in path.iterdir()
            if file.suffix in TORCH_SUFFIXES and not NO_MODEL.fullmatch(file.name)
        ]
        named = [file for file in found if file.name == "ckpt.pt"] or found
        if len(named) != 1:
            return None
        path = named[0]
    if path.suffix not in TORCH_SUFFIXES or not path.is_file():
        return None
    folder = path.parent
    beside = [folder / name for name in TORCH_FILES if (folder / name).is_file()]
    for above in list(folder.absolute().parents)[:2]:
        beside += _neighbours(above / "data", TORCH_FILES[-1:])
    return TrainingFiles(files=(path, *beside))


def llmc_files(path: Path, step: int | None) -> TrainingFiles | None:
    """Of a model of llm.c, or of a folder that has some.

    Raises UsageError for a step that is not there.
    """
    found = sorted(path.glob("*.bin")) if path.is_dir() else [path]
    models = [file for file in found if file.suffix == ".bin" and _begins(file, LLMC_MAGIC)]
    if not models:
        return None
    model, taken = _of_step(models, step)
    folders = (model.parent, *list(model.absolute().parents)[1:2])
    others = [model.with_name(model.stem + "_debug_state.bin")]
    others += [folder / LLMC_TOKENS for folder in folders]
    there = [file for file in others if file.is_file()]
    return TrainingFiles(files=(model, *there[:2]), step=taken)


def _of_step(files: Iterable[Path], step: int | None) -> tuple[Path, int | None]:
    """The file of a step, or of the last one, and the step; files without one come first."""
    steps: dict[int | None, Path] = {}
    for file in sorted(files):
        match = STEP.search(file.stem)
        steps[int(match[1]) if match else None] = file
    if step is None:
        last = max(steps, key=lambda number: -1 if number is None else number)
        return steps[last], last
    if step not in steps:
        known = ", ".join(map(str, sorted(filter(None, steps)))) or "none"
        raise UsageError("--step", f"there is no step {step}", f"There are: {known}.")
    return steps[step], step


def _data_of(index: Path) -> list[Path]:
    """The data files of a bundle."""
    name = index.name.removesuffix(INDEX_SUFFIX)
    pattern = re.compile(re.escape(name) + r"\.data-\d{5}-of-\d{5}")
    return sorted(file for file in index.parent.iterdir() if pattern.fullmatch(file.name))


def _latest(state: Path) -> str | None:
    """The bundle that TensorFlow's state says is the latest, without its folder."""
    if not state.is_file():
        return None
    match = LATEST.search(read_bytes(state, MAX_STATE_BYTES))
    return match[1].decode("utf-8", "replace") if match else None


def _neighbours(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Files of these names in the folders of a folder."""
    found = (file for name in names for file in sorted(folder.glob(f"*/{name}")))
    return islice((file for file in found if file.is_file()), MAX_NEIGHBOURS)


def _begins(file: Path, magic: bytes) -> bool:
    if not file.is_file():
        return False
    with open_model_file(file) as stream:
        return stream.read(len(magic)) == magic
