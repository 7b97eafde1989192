"""One step of training: gradients of micro-batches added up, clipped, applied.

The loss is divided by the target tokens of the whole step, on all ranks, so it does not matter how
a step is cut. Where memory is short the step is begun again in smaller micro-batches, then with
activations that are computed twice in place of kept: its mathematics stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gptcli.system.memory import is_shortage
from gptcli.training.compute.batch import counted, micro_batches, packed
from gptcli.training.compute.network import TrainableGPT2
from gptcli.training.compute.optimizer import Optimizer, rate
from gptcli.training.compute.ranks import Ranks, whole
from gptcli.training.data.pieces import PieceTable
from gptcli.training.settings import TrainingSettings

GO, STOP, SHORT = range(3)  # what a rank says after a micro-batch: the greatest of all holds


@dataclass(frozen=True)
class StepResult:
    """loss: nats a target token, of the whole step; norm: of the gradient before clipping."""

    loss: float
    norm: float
    targets: int
    tokens: int


class StepDropped(Exception):
    """A step was asked to stop before its end: nothing changed."""


class ShortOfMemory(Exception):
    """The memory does not hold what a micro-batch needs."""


class Stepper:
    """A model and its optimizer. `micro_tokens` is how many tokens are computed at a time;
    `stopping` is asked between them whether to drop the step; `say` is told of changes; `lead`
    is called with what is about to be computed, so that the other ranks take part.
    """

    stopping: Callable[[], bool] = staticmethod(lambda: False)
    say: Callable[[str], object] = staticmethod(lambda text: None)
    lead: Callable[..., object] = staticmethod(lambda *call: None)

    def __init__(
        self,
        model: TrainableGPT2,
        settings: TrainingSettings,
        device: torch.device,
        micro_tokens: int,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
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
        number. Raises StepDropped, ShortOfMemory.
        """
        self.lead("step", pieces, number, place)
        targets = counted(table, pieces)
        total = self._fitted(table, pieces, lambda: self._gradient(table, pieces, number, targets))
        norm = self._norm()
        if np.isfinite(norm) and np.isfinite(total):
            self.optimizer.step(rate(self.settings, number if place is None else place))
        return StepResult(total, norm, targets, int(table.lengths[pieces].sum()))

    def loss(self, table: PieceTable, pieces: Sequence[int] | NDArray[np.int64]) -> float:
        """The mean loss of pieces, in nats a target token, without dropout.

        Raises StepDropped, ShortOfMemory.
        """
        chosen = np.asarray(pieces)
        self.lead("loss", chosen)

        def computed() -> float:
            self.model.eval()
            with torch.no_grad():
                return self._summed(table, chosen, lambda loss: None)

        return self._fitted(table, chosen, computed) / max(counted(table, chosen), 1)

    def _gradient(
        self, table: PieceTable, pieces: NDArray[np.int64], number: int, targets: int
    ) -> float:
        """The mean loss of a step; its gradient is in the parameters."""
        self.model.train()
        # Dropout needs no state, and has another mask on each rank.
        place = number * self.ranks.count + self.ranks.number
        torch.manual_seed((self.settings.seed << 32) + place)
        self.optimizer.zero_grad()
        count = max(targets, 1)

        def backward(loss: torch.Tensor) -> None:
            torch.autograd.backward(loss / count)

        total = self._summed(table, pieces, backward) / count
        if not self.ranks.sharded:
            self.ranks.add(self._gradients())
        return total

    def _gradients(self) -> list[torch.Tensor]:
        """The gradients in the order of the parameters; zeros where a rank had no piece."""
        for parameter in self.trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self.trained if parameter.grad is not None]

    def _norm(self) -> float:
        """The gradient's norm before it is clipped."""
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.settings.clip or float("inf"))
        return float(whole(norm))

    def _summed(
        self,
        table: PieceTable,
        pieces: NDArray[np.int64],
        after: Callable[[torch.Tensor], object],
    ) -> float:
        """The summed loss over all ranks; `after` is called with that of each micro-batch."""
        shares = self.ranks.share(table.lengths, pieces)
        parts = [list(micro_batches(table, share, self.micro_tokens)) for share in shares]
        total = 0.0
        for part, counts in self.ranks.rounds(parts):
            self._agree(STOP if self.stopping() else GO)
            try:
                batch = packed(table, part).to(self.device)
                with self.precision():
                    loss = self.model(batch)
                loss = loss if counts else loss * 0
                after(loss)
                total += float(loss.detach())
                verdict = GO
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                verdict = SHORT
            self._agree(verdict)
        return self.ranks.total(total)

    def _agree(self, verdict: int) -> None:
        """Let all ranks go on or stop alike. Raises StepDropped, ShortOfMemory."""
        verdict = self.ranks.greatest(verdict)
        if verdict == STOP:
            raise StepDropped
        if verdict == SHORT:
            raise ShortOfMemory

    def _fitted(
        self, table: PieceTable, pieces: NDArray[np.int64], work: Callable[[], float]
    ) -> float:
        """What `work` gives, as soon as the memory holds it. Raises ShortOfMemory."""
        while True:
            try:
                return work()
            except ShortOfMemory:
                self.optimizer.zero_grad()
                longest = int(table.lengths[pieces].max())
                if self.ranks.sharded or not self._smaller(longest):
                    raise
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _smaller(self, longest: int) -> bool:
        """Need less memory; False where that is not possible. longest: piece, in tokens."""
        if self.micro_tokens > longest:
            self.micro_tokens = max(self.micro_tokens // 2, longest)
            self.say(f"memory is short: {self.micro_tokens} tokens are computed at a time now")
        elif not self.model.checkpointing:
            self.model.checkpointing = True
            self.say("memory is short: activations are computed twice now, in place of kept")
        else:
            return False
        return True

    def precision(self) -> AbstractContextManager[object]:
        """Products in bfloat16, where the settings ask for it."""
        if self.settings.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)
