"""Steps are those of the reference optimizers, and go on to the bit after a reload."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.training import SMALL, pieces, reference, reference_loss, stored

from gptcli.errors import BadModel
from gptcli.training.compute.building import build
from gptcli.training.compute.muon import orthogonal
from gptcli.training.compute.optimizer import (
    Optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    rate,
)
from gptcli.training.compute.step import Stepper
from gptcli.training.settings import LoraSettings, TrainingSettings

TABLE = pieces([9, 4, 9, 1, 20, 3], muted=[0, 2, 0, 0, 11, 0])
ALL = np.arange(6)
CPU = torch.device("cpu")
SETTINGS = TrainingSettings(learning_rate=1e-2, warmup=2, steps=5, weight_decay=0.1)


def test_five_steps_are_those_of_transformers_model_with_adamw_by_hand(tmp_path: Path) -> None:
    # Gradients of the keys' biases are 0 but for rounding, which a small epsilon would show.
    settings, other = replace(SETTINGS, epsilon=1e-4), reference(SMALL)
    stepper = Stepper(build(SMALL, settings, stored(other, tmp_path / "m")), settings, CPU, 16)
    theirs = dict(other.named_parameters())
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in theirs.items()}
    for number in range(1, 6):
        result = stepper.step(TABLE, ALL, number)
        other.zero_grad()
        loss = reference_loss(other, TABLE)
        loss.backward()
        assert result.loss == pytest.approx(loss.item(), abs=2e-6)
        assert result.targets == 33
        norm = torch.cat([p.grad.flatten() for p in theirs.values()]).norm()
        assert result.norm == pytest.approx(norm.item(), rel=1e-5)
        speed = 1e-2 * rate(settings, number)
        with torch.no_grad():
            for name, parameter in theirs.items():
                first, second = moments[name]
                grad = parameter.grad * min(1.0, 1 / (norm + 1e-6))
                first.mul_(0.9).add_(0.1 * grad)
                second.mul_(0.95).add_(0.05 * grad**2)
                parameter.mul_(1 - speed * (0.1 if parameter.dim() > 1 else 0.0))
                scale = (second / (1 - 0.95**number)).sqrt() + 1e-4
                parameter.sub_(speed * first / (1 - 0.9**number) / scale)
        for name, parameter in stepper.model.named_parameters():
            torch.testing.assert_close(parameter, theirs[name], atol=1e-6 * number, rtol=1e-5)


def test_eight_parts_make_the_step_of_one() -> None:
    made = []
    for micro_tokens in (1, 12, 10**6):
        stepper = Stepper(build(SMALL, SETTINGS, None), SETTINGS, CPU, micro_tokens)
        made.append(stepper.step(TABLE, ALL, 1))
    assert [result.loss for result in made] == pytest.approx([made[0].loss] * 3, rel=1e-6)
    assert [result.norm for result in made] == pytest.approx([made[0].norm] * 3, rel=1e-5)


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)])
def test_a_reloaded_optimizer_goes_on_to_the_bit(
    name: str, lora: LoraSettings | None, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, optimizer=name, lora=lora)
    whole = Stepper(build(SMALL, settings, None), settings, CPU, 16)
    for number in (1, 2):
        whole.step(TABLE, ALL, number)
    save_file(optimizer_tensors(whole.optimizer), tmp_path / "optimizer.safetensors")
    again = Stepper(build(SMALL, settings, None), settings, CPU, 16)
    again.model.load_state_dict(whole.model.state_dict())
    load_optimizer_tensors(again.optimizer, load_file(tmp_path / "optimizer.safetensors"))
    for number in (3, 4):
        assert whole.step(TABLE, ALL, number) == again.step(TABLE, ALL, number)
    after = again.model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in whole.model.state_dict().items())
    held = optimizer_tensors(again.optimizer)
    assert all(torch.equal(v, held[k]) for k, v in optimizer_tensors(whole.optimizer).items())


def test_a_state_of_other_parameters_is_refused() -> None:
    optimizer = Optimizer(build(SMALL, SETTINGS, None), SETTINGS)
    with pytest.raises(BadModel, match="only in one"):
        load_optimizer_tensors(optimizer, {"transformer.wte.weight.exp_avg": torch.zeros(61, 24)})
    load_optimizer_tensors(optimizer, {})  # of a run before its first step


def test_decay_acts_on_matrices_and_embeddings_alone() -> None:
    optimizer = Optimizer(build(SMALL, SETTINGS, None), SETTINGS)
    decays = {
        name: group["weight_decay"]
        for part, _ in optimizer.parts
        for group in part.param_groups
        for name in group["param_names"]
    }
    assert {name for name, decay in decays.items() if decay == 0} == {
        name for name in decays if name.endswith("bias") or ".ln_" in name
    }
    assert decays["transformer.wte.weight"] == decays["transformer.wpe.weight"] == 0.1


def test_muon_makes_matrices_orthogonal_as_torchs_does() -> None:
    torch.manual_seed(2)
    for shape in ((16, 16), (16, 40), (40, 16)):
        found = orthogonal(torch.randn(1, *shape))[0]
        values = torch.linalg.svdvals(found)
        assert 0.6 < values.min() <= values.max() < 1.3
    if not hasattr(torch.optim, "Muon"):
        return
    settings = replace(SETTINGS, optimizer="muon")
    model = build(SMALL, settings, None)
    name = "transformer.h.0.mlp.c_fc.weight"
    matrix = dict(model.named_parameters())[name]
    thirds = dict(model.named_parameters())["transformer.h.0.attn.c_attn.weight"]
    mirrored = torch.nn.Parameter(matrix.detach().t().clone())
    query = torch.nn.Parameter(thirds.detach()[:, :24].t().clone())
    theirs = torch.optim.Muon([mirrored, query], lr=0.02, weight_decay=0.1, adjust_lr_fn="original")
    own = Optimizer(model, settings)
    for number in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter) * (number + 1)
        mirrored.grad = matrix.grad.t().clone()
        query.grad = thirds.grad[:, :24].t().clone()
        own.step(1.0)
        theirs.step()
    # torch multiplies in bfloat16.
    torch.testing.assert_close(matrix.detach().t(), mirrored.detach(), atol=2e-3, rtol=0)
    torch.testing.assert_close(thirds.detach()[:, :24].t(), query.detach(), atol=2e-3, rtol=0)


def test_no_step_is_wasted_at_the_corners_of_a_schedule() -> None:
    def rates(**changes: object) -> list[float]:
        settings = replace(TrainingSettings(), **changes)
        return [rate(settings, step) for step in range(1, settings.steps + 1)]

    for schedule in ("cosine", "linear", "constant", "wsd"):
        assert rates(schedule=schedule, steps=1, warmup=0) == [1.0]
        assert rates(schedule=schedule, steps=1, warmup=1) == [1.0]
        for warmup in (0, 1, 3, 8, 20):
            found = rates(schedule=schedule, steps=8, warmup=warmup)
            assert all(0 < share <= 1 for share in found)
            assert max(found) == (1.0 if warmup <= 8 else 8 / 20)
    linear = rates(schedule="linear", steps=6, warmup=2)
    assert linear == pytest.approx([0.5, 1, 0.8, 0.6, 0.4, 0.2])
    late = rates(schedule="wsd", steps=5, warmup=1, decay_from=0.6)
    assert late == pytest.approx([1, 1, 1, 2 / 3, 1 / 3])
    longer = replace(TrainingSettings(), steps=10, warmup=2, final_rate=0.1)
    assert rate(longer, 11) == rate(longer, 500) == pytest.approx(0.1)  # a run by minutes goes on
    cosine = rates(steps=9, warmup=1)
    assert cosine[4] > 0.5 > cosine[5]
