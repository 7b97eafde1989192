"""What determines the weights that come out: a run goes on only with the same settings.

Options of `options.py` become these once the data is known (`plan.py`), so that every value is a
number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.errors import UsageError

Schedule = Literal["cosine", "linear", "constant", "wsd"]
OptimizerName = Literal["adamw", "muon"]
PLACES = "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"  # of a layer's matrices


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters (Hu et al. 2021): W + alpha / rank · B A for the matrices named."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("c_attn",)


def places(settings: LoraSettings) -> list[str]:
    """The matrices of a layer that get an adapter. `all` is every one.

    Raises UsageError for a name that is none.
    """
    chosen = []
    for target in settings.targets:
        found = [place for place in PLACES if target == "all" or f".{place}".endswith(f".{target}")]
        if len(found) != 1 and target != "all":
            which = "c_attn, attn.c_proj, c_fc, mlp.c_proj or all"
            raise UsageError("--lora-target", f"{target} is not {which}", f"Give {which}.")
        chosen += found
    return [place for place in PLACES if place in chosen]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Hyperparameters of a run. The loss of a step is the mean over its real target tokens."""

    seed: int = 0
    batch_tokens: int = 8192  # input tokens of a step, on all ranks
    steps: int = 1000  # the last step of the schedule
    learning_rate: float = 3e-4
    schedule: Schedule = "cosine"
    warmup: int = 100  # steps
    decay_from: float = 0.4  # wsd: the share of steps after which the rate falls
    final_rate: float = 0.0  # of learning_rate, at the end of the schedule
    weight_decay: float = 0.1  # of matrices and embeddings, never of biases and layer norms
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    clip: float = 1.0  # greatest norm of the gradient, after accumulation; 0: none
    optimizer: OptimizerName = "adamw"
    muon_rate: float = 0.02
    dropout: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"  # of products; weights stay in float32
    lora: LoraSettings | None = None
    frozen: int = 0  # first layers that stay as they are, and the embeddings with them
