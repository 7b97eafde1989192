"""Checkpoints of training programs that are none."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import torch

from support.linear_gpt2 import CONTEXT, HEADS, LAYERS, WIDTH, State, state

ARGS = {"n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH, "block_size": CONTEXT, "bias": True}


def with_args(**args: Any) -> dict[str, Any]:
    return {"model_args": {**ARGS, **args}}


def with_state(**changes: Any) -> dict[str, Any]:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return {"model": {k: v for k, v in {**state(), **named}.items() if v is not None}}


HOSTILE: dict[str, dict[str, Any]] = {
    "nothing": {"model": {}},
    "no dictionary": {"model": [1]},
    "numbers for names": {"model": {1: torch.zeros(3)}},
    "a missing tensor": with_state(transformer__ln_f__weight=None),
    "one missing bias": with_state(transformer__h__0__ln_1__bias=None),
    "no positions": with_state(transformer__wpe__weight=None),
    "a tensor too many": with_state(transformer__h__0__lora__weight=torch.zeros(3)),
    "a layer too many": with_state(transformer__h__7__ln_1__weight=torch.zeros(16)),
    "a wrong shape": with_state(transformer__h__0__mlp__c_fc__weight=torch.zeros(3, 3)),
    "a wrong attention": with_state(transformer__h__0__attn__c_attn__weight=torch.zeros(48)),
    "a flat embedding": with_state(transformer__wte__weight=torch.zeros(37)),
    "a deep embedding": with_state(transformer__wpe__weight=torch.zeros(1, 12, 16)),
    "a number": with_state(transformer__ln_f__weight=torch.tensor(1.0)),
    "no tensor": with_state(transformer__ln_f__weight="x"),
    "whole numbers": with_state(transformer__ln_f__weight=torch.zeros(16, dtype=torch.int64)),
    "complex numbers": with_state(transformer__ln_f__weight=torch.zeros(16, dtype=torch.cfloat)),
    "a sparse tensor": with_state(transformer__wpe__weight=torch.zeros(12, 16).to_sparse()),
    "a tensor without memory": with_state(
        transformer__wpe__weight=torch.zeros(12, 16, device="meta")
    ),
    "a stretched tensor": with_state(transformer__wte__weight=torch.zeros(1).expand(10**9, 16)),
    "a huge head": with_state(lm_head__weight=torch.zeros(1).expand(10**9, 16)),
    "a small head": with_state(lm_head__weight=torch.zeros(36, 16)),
    "a name twice": with_state(_orig_mod__transformer__ln_f__weight=torch.zeros(16)),
    "two models": with_state(other__wte__weight=torch.zeros(37, 16)),
    "no heads": with_args(n_head=0),
    "negative heads": with_args(n_head=-2),
    "heads that do not fit": with_args(n_head=3),
    "heads by name": with_args(n_head="2"),
    "half a head": with_args(n_head=2.0),
    "code": {"config": subprocess.Popen},
}


def saved(folder: Path, weights: State, **changes: Any) -> Path:
    """A `ckpt.pt` as nanoGPT writes it."""
    held = {
        "model": weights,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
        "model_args": ARGS,
        "iter_num": 20,
        "best_val_loss": torch.tensor(1.5),
        "config": {"dataset": "shakespeare_char", "compile": True},
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({key: value for key, value in held.items() if value is not None}, folder / "ckpt.pt")
    return folder / "ckpt.pt"
