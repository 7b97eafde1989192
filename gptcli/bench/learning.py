"""A few steps of training in this process: ours, or those of transformers' `Trainer`.

Both learn the same documents in the same order, a step being eight of them, in float32. Their
lengths are mixed as those of texts are, which is where padding costs. The first step warms up. Each
side computes the loss of the last step's documents after that step, a token's mean, so that it can
be seen whether the two have learned the same. This runs in processes of its own, see
`gptcli.bench.training`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import gptcli
from gptcli.options.model import Device

if TYPE_CHECKING:
    from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
    from gptcli.training.compute.session import ComputeDevice, ComputeSession
    from gptcli.training.data.pieces import PieceTable
    from gptcli.training.settings import TrainingSettings

BATCH = 8  # documents of a step
SHORTEST, LONGEST = 24, 1024  # tokens of a document
RATE = 5e-5  # as `gptcli train` fine-tunes
GUIDES = Path(gptcli.__file__).with_name("docs")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is trained, and on how many documents after the first step."""

    checkpoint: Path
    documents: int
    device: Device
    threads: int | None


@dataclass(frozen=True, kw_only=True)
class LessonResult:
    """`tokens` were targets in those seconds; memory: bytes at most; loss: nats a token."""

    seconds: float
    tokens: int
    memory: int
    loss: float


def tell(result: LessonResult) -> None:
    """Print a result for the process that asks for it."""
    print(json.dumps(asdict(result)), flush=True)


def ours(lesson: Lesson) -> LessonResult:
    """The steps by what `gptcli train` computes with."""
    import numpy as np

    from gptcli.training.compute.session import choose, settle

    device = choose(lesson.device, lesson.threads, "float32")
    given = texts(lesson)
    session, table = _session(lesson, device), _table(given)
    order = np.arange(len(given))
    first, *others = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
    session.stepper.step(table, first, 1)
    settle(device)
    begin = time.perf_counter()
    for number, pieces in enumerate(others, 2):
        session.stepper.step(table, pieces, number)
    settle(device)
    seconds = time.perf_counter() - begin
    memory, _ = session.memory
    loss = session.stepper.loss(table, others[-1])
    return LessonResult(seconds=seconds, tokens=_targets(given), memory=memory, loss=loss)


def theirs(lesson: Lesson, folder: Path) -> LessonResult:
    """The same steps by transformers' Trainer; `folder` is for what it writes.

    Raises Unavailable, see `TransformersTrainer.learn`.
    """
    from gptcli.bench.peers.trainer import TrainerSetting, TransformersTrainer
    from gptcli.training.compute.session import choose, most_memory_of

    device = choose(lesson.device, lesson.threads, "float32")
    given = texts(lesson)
    setting = TrainerSetting(
        checkpoint=lesson.checkpoint,
        folder=folder,
        device=device,
        documents=given,
        batch=BATCH,
        settings=_settings(),
    )
    trainer = TransformersTrainer(setting)
    seconds, memory = trainer.learn(), most_memory_of(device)
    loss = trainer.loss(given[(len(given) - 1) // BATCH * BATCH :])
    return LessonResult(seconds=seconds, tokens=_targets(given), memory=memory, loss=loss)


def texts(lesson: Lesson) -> list[list[int]]:
    """The documents of the first step and of those that are timed, as token ids."""
    from gptcli.checkpoints.preflight import inspect
    from gptcli.checkpoints.tokenization.loading import load_tokenizer

    config = inspect(lesson.checkpoint).gpt2
    assert config is not None  # see gptcli.bench.training
    tokenizer = load_tokenizer(lesson.checkpoint)
    return documents(tokenizer, BATCH + lesson.documents, config.n_positions)


def documents(tokenizer: Tokenizer, count: int, context: int) -> list[list[int]]:
    """Stretches of gptcli's guides, the same each time. The logarithms of their lengths are spread
    evenly: most are short, a few fill the context. None holds an end token, which the `Trainer`
    takes for padding.
    """
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(GUIDES.glob("*.md")))
    ids = [id for id in tokenizer.encode(text) if id != tokenizer.eos_id]
    random, longest = Random(0), min(LONGEST, context)
    least, most = math.log(min(SHORTEST, longest)), math.log(longest)
    lengths = [round(math.exp(random.uniform(least, most))) for _ in range(count)]
    return [_stretch(ids, random.randrange(len(ids)), length) for length in lengths]


def _stretch(ids: Sequence[int], start: int, length: int) -> list[int]:
    """So many ids from a place on; the first follows the last."""
    return [ids[(start + place) % len(ids)] for place in range(length)]


def _targets(given: Sequence[Sequence[int]]) -> int:
    """Every token that is timed and has one before it."""
    return sum(len(document) - 1 for document in islice(given, BATCH, None))


def _settings() -> TrainingSettings:
    from gptcli.training.settings import TrainingSettings

    return TrainingSettings(learning_rate=RATE, schedule="constant", warmup=0)


def _session(lesson: Lesson, device: ComputeDevice) -> ComputeSession:
    """The model, computed in as great a part at a time as `gptcli train` would."""
    from gptcli.checkpoints.preflight import inspect
    from gptcli.training.compute.session import ComputeSession, memory_of
    from gptcli.training.fitting import fit
    from gptcli.training.plan import MICRO_CONTEXTS

    checked, settings = inspect(lesson.checkpoint), _settings()
    assert checked.gpt2 is not None
    context = checked.gpt2.n_positions
    fitted = fit(checked.gpt2, settings, context, MICRO_CONTEXTS * context, memory_of(device))
    micro, twice = fitted.micro_tokens, fitted.checkpointing
    return ComputeSession(checked.gpt2, settings, checked, device, micro, checkpointing=twice)


def _table(given: Sequence[Sequence[int]]) -> PieceTable:
    import numpy as np

    from gptcli.training.data.pieces import PieceTable

    lengths = np.array([len(document) for document in given])
    ids = np.concatenate([np.array(document, np.uint32) for document in given])
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    return PieceTable(ids, starts, (lengths - 1).astype(np.int32))
