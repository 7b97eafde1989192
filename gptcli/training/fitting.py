"""What a run needs of memory, before it is tried, and how its steps are cut to fit.

An estimate, measured on GPT-2's shapes: weights, gradients and the optimizer's moments in float32,
and what a micro-batch keeps for its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.system.units import model_size
from gptcli.training.settings import TrainingSettings, places

FLOAT = 4  # bytes
KEPT_WIDTHS = 20  # numbers that a layer keeps of a token, in widths of the model
HEAD_BYTES = 2**27  # logits at a time, and their gradient
USABLE = 0.8  # of the memory that is free


@dataclass(frozen=True)
class MemoryFit:
    """How many tokens are computed at a time, and whether activations are computed twice."""

    micro_tokens: int
    checkpointing: bool
    needed: int  # bytes
    available: int

    @property
    def warning(self) -> str:
        """What to know where it does not fit."""
        return (
            f"it may need {model_size(self.needed)} of memory, and {model_size(self.available)} are"
            " free; a shorter --context, --lora or --freeze need less"
        )

    @property
    def fits(self) -> bool:
        """Whether the memory seems to be enough."""
        return self.needed <= USABLE * self.available


def fit(
    config: GPT2Config, settings: TrainingSettings, context: int, most: int, available: int
) -> MemoryFit:
    """The greatest micro-batch that fits, of `most` tokens and its halves, at least one context.

    The halves keep the choice, and with it the rounding of sums, the same while other programs take
    a little more or less memory.
    """
    for checkpointing in (False, True):
        micro = most
        while True:
            needed = bytes_needed(config, settings, micro, checkpointing)
            found = MemoryFit(micro, checkpointing, needed, available)
            if found.fits or micro <= context:
                break
            micro = max(micro // 2, context)
        if found.fits:
            break
    return found


def bytes_needed(
    config: GPT2Config, settings: TrainingSettings, micro_tokens: int, checkpointing: bool
) -> int:
    """Memory of weights, gradients, the optimizer and a micro-batch."""
    trained = _trained(config, settings)
    fixed = FLOAT * (config.parameters + 3 * trained) + HEAD_BYTES
    kept = KEPT_WIDTHS * config.n_embd
    of_layers = kept + config.n_layer * config.n_embd if checkpointing else kept * config.n_layer
    return fixed + micro_tokens * FLOAT * of_layers


def _trained(config: GPT2Config, settings: TrainingSettings) -> int:
    """How many numbers are trained, about."""
    if settings.lora is not None:
        rows = config.n_embd * 8 * len(places(settings.lora))
        return settings.lora.rank * rows * config.n_layer
    layer = 12 * config.n_embd**2
    return config.parameters if not settings.frozen else layer * (config.n_layer - settings.frozen)
