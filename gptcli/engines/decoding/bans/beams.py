"""Bans in a beam search: a logits processor of transformers, without an import of torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gptcli.engines.decoding.bans.automaton import Bans, State

if TYPE_CHECKING:
    from torch import Tensor


class BeamBans:
    """Forbids what `bans` forbid behind a prompt of `length` tokens, which ends in `state`."""

    def __init__(self, bans: Bans, state: State, length: int) -> None:
        self._bans, self._length = bans, length
        self._states: dict[tuple[int, ...], State] = {(): state}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores of each beam, (beams, vocabulary), with -inf for forbidden tokens."""
        allowed = scores.clone()
        for row, tokens in enumerate(input_ids[:, self._length :].tolist()):
            for ids in self._bans.forbidden(self._state(tuple(tokens))):
                allowed[row, ids.tolist()] = -math.inf
        return allowed

    def _state(self, tokens: tuple[int, ...]) -> State:
        """The state of a beam, which goes on from one of the last step."""
        if tokens not in self._states:
            self._states[tokens] = self._bans.after(self._state(tokens[:-1]), tokens[-1])
        return self._states[tokens]
