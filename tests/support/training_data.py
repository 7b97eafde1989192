"""Small data for training: files that a test names become a corpus, and texts again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

import gptcli
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.training.data.corpus import TrainingCorpus
from gptcli.training.data.options import TrainingData
from gptcli.training.data.pieces import PieceTable
from gptcli.training.data.preparing import prepare

WORDS = ("the", "old", "king", "had", "a", "golden", "bird", "and", "three", "sons", "who", "rode")


@cache
def tales_tokenizer() -> Tokenizer:
    """That of the model that comes along; no test may limit it."""
    return load_tokenizer(Path(gptcli.__file__).parent / "bundled" / "tiny-tales")


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of no sense, no two alike."""
    random = np.random.default_rng(seed)
    return [f"Tale {n}: {' '.join(random.choice(WORDS, 12))}." for n in range(count)]


def lay(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files, with the folders that they lie in."""
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())


def prepared(
    folder: Path,
    files: Mapping[str, str | bytes],
    *names: str,
    context: int = 16,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
    out: str = "run",
    **reading: object,
) -> TrainingCorpus:
    """The corpus of files, which are all of `files` unless names are given."""
    lay(folder, files)
    data = [str(folder / name) for name in names or files]
    if "valid" in reading:
        reading["valid"] = str(folder / str(reading["valid"]))
    options = TrainingData(**reading)
    chosen = tokenizer or tales_tokenizer()
    return prepare(data, options, chosen, context, seed, folder / out)


def texts(table: PieceTable | None, tokenizer: Tokenizer | None = None) -> list[str]:
    """The documents of a table in the order of the data: its pieces joined, and decoded."""
    if table is None:
        return []
    tokenizer = tokenizer or tales_tokenizer()
    found: list[list[int]] = []
    ended = True
    for start, length in sorted(zip(table.starts.tolist(), table.lengths.tolist(), strict=True)):
        targets = table.ids[start + 1 : start + length + 1].tolist()
        if ended:
            found.append([])
        found[-1] += targets
        ended = targets[-1] == tokenizer.eos_id
    return [tokenizer.decode(ids) for ids in found]
