"""The config.json of a GPT-2 from another program, whose files say less than ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gptcli.checkpoints.formats.locked.source import Refused

HEAD_WIDTH = 64  # numbers of a head in every GPT-2 that OpenAI made


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of a GPT-2; all but the heads can be told from the shapes of its tensors.

    inner: the width of the MLP; None for four times the width.
    """

    vocabulary: int
    context: int
    width: int
    heads: int
    layers: int
    inner: int | None = None


def config_json(
    sizes: Sizes,
    *,
    end: int | None,
    begin: int | None = None,
    activation: str = "gelu_new",
    epsilon: float = 1e-5,
    tied: bool = True,
) -> Mapping[str, object]:
    """The complete configuration.

    end: the id of the token that ends a text, if there is one; `begin` is the same unless given.
    """
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": sizes.vocabulary,
        "n_positions": sizes.context,
        "n_embd": sizes.width,
        "n_layer": sizes.layers,
        "n_head": sizes.heads,
        "n_inner": None if sizes.inner == 4 * sizes.width else sizes.inner,
        "activation_function": activation,
        "layer_norm_epsilon": epsilon,
        "scale_attn_weights": True,
        "bos_token_id": end if begin is None else begin,
        "eos_token_id": end,
        "tie_word_embeddings": tied,
    }


def likely_heads(width: int) -> tuple[int, str]:
    """The number of heads where no file says it, and a notice. Raises Refused."""
    if width % HEAD_WIDTH or not width:
        why = f"no file says how many heads it has, and {width} numbers do not tell"
        raise Refused(f"{why}; write it as n_head into hparams.json beside it")
    heads = width // HEAD_WIDTH
    return heads, (
        f"no file says how many heads it has: n_head {heads} is taken, {HEAD_WIDTH} numbers each;"
        " if it was trained with another number, change it in config.json"
    )
