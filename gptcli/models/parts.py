"""Parameter counts of a GPT-2 by part, and the memory that they take.

They follow from the configuration, which preflight compares with the weights name by name. Other
architectures name their parts otherwise and are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from gptcli.checkpoints.architecture import GPT2Config

HALF, WHOLE = 2, 4  # bytes of a parameter in 16 and in 32 bits


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters by part; a head that is tied to the token embedding has none of its own."""

    token_embedding: int
    position_embedding: int
    attention: int
    mlp: int
    norms: int
    head: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.to_dict().values())

    def to_dict(self) -> dict[str, int]:
        """The shape in JSON."""
        return {
            "token_embedding": self.token_embedding,
            "position_embedding": self.position_embedding,
            "attention": self.attention,
            "mlp": self.mlp,
            "norms": self.norms,
            "head": self.head,
        }


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes. `half`: all in 16 bits; `int8`: matrices and their scales, the rest in float32.

    An embedding that is also the head counts once: its rows are read from the file. A token's keys
    and values have the dtype of the activations, which on a CPU is float32 for reduced weights too.
    """

    float32: int
    half: int
    int8: int
    token_float32: int  # of the KV cache
    token_half: int
    context: int  # tokens

    def to_dict(self) -> dict[str, object]:
        """The shape in JSON."""
        tokens = {"float32": self.token_float32, "16-bit": self.token_half}
        return {
            "weights": {"float32": self.float32, "16-bit": self.half, "int8": self.int8},
            "kv_cache_per_token": tokens,
            "kv_cache_full": {dtype: size * self.context for dtype, size in tokens.items()},
        }


def parameters(config: GPT2Config) -> Parameters:
    """Count a GPT-2's numbers."""
    counts = dict.fromkeys(Parameters.__dataclass_fields__, 0)
    for name, shape in config.tensors():
        counts[_part(name)] += prod(shape)
    return Parameters(**counts)


def memory(config: GPT2Config) -> Memory:
    """What a GPT-2 takes in each number format, and each token that it has read."""
    # Blocks store a matrix as (in, out), the head as (out, in); each output has a scale.
    blocks = [shape for name, shape in config.tensors() if name[:2] == "h." and len(shape) == 2]
    head = config.vocab_size * config.n_embd  # of its own, or the embedding once more
    inside = sum(map(prod, blocks)) + head
    scales = sum(outputs for _, outputs in blocks) + config.vocab_size
    outside = config.parameters - inside
    kept = 2 * config.n_layer * config.n_embd
    return Memory(
        float32=WHOLE * config.parameters,
        half=HALF * config.parameters,
        int8=inside + WHOLE * (scales + outside),
        token_float32=WHOLE * kept,
        token_half=HALF * kept,
        context=config.n_positions,
    )


def _part(name: str) -> str:
    named = {"wte": "token_embedding", "wpe": "position_embedding", "lm_head": "head"}
    if name.partition(".")[0] in named:
        return named[name.partition(".")[0]]
    return "attention" if ".attn." in name else "mlp" if ".mlp." in name else "norms"
