"""Token ids and pieces of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.errors import BadInput, MissingInput
from gptcli.training.data.corpus import TrainingCorpus, TrainingFile
from gptcli.training.data.pieces import PieceTable
from gptcli.training.options import TrainingData

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer


def prepare(
    data: Sequence[str],
    reading: TrainingData,
    tokenizer: Tokenizer,
    context: int,
    seed: int,
    folder: Path,
    progress: Callable[[float], None] | None = None,
) -> TrainingCorpus:
    """The corpus of text files, documents between blank lines."""
    import numpy as np

    end = tokenizer.eos_id or 0
    sources, documents = [], []
    for name in data:
        path = Path(name)
        if not path.is_file():
            raise MissingInput(name, "no such file", "Check the path")
        text = path.read_text(encoding="utf-8")
        found = [part for part in text.split("\n\n") if part.strip()]
        digest = sha256(path.read_bytes()).hexdigest()
        sources.append(
            TrainingFile(name=name, bytes=path.stat().st_size, documents=len(found), sha256=digest)
        )
        documents += [tokenizer.encode(part, bare=True) for part in found]
    if not documents:
        raise BadInput("the data", "it holds no text", "Give files that hold some")
    kept = round(len(documents) * reading.valid_share)
    chosen = np.random.default_rng(seed).permutation(len(documents))
    ids = np.array([end, *(id for row in documents for id in [*row, end])], dtype=np.uint16)
    lengths = np.array([len(row) + 1 for row in documents])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])

    def table(numbers: Sequence[int]) -> PieceTable:
        first, size = [], []
        for number in numbers:
            for place in range(0, int(lengths[number]), context):
                first.append(int(starts[number]) + place)
                size.append(min(context, int(lengths[number]) - place))
        return PieceTable(ids, np.array(first, dtype=np.int64), np.array(size, dtype=np.int32))

    return TrainingCorpus(
        train=table(sorted(chosen[kept:])),
        valid=table(sorted(chosen[:kept])) if kept else None,
        sources=tuple(sources),
        documents=len(documents),
        documents_by="paragraphs between blank lines",
        digest=sha256(ids.tobytes() + repr((context, kept, seed)).encode()).hexdigest(),
    )
