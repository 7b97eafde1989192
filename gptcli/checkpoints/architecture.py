"""The shape of a GPT-2: its configuration, and the tensors a checkpoint of it must hold.

Plain data, so that a checkpoint can be checked against its own config.json before torch is loaded.
Field names are those of Hugging Face's GPT2Config.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Activation = Literal[
    "gelu_new",
    "gelu",
    "gelu_pytorch_tanh",
    "gelu_fast",
    "quick_gelu",
    "relu",
    "silu",
    "swish",
    "tanh",
]


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """The hyperparameters of a GPT-2 (Radford et al. 2019); the defaults are those of 124M."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: Activation = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    @property
    def inner(self) -> int:
        """Width of the MLP's hidden layer."""
        return self.n_inner or 4 * self.n_embd

    def attention_scale(self, layer: int) -> float:
        """What layer `layer` (from 0) multiplies q·k with before the softmax."""
        scale = (self.n_embd // self.n_head) ** -0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor, without the `transformer.` prefix.

        Matrices of the blocks are in Conv1D layout, (in, out); `lm_head.weight` is listed only
        where it is not tied to `wte.weight`.
        """
        width, inner = self.n_embd, self.inner
        yield "wte.weight", (self.vocab_size, width)
        yield "wpe.weight", (self.n_positions, width)
        block = {
            "ln_1": (width,),
            "attn.c_attn": (width, 3 * width),
            "attn.c_proj": (width, width),
            "ln_2": (width,),
            "mlp.c_fc": (width, inner),
            "mlp.c_proj": (inner, width),
        }
        for layer in range(self.n_layer):
            for part, shape in block.items():
                yield f"h.{layer}.{part}.weight", shape
                yield f"h.{layer}.{part}.bias", shape[-1:]
        yield "ln_f.weight", (width,)
        yield "ln_f.bias", (width,)
        if not self.tie_word_embeddings:
            yield "lm_head.weight", (self.vocab_size, width)

    @property
    def parameters(self) -> int:
        """The number of parameters; a tied head counts once."""
        total = 0
        for _, shape in self.tensors():
            count = 1
            for size in shape:
                count *= size
            total += count
        return total
