"""From options and data to settings: every value a number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.system import memory
from gptcli.training.data.corpus import TrainingCorpus
from gptcli.training.fitting import MemoryFit, fit
from gptcli.training.options import Optimization, TrainedModel, TrainingProgress, TrainOptions
from gptcli.training.settings import LoraSettings, TrainingSettings

EPOCHS = 3.0  # where no limit is given
CONTEXTS = 8  # in a step
MOST_WARMUP = 100  # steps
EVALUATIONS = 20
MICRO_CONTEXTS = 8


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Settings, and what does not change the weights of a step."""

    settings: TrainingSettings
    fit: MemoryFit


def plan(
    options: TrainOptions,
    corpus: TrainingCorpus,
    config: GPT2Config,
    context: int,
    available: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> TrainingPlan:
    """The plan of a run. available: bytes of memory, where it is not that of this machine. dtype:
    of products.
    """
    asked, model = options.optimization, options.model
    batch = asked.batch_tokens or max(min(CONTEXTS * context, corpus.train.tokens // 20), 1)
    steps = _steps(asked, corpus, batch)
    warmup = asked.warmup if asked.warmup is not None else min(-(-steps // 20), MOST_WARMUP)
    settings = TrainingSettings(
        seed=asked.seed,
        batch_tokens=batch,
        steps=steps,
        learning_rate=asked.learning_rate or _rate(model),
        schedule=asked.schedule,
        warmup=warmup,
        decay_from=asked.decay_from,
        weight_decay=asked.weight_decay,
        clip=asked.clip,
        optimizer=asked.optimizer,
        dropout=model.dropout,
        dtype=dtype,
        lora=_lora(model),
        frozen=model.freeze,
    )
    most = asked.micro_tokens or max(min(batch, MICRO_CONTEXTS * context), 1)
    least = most if asked.micro_tokens else min(context, most)
    free = memory.available() if available is None else available
    return TrainingPlan(settings=settings, fit=fit(config, settings, least, most, free))


def eval_every(following: TrainingProgress, steps: int) -> int:
    """Steps between validations."""
    return following.eval_every or max(-(-steps // EVALUATIONS), 1)


def _steps(asked: Optimization, corpus: TrainingCorpus, batch: int) -> int:
    if asked.steps is None and asked.epochs is None and asked.minutes is not None:
        return 1000
    found = []
    if asked.steps is not None:
        found.append(asked.steps)
    if asked.epochs is not None or not found:
        epochs = asked.epochs or EPOCHS
        whole = math.floor(epochs)
        steps = [
            corpus.train.steps_of_epoch(asked.seed, number, batch)
            for number in range(math.ceil(epochs))
        ]
        part = math.ceil(steps[-1] * (epochs - whole)) if epochs > whole else 0
        found.append(max(sum(steps[:whole]) + part, 1))
    return min(found)


def _rate(model: TrainedModel) -> float:
    return 2e-4 if model.lora else 1e-3 if model.scratch else 5e-5


def _lora(model: TrainedModel) -> LoraSettings | None:
    if not model.lora:
        return None
    return LoraSettings(
        rank=model.lora_rank,
        alpha=model.lora_alpha or 2.0 * model.lora_rank,
        targets=model.lora_targets or ("c_attn",),
    )
