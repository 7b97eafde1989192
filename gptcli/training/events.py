"""What happens in a run of training, as plain frozen data: the generator of `recipe.py` yields
them.

Losses are nats a target token, times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Ending = Literal["steps", "epochs", "minutes", "patience", "interrupted", "diverged", "planned"]
"""Why a run ended: a limit, no better validation loss, a signal, a loss that is no number, or a
rehearsal that has told its plan.
"""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The plan as far as it is known before a step: what is learned, with what model, and how.

    base: what is fine-tuned, None for a new model. steps: those of the limits that were given;
    where `minutes` are the only one, the real number is found while it trains.
    """

    folder: Path
    going_on: bool
    base: str | None
    layers: int
    width: int
    heads: int
    context: int
    vocabulary: int
    parameters: int
    documents: int
    documents_by: str
    tokens: int  # of an epoch
    valid_tokens: int  # 0: nothing is kept for validation
    valid_file: bool  # the user's own, not a share of the data
    steps: int
    epochs: float
    minutes: float | None
    batch_tokens: int
    trained: str  # in words
    learning_rate: float
    rate_given: bool  # by the user
    schedule: str
    warmup: int
    decay_from: float  # of the schedule wsd
    optimizer: str
    precision: str
    precision_why: str
    device: str
    threads: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Began:
    """Data and model are ready; the steps after `step` follow."""

    step: int  # that is done: 0, or that of the checkpoint that the run goes on from
    steps: int
    folder: Path
    parameters: int
    trained: int  # of the parameters
    tokens: int  # of an epoch
    documents: int


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What the first steps of a session tell of the rest. Memory is in bytes."""

    step: int
    steps: int
    tokens_per_second: float
    seconds_left: float  # validations included
    epochs: float  # that the data is read until the end
    peak: int  # memory of this process so far; on a GPU its memory
    available: int  # memory that is free beside it
    micro_tokens: int  # computed at a time
    checkpointing: bool  # activations are computed twice, in place of kept


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """One step of the optimizer."""

    step: int  # from 1
    steps: int  # that are planned, or that the time seems to allow
    epoch: float  # how much of the data was seen
    loss: float
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens: int  # input tokens of the step
    targets: int  # tokens that counted in its loss
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The validation loss after a step."""

    step: int
    loss: float
    best: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint is on the disk, whole."""

    step: int
    folder: Path
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Texts that the model writes after a step."""

    step: int
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Told:
    """A notice for people: memory was short, a run goes on, a step was not used."""

    step: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The last event. `folder` holds the model, unless the run was interrupted or diverged.

    best: the step whose validation loss was the least; chosen: that of the model in `folder`.
    saved: that of the last checkpoint. again: the run had ended before, and nothing was done. why:
    what diverged.
    """

    step: int
    ending: Ending
    folder: Path
    best: int | None = None
    best_loss: float | None = None
    chosen: int | None = None
    saved: int | None = None
    again: bool = False
    why: str = ""


TrainingEvent = Prepared | Began | Planned | StepDone | Evaluated | Saved | Sampled | Told | Ended
