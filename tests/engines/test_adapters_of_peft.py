"""Every kind of adapter that is applied computes what PEFT computes with the same files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from support.weights import at_once
from transformers import GPT2LMHeadModel, LlamaForCausalLM

from gptcli.checkpoints.adapters.changes import changes
from gptcli.checkpoints.adapters.overlay import with_adapters
from gptcli.checkpoints.adapters.parts import read_parts
from gptcli.checkpoints.adapters.reference import Adapter
from gptcli.checkpoints.adapters.stored_base import StoredBase
from gptcli.checkpoints.preflight import inspect
from gptcli.engines import placement
from gptcli.engines.adapted import adapt
from gptcli.engines.gpt2.on_torch.network import TorchNetwork
from gptcli.engines.gpt2.on_torch.weights import Weights
from gptcli.engines.gpt2.reference import ReferenceNetwork
from gptcli.options import Load

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT warns of much that is meant here
IDS = [1, 5, 3, 2, 9, 23, 0]
BOUND = 1e-5  # of logits in float32
Settings = dict[str, Any]

GPT2_KINDS: dict[str, Settings] = {
    "LoRA": {"target_modules": ["c_attn"]},
    "both c_proj by one suffix": {"target_modules": ["c_proj"]},
    "rsLoRA": {"target_modules": ["c_attn", "c_fc"], "use_rslora": True},
    "patterns": {
        "target_modules": ["c_attn", "c_fc", "c_proj"],
        "rank_pattern": {r".*\.1\.attn\.c_(attn|proj)": 3, "mlp.c_fc": 1},
        "alpha_pattern": {"h.0.mlp.c_fc": 9, r"h\.\d+\.attn.c_attn": 1},
    },
    "one layer": {"target_modules": ["c_attn"], "layers_to_transform": [1], "layers_pattern": "h"},
    "DoRA": {"target_modules": ["c_attn", "c_fc", "c_proj"], "use_dora": True},
    "all biases": {"target_modules": ["c_attn"], "bias": "all"},
    "LoRA's biases": {"target_modules": ["c_attn"], "bias": "lora_only"},
    "a bias of LoRA": {"target_modules": ["c_fc"], "lora_bias": True},
    "embedding": {"target_modules": ["wte", "c_attn"]},
    "positions": {"target_modules": ["wpe"]},
    "DoRA of the embedding": {"target_modules": ["wte"], "use_dora": True},
    "embedding, said to be tied": {"target_modules": ["wte"], "ensure_weight_tying": True},
    "head": {"target_modules": ["lm_head"]},
    "own embedding": {"target_modules": ["c_attn"], "modules_to_save": ["wte"]},
    "own head": {"target_modules": ["c_attn"], "modules_to_save": ["lm_head"]},
    "own embedding and head": {"target_modules": ["c_attn"], "modules_to_save": ["wte", "lm_head"]},
    "own norm": {"target_modules": ["c_attn"], "modules_to_save": ["ln_f"]},
    "own tokens": {"target_modules": ["c_attn"], "trainable_token_indices": [1, 3]},
    "own tokens of the head": {
        "target_modules": ["c_attn"],
        "trainable_token_indices": {"lm_head": [1, 3]},
    },
    "larger vocabulary": {"target_modules": ["c_attn"], "tokens": 26},
}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LLAMA_KINDS: dict[str, Settings] = {
    "patterns": {
        "target_modules": LINEAR,
        "use_rslora": True,
        "rank_pattern": {r".*1\.self_attn\.q_proj": 3},
        "alpha_pattern": {"layers.0.mlp.up_proj": 9},
    },
    "DoRA": {"target_modules": LINEAR, "use_dora": True},
    "biases": {"target_modules": ["q_proj"], "bias": "all"},
    "embedding": {"target_modules": ["embed_tokens"]},
    "embedding, tied": {"target_modules": ["embed_tokens"], "ensure_weight_tying": True},
    "head, tied": {"target_modules": ["lm_head", "q_proj"], "ensure_weight_tying": True},
    "own matrices": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    "own, tied": {
        "target_modules": ["q_proj"],
        "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
    },
    "own tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [1, 3]},
}


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=24, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def llama(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=24,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        attention_bias=True,
        tie_word_embeddings=request.param,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def trained(opened: Callable[[], Any], folder: Path, settings: Settings, seed: int = 2) -> Any:
    """Save an adapter that PEFT made, with random numbers; what PEFT computes with its files."""
    settings = dict(settings)
    tokens = settings.pop("tokens", None)

    def base() -> Any:
        model = opened()
        if tokens is not None:
            model.resize_token_embeddings(tokens, mean_resizing=False)
        return model

    config = peft.LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM", **settings)
    model = peft.get_peft_model(base(), config)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.1
    model.save_pretrained(folder)
    with torch.no_grad():
        again = peft.PeftModel.from_pretrained(base(), folder).eval()
        return again(torch.tensor([IDS])).logits[0].numpy()


def computed(base: Path, *adapters: Adapter) -> np.ndarray:
    checked, _ = with_adapters(inspect(base), adapters, "base")
    assert checked.gpt2 is not None
    network = ReferenceNetwork(checked.gpt2, checked)
    return network.logits(network.final(IDS))


@pytest.mark.parametrize("kind", GPT2_KINDS)
def test_a_gpt2_computes_what_peft_computes(gpt2: Path, tmp_path: Path, kind: str) -> None:
    want = trained(lambda: GPT2LMHeadModel.from_pretrained(gpt2), tmp_path, GPT2_KINDS[kind])
    found = computed(gpt2, Adapter(name="it", folder=tmp_path))
    assert found.shape == want.shape
    assert np.abs(found - want).max() < BOUND
    assert np.abs(found[:, :24] - computed(gpt2)).max() > 1e-4  # it does something


@pytest.mark.parametrize("kind", ["DoRA", "own embedding", "larger vocabulary"])
def test_every_network_of_gpt2_reads_the_changed_tensors(
    gpt2: Path, tmp_path: Path, kind: str
) -> None:
    want = trained(lambda: GPT2LMHeadModel.from_pretrained(gpt2), tmp_path, GPT2_KINDS[kind])
    checked, _ = with_adapters(inspect(gpt2), [Adapter(name="it", folder=tmp_path)], "base")
    assert checked.gpt2 is not None
    networks = [
        placement.open_network(Load(dtype="float32"), "x", checked, "cpu")[0],
        TorchNetwork(Weights(checked.gpt2, checked, torch.device("cpu"), torch.float32)),
    ]
    del checked
    for network in networks:
        assert np.abs(at_once(network, IDS).numpy() - want).max() < BOUND


@pytest.mark.parametrize("kind", LLAMA_KINDS)
def test_another_architecture_computes_what_peft_computes(
    llama: Path, tmp_path: Path, kind: str
) -> None:
    want = trained(lambda: LlamaForCausalLM.from_pretrained(llama), tmp_path, LLAMA_KINDS[kind])
    model = LlamaForCausalLM.from_pretrained(llama).eval()
    adapter = Adapter(name="it", folder=tmp_path)
    adapt(model, inspect(llama), [adapter], "base")
    with torch.no_grad():
        assert np.abs(model(torch.tensor([IDS])).logits[0].numpy() - want).max() < BOUND
    # What a merge writes is the same, without the model.
    stored = changes(StoredBase(inspect(llama), "base"), [read_parts(adapter)])
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in stored.parts:
            assert np.array_equal(stored.value(name), parameter.detach().numpy())


def test_beam_search_takes_gpt2s_own_layout(gpt2: Path, tmp_path: Path) -> None:
    want = trained(lambda: GPT2LMHeadModel.from_pretrained(gpt2), tmp_path, GPT2_KINDS["DoRA"])
    model = GPT2LMHeadModel.from_pretrained(gpt2).eval()
    adapt(model, inspect(gpt2), [Adapter(name="it", folder=tmp_path)], "base")
    with torch.no_grad():
        assert np.abs(model(torch.tensor([IDS])).logits[0].numpy() - want).max() < BOUND


def test_several_adapters_add_up_as_in_peft(gpt2: Path, tmp_path: Path) -> None:
    def base() -> Any:
        return GPT2LMHeadModel.from_pretrained(gpt2)

    trained(base, tmp_path / "a", GPT2_KINDS["DoRA"])
    trained(base, tmp_path / "b", GPT2_KINDS["LoRA"], seed=3)
    model = peft.PeftModel.from_pretrained(base(), tmp_path / "a", adapter_name="a")
    model.load_adapter(tmp_path / "b", adapter_name="b")
    model.base_model.set_adapter(["a", "b"])
    with torch.no_grad():
        want = model.eval()(torch.tensor([IDS])).logits[0].numpy()
    adapters = [Adapter(name=name, folder=tmp_path / name) for name in "ab"]
    assert np.abs(computed(gpt2, *adapters) - want).max() < BOUND


def test_a_model_in_bfloat16_is_rounded_once(llama: Path, tmp_path: Path) -> None:
    trained(lambda: LlamaForCausalLM.from_pretrained(llama), tmp_path, {"target_modules": LINEAR})
    adapter = Adapter(name="it", folder=tmp_path)
    exact, half = (
        LlamaForCausalLM.from_pretrained(llama, dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    for model in (exact, half):
        adapt(model, inspect(llama), [adapter], "base")
    for one, other in zip(exact.parameters(), half.parameters(), strict=True):
        assert torch.equal(one.to(torch.bfloat16), other)
