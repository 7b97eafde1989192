"""One step of training: gradients of micro-batches added up, clipped, applied.

The loss is divided by the target tokens of the whole step, on all ranks, so it does not matter how
a step is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gptcli.training.compute.batch import counted, micro_batches, packed
from gptcli.training.compute.network import TrainableGPT2
from gptcli.training.compute.optimizer import Optimizer, rate
from gptcli.training.data.pieces import PieceTable
from gptcli.training.settings import TrainingSettings


@dataclass(frozen=True)
class StepResult:
    """loss: nats a target token, of the whole step; norm: of the gradient before clipping."""

    loss: float
    norm: float
    targets: int
    tokens: int


class StepDropped(Exception):
    """A step was asked to stop before its end: nothing changed."""


class Stepper:
    """A model and its optimizer. `micro_tokens` is how many tokens are computed at a time;
    `stopping` is asked between them whether to drop the step.
    """

    stopping: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(
        self,
        model: TrainableGPT2,
        settings: TrainingSettings,
        device: torch.device,
        micro_tokens: int,
    ) -> None:
        self.model, self.settings, self.device = model.to(device), settings, device
        self.micro_tokens = micro_tokens
        self.optimizer = Optimizer(model, settings)
        self.trained = [p for p in model.parameters() if p.requires_grad]

    def step(
        self,
        table: PieceTable,
        pieces: NDArray[np.int64],
        number: int,
        place: float | None = None,
    ) -> StepResult:
        """Step `number` (from 1) on these pieces, at a place of the schedule that is its number
        unless the schedule was stretched. The weights do not change where the loss is no finite
        number. Raises StepDropped.
        """
        self.model.train()
        torch.manual_seed((self.settings.seed << 32) + number)  # dropout, which so needs no state
        self.optimizer.zero_grad()
        targets = counted(table, pieces)
        total = self._accumulated(table, pieces, targets)
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.settings.clip or float("inf"))
        if torch.isfinite(norm) and np.isfinite(total):
            self.optimizer.step(rate(self.settings, number if place is None else place))
        return StepResult(total, float(norm), targets, int(table.lengths[pieces].sum()))

    def _accumulated(self, table: PieceTable, pieces: NDArray[np.int64], targets: int) -> float:
        """The loss of a step; its gradient is in the parameters."""
        total = 0.0
        for part in micro_batches(table, pieces, self.micro_tokens):
            if self.stopping():
                raise StepDropped
            batch = packed(table, part).to(self.device)
            with self.precision():
                loss = self.model(batch) / max(targets, 1)
            loss.backward()
            total += float(loss.detach())
        return total

    def loss(self, table: PieceTable, pieces: Sequence[int] | NDArray[np.int64]) -> float:
        """The mean loss of pieces, in nats a target token, without dropout. Raises StepDropped."""
        self.model.eval()
        chosen, total = np.asarray(pieces), 0.0
        with torch.no_grad(), self.precision():
            for part in micro_batches(table, chosen, self.micro_tokens):
                if self.stopping():
                    raise StepDropped
                total += float(self.model(packed(table, part).to(self.device)))
        return total / max(counted(table, chosen), 1)

    def precision(self) -> AbstractContextManager[object]:
        """Products in bfloat16, where the settings ask for it."""
        if self.settings.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)
