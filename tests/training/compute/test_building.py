"""A network is built from a checkpoint or from nothing, and written so that others read it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
import transformers
from safetensors.torch import save_file
from support.training import SMALL, logits, pieces, reference, reference_loss, stored

from gptcli.checkpoints.architecture import Activation, GPT2Config
from gptcli.checkpoints.preflight import inspect
from gptcli.errors import UsageError
from gptcli.training.compute.batch import packed
from gptcli.training.compute.building import build, frozen_notice
from gptcli.training.compute.export import config_json, model_tensors
from gptcli.training.settings import LoraSettings, TrainingSettings

TABLE = pieces([9, 4, 9, 1])

VARIANTS = {
    **{name: replace(SMALL, activation_function=name) for name in get_args(Activation)},
    "untied head": replace(SMALL, tie_word_embeddings=False),
    "scale by layer": replace(SMALL, scale_attn_by_inverse_layer_idx=True),
    "no scale": replace(SMALL, scale_attn_weights=False),
    "inner width, epsilon": replace(SMALL, n_inner=40, layer_norm_epsilon=1e-3),
    "one head": replace(SMALL, n_head=1, n_layer=1),
}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_loss_and_gradients_of_every_variant_are_those_of_transformers(
    config: GPT2Config, tmp_path: Path
) -> None:
    other = reference(config)
    model = build(config, TrainingSettings(), stored(other, tmp_path / "m"))
    expected = reference_loss(other, TABLE)
    expected.backward()
    loss = model(packed(TABLE, range(4))) / 23
    loss.backward()
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    theirs = dict(other.named_parameters())
    own = dict(model.named_parameters())
    assert own.keys() == theirs.keys()  # a tied head is there once
    for name, parameter in own.items():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-6, rtol=2e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_written_computes_the_same_in_transformers_and_here(
    tied: bool, tmp_path: Path
) -> None:
    config = replace(SMALL, tie_word_embeddings=tied)
    model = build(config, TrainingSettings(seed=3), None)
    save_file(model_tensors(model), tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config_json(config)))
    checked = inspect(tmp_path)
    assert checked.gpt2 == config
    assert not checked.notices
    again = build(config, TrainingSettings(), checked)
    wanted = logits(model, TABLE)
    assert torch.equal(wanted, logits(again, TABLE))
    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not report["missing_keys"]
    with torch.no_grad():
        found = theirs.eval()(packed(TABLE, [0]).ids[None]).logits[0]
    torch.testing.assert_close(found, wanted[:9], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_type_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    other = reference(SMALL)
    model = build(SMALL, TrainingSettings(), stored(other, tmp_path / "m", dtype))
    theirs = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, theirs[name].to(dtype).float())


def test_a_base_of_its_own_keys_keeps_them_but_no_key_that_misleads_a_loader() -> None:
    base = {"task": 1, "torch_dtype": "float16", "transformers_weights": "x", "n_layer": 7}
    written = config_json(SMALL, base)
    assert written["task"] == 1
    assert written["n_layer"] == 2
    assert written["dtype"] == "float32"
    assert not {"torch_dtype", "transformers_weights"} & written.keys()


def test_new_weights_are_small_and_those_added_to_the_stream_smaller() -> None:
    config = replace(SMALL, n_embd=96, n_layer=8)
    model = build(config, TrainingSettings(seed=1), None)
    spread = {name: parameter.std().item() for name, parameter in model.named_parameters()}
    assert spread["transformer.h.7.mlp.c_fc.weight"] == pytest.approx(0.02, rel=0.05)
    assert spread["transformer.h.7.mlp.c_proj.weight"] == pytest.approx(0.02 / 4, rel=0.05)
    assert spread["transformer.h.7.attn.c_proj.weight"] == pytest.approx(0.02 / 4, rel=0.05)
    assert model.transformer.ln_f.weight.eq(1).all()
    assert model.transformer.h[0].mlp.c_fc.bias.eq(0).all()
    same = build(config, TrainingSettings(seed=1), None).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in model.state_dict().items())
    other = build(config, TrainingSettings(seed=2), None)
    assert not torch.equal(other.transformer.wte.weight, model.transformer.wte.weight)


@pytest.mark.parametrize("tied", [True, False])
def test_frozen_layers_and_embeddings_get_no_gradient(tied: bool) -> None:
    config, settings = replace(SMALL, tie_word_embeddings=tied), TrainingSettings(frozen=1)
    model = build(config, settings, None)
    model(packed(TABLE, range(4))).backward()
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    trained = {n for n, _ in model.named_parameters() if ".h.1." in n or "ln_f" in n}
    assert with_gradient == trained | (set() if tied else {"lm_head.weight"})
    assert (frozen_notice(config, settings) is not None) == tied


def test_freezing_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match="2 layers"):
        build(SMALL, TrainingSettings(frozen=3), None)
    with pytest.raises(UsageError, match="2 layers"):
        build(SMALL, TrainingSettings(frozen=2, lora=LoraSettings()), None)
