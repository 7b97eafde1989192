"""llama.cpp's names of a GPT-2's tensors, and ours."""

from __future__ import annotations

import re

LAYER_NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
MODEL_NAMES = {
    "wte.weight": "token_embd.weight",
    "wpe.weight": "position_embd.weight",
    "ln_f.weight": "output_norm.weight",
    "ln_f.bias": "output_norm.bias",
    "lm_head.weight": "output.weight",
}
EMBEDDING, HEAD = MODEL_NAMES["wte.weight"], MODEL_NAMES["lm_head.weight"]
_OURS = {theirs: ours for ours, theirs in MODEL_NAMES.items()}
_LAYER_OURS = {theirs: ours for ours, theirs in LAYER_NAMES.items()}
_BLOCK = re.compile(r"blk\.(0|[1-9]\d{0,3})\.([a-z_]+)\.(weight|bias)")


def ggml_name(name: str) -> str:
    """`h.3.attn.c_attn.weight` is `blk.3.attn_qkv.weight`."""
    if name in MODEL_NAMES:
        return MODEL_NAMES[name]
    _, layer, rest = name.split(".", 2)
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{LAYER_NAMES[part]}.{kind}"


def gpt2_name(name: str) -> str | None:
    """The reverse of `ggml_name`; None for what a GPT-2 has not."""
    if name in _OURS:
        return _OURS[name]
    found = _BLOCK.fullmatch(name)
    part = _LAYER_OURS.get(found[2]) if found else None
    return f"h.{found[1]}.{part}.{found[3]}" if found and part else None
