"""Steps of training, alone or beside transformers' `Trainer`: tokens a second, memory, loss.

Every run is a process of its own, so only one model is in memory at a time, and its peak is its
own. Speeds count real targets: padding is work that nobody asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from gptcli.bench import processes
from gptcli.bench.entrants import label
from gptcli.bench.figures import EngineRuns, Figure
from gptcli.bench.learning import BATCH, Lesson, LessonResult
from gptcli.bench.options import Bench
from gptcli.bench.peers.roster import INSTALL, TRAINER
from gptcli.bench.peers.trainer import MODULE
from gptcli.bench.rounds import EngineTurn, Say, figure, in_turn
from gptcli.checkpoints.preflight import inspect
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load


def training(load: Load, bench: Bench, folder: Path, say: Say) -> Iterator[Figure]:
    """Ours, and where it is asked for the Trainer's; `folder` is an empty one, for its files.

    Raises UsageError for a model that is not trained, and Unavailable where the Trainer, which is
    asked for, lacks its package.
    """
    checkpoint = Path(str(load.model))
    kind = inspect(checkpoint)
    if kind.gpt2 is None:
        why = f"this is a {kind.model_type} model, and only GPT-2 is trained"
        raise UsageError("--only train", why, "Try -m gpt2.")
    if load.adapter:
        raise UsageError("--only train", "it trains a model without adapters", "Leave them out.")
    for name in (TRAINER.name, MODULE) if bench.peers else ():
        if find_spec(name) is None:
            raise Unavailable("--against", f"{name}: not installed", INSTALL)
    lesson = Lesson(
        checkpoint=checkpoint, documents=bench.count, device=load.device, threads=load.threads
    )
    turns = [_turn(label(TRAINER.dtype), f"learning.ours({lesson!r})")]
    if bench.peers:
        turns.append(_turn(TRAINER.label, f"learning.theirs({lesson!r}, {folder!r})"))
    speed, memory, loss = in_turn(turns, bench.runs, say, warm=0)
    steps = -(-bench.count // BATCH)
    name = f"training, {steps} step{'s' * (steps > 1)} of {min(BATCH, bench.count)} documents"
    yield figure(name, "tokens/s", speed)
    yield figure("peak memory of training", "MB", memory, more_is_better=False)
    yield figure("loss after the last step", "nats/token", loss, more_is_better=False)
    yield from _apart(loss)


def _turn(name: str, expression: str) -> EngineTurn:
    """A process that learns, and tells how it went."""

    def measure(run: int) -> tuple[float, float, float]:
        told = processes.answer(processes.child(f"learning.tell({expression})"))
        found = LessonResult(**json.loads(told))
        return found.tokens / found.seconds, found.memory / 1e6, found.loss

    return EngineTurn(name, measure)


def _apart(losses: Sequence[EngineRuns]) -> Iterator[Figure]:
    """How far our loss is from the peer's, in percent of it; nothing where there is none."""
    for peer in losses[1:]:
        pairs = zip(losses[0].values, peer.values, strict=False)
        apart = tuple(100 * abs(ours - theirs) / theirs for ours, theirs in pairs)
        if apart:
            name = "distance of the losses"
            yield Figure(name, "%", EngineRuns(losses[0].engine, apart), (), False)
