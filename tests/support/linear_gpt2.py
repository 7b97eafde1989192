"""A GPT-2 with matrices as (out, in), as nanoGPT, minGPT and llm.c have them, and its scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F

State = dict[str, torch.Tensor]
LAYERS, WIDTH, HEADS, CONTEXT = 2, 16, 2, 12


def state(vocabulary: int = 37, bias: bool = True, seed: int = 0) -> State:
    """Random weights under nanoGPT's names; the head is the embedding."""
    random = torch.Generator().manual_seed(seed)

    def numbers(*shape: int, mean: float = 0.0) -> torch.Tensor:
        return torch.randn(*shape, generator=random) * 0.3 + mean

    found = {"wte.weight": numbers(vocabulary, WIDTH), "wpe.weight": numbers(CONTEXT, WIDTH)}
    shapes = {
        "attn.c_attn": (3 * WIDTH, WIDTH),
        "attn.c_proj": (WIDTH, WIDTH),
        "mlp.c_fc": (4 * WIDTH, WIDTH),
        "mlp.c_proj": (WIDTH, 4 * WIDTH),
    }
    for layer in range(LAYERS):
        for norm in ("ln_1", "ln_2"):
            found[f"h.{layer}.{norm}.weight"] = numbers(WIDTH, mean=1)
        for name, shape in shapes.items():
            found[f"h.{layer}.{name}.weight"] = numbers(*shape)
    found["ln_f.weight"] = numbers(WIDTH, mean=1)
    for name in list(found) if bias else ():
        if name.startswith(("h.", "ln_f")):
            found[name.replace("weight", "bias")] = numbers(found[name].shape[0])
    named = {f"transformer.{name}": tensor for name, tensor in found.items()}
    return {**named, "lm_head.weight": named["transformer.wte.weight"]}


def scores(state: State, ids: list[int], tanh: bool = False) -> torch.Tensor:
    """What the model says after each token; `tanh` is the older form of its GELU."""
    own = {name.removeprefix("transformer."): tensor.float() for name, tensor in state.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), own[f"{name}.weight"], own.get(f"{name}.bias"))

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, own[f"{name}.weight"], own.get(f"{name}.bias"))

    x = own["wte.weight"][ids] + own["wpe.weight"][: len(ids)]
    for layer in range(LAYERS):
        h = f"h.{layer}."
        q, k, v = (
            part.view(len(ids), HEADS, -1).transpose(0, 1)
            for part in linear(norm(x, h + "ln_1"), h + "attn.c_attn").split(WIDTH, -1)
        )
        joined = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1)
        x = x + linear(joined.reshape(len(ids), WIDTH), h + "attn.c_proj")
        inner = linear(norm(x, h + "ln_2"), h + "mlp.c_fc")
        inner = F.gelu(inner, approximate="tanh" if tanh else "none")
        x = x + linear(inner, h + "mlp.c_proj")
    return norm(x, "ln_f") @ own["lm_head.weight"].T
