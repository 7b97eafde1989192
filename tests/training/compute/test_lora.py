"""Adapters compute what PEFT's do on the same tensors, and PEFT reads what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.training import SMALL, logits, pieces, reference, reference_loss, stored

from gptcli.errors import UsageError
from gptcli.training.compute.batch import packed
from gptcli.training.compute.building import build
from gptcli.training.compute.export import adapter_config, adapter_tensors, load_adapter_tensors
from gptcli.training.compute.network import TrainableGPT2
from gptcli.training.compute.optimizer import optimizer_tensors
from gptcli.training.compute.step import Stepper
from gptcli.training.settings import LoraSettings, TrainingSettings

TABLE = pieces([9, 4, 9, 1])
CPU = torch.device("cpu")
CASES = {
    "c_attn": (LoraSettings(rank=4, alpha=8), 0),
    "all": (LoraSettings(rank=3, alpha=5, targets=("all",)), 0),
    "projections": (LoraSettings(rank=2, alpha=1, targets=("attn.c_proj", "mlp.c_proj")), 0),
    "last layer": (LoraSettings(rank=2, targets=("c_fc", "c_attn")), 1),
}


def stirred(model: TrainableGPT2) -> TrainableGPT2:
    """The model with adapters that change something."""
    torch.manual_seed(4)
    with torch.no_grad():
        for tensor in adapter_tensors(model).values():
            tensor.add_(torch.randn_like(tensor), alpha=0.2)
    return model


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks it
@pytest.mark.parametrize(("lora", "frozen"), CASES.values(), ids=CASES)
def test_forward_and_gradients_are_those_of_peft_with_the_written_adapter(
    lora: LoraSettings, frozen: int, tmp_path: Path
) -> None:
    import peft

    settings, base = TrainingSettings(lora=lora, frozen=frozen), reference(SMALL)
    model = stirred(build(SMALL, settings, stored(base, tmp_path / "base")))
    (tmp_path / "own").mkdir()
    save_file(adapter_tensors(model), tmp_path / "own" / "adapter_model.safetensors")
    described = adapter_config(settings, SMALL.n_layer, str(tmp_path / "base"))
    (tmp_path / "own" / "adapter_config.json").write_text(json.dumps(described))
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "own", is_trainable=True)
    expected = reference_loss(theirs, TABLE)
    expected.backward()
    loss = model(packed(TABLE, range(4))) / 23
    loss.backward()
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    gradients = {
        name.replace(".default", ""): parameter.grad
        for name, parameter in theirs.named_parameters()
        if parameter.requires_grad
    }
    own = {
        f"base_model.model.{name}": parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    assert own.keys() == gradients.keys() == adapter_tensors(model).keys()
    for name, gradient in own.items():
        torch.testing.assert_close(gradient, gradients[name], atol=1e-6, rtol=1e-5)


def test_a_new_adapter_changes_nothing_and_has_pefts_spread(tmp_path: Path) -> None:
    weights = stored(reference(SMALL), tmp_path / "base")
    plain = build(SMALL, TrainingSettings(), weights)
    adapted = build(SMALL, TrainingSettings(lora=LoraSettings(rank=64)), weights)
    assert torch.equal(logits(plain, TABLE), logits(adapted, TABLE))
    first = adapted.transformer.h[0].attn.c_attn
    assert first.lora_B.weight.eq(0).all()
    bound = 24**-0.5  # kaiming_uniform_ with a = sqrt(5), as in PEFT
    assert bound * 0.98 < first.lora_A.weight.abs().max() <= bound
    assert not torch.equal(first.lora_A.weight, adapted.transformer.h[1].attn.c_attn.lora_A.weight)


def test_steps_change_the_adapter_alone_and_keep_state_of_it_alone(tmp_path: Path) -> None:
    settings = TrainingSettings(lora=LoraSettings(targets=("all",)), warmup=1, steps=3)
    weights = stored(reference(SMALL), tmp_path / "base")
    stepper = Stepper(build(SMALL, settings, weights), settings, CPU, 100)
    before = {name: p.detach().clone() for name, p in stepper.model.named_parameters()}
    for number in (1, 2):  # A has no gradient while B is 0
        stepper.step(TABLE, np.arange(4), number)
    changed = {
        name for name, p in stepper.model.named_parameters() if not torch.equal(p, before[name])
    }
    assert changed == {name for name in before if ".lora_" in name}
    assert {name.rpartition(".")[0] for name in optimizer_tensors(stepper.optimizer)} == changed


def test_an_adapter_is_put_back_to_the_bit() -> None:
    settings = TrainingSettings(lora=LoraSettings(targets=("all",)))
    model = stirred(build(SMALL, settings, None))
    again = build(SMALL, settings, None)
    load_adapter_tensors(again, {n: t.clone() for n, t in adapter_tensors(model).items()})
    assert torch.equal(logits(model, TABLE), logits(again, TABLE))


def test_a_target_that_is_none_is_refused() -> None:
    settings = replace(TrainingSettings(), lora=LoraSettings(targets=("c_proj",)))
    with pytest.raises(UsageError, match="c_proj"):
        build(SMALL, settings, None)
