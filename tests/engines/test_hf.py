"""Other architectures, through transformers: greedy tokens equal, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPTJConfig,
    GPTNeoConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedConfig,
)

from gptcli.engines import open_engine
from gptcli.engines.hf import HFEngine
from gptcli.errors import BadModel
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion, Engine, GenerateRequest

CONFIGS = {
    "gpt_neo": GPTNeoConfig(
        vocab_size=512,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "gptj": GPTJConfig(
        vocab_size=512,
        n_embd=32,
        n_layer=2,
        n_head=4,
        rotary_dim=4,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=False,
    ),
    "opt": OPTConfig(
        vocab_size=512,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    ),
    "llama": LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    ),
}


def saved(config: PreTrainedConfig, folder: Path, tokenizer: str) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).eval().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    return folder


def completions(engine: Engine, sampling: Sampling, *prompts: str) -> list[Completion]:
    asked = [GenerateRequest(id=str(n), prompt=p, sampling=sampling) for n, p in enumerate(prompts)]
    return [event for event in engine.run(asked) if isinstance(event, Completion)]


@pytest.mark.parametrize("kind", CONFIGS)
def test_greedy_tokens_equal_those_of_transformers(
    kind: str, tmp_path: Path, tiny_tokenizer_text: str
) -> None:
    folder = saved(CONFIGS[kind], tmp_path, tiny_tokenizer_text)
    engine = open_engine(Load(model=str(folder)))
    assert isinstance(engine, HFEngine)
    assert (engine.info.architecture, engine.info.context) == (kind, 64)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for done in completions(engine, Sampling(greedy=True, max_new_tokens=10), "Once upon", "x"):
        ids = torch.tensor([engine.tokenizer.encode(done.prompt)])
        mask = torch.ones_like(ids)
        out = model.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=10, pad_token_id=0
        )
        assert list(done.tokens) == out[0, ids.shape[1] :].tolist()


def test_settings_of_the_checkpoint_do_not_mix_with_ours(
    tmp_path: Path, tiny_tokenizer_text: str
) -> None:
    folder = saved(CONFIGS["gpt_neo"], tmp_path, tiny_tokenizer_text)
    sampling = Sampling(greedy=True, max_new_tokens=10)
    (plain,) = completions(open_engine(Load(model=str(folder))), sampling, "Once")
    file = folder / "generation_config.json"
    strange = {**json.loads(file.read_text()), "repetition_penalty": 9.0, "max_new_tokens": 2}
    file.write_text(json.dumps(strange))
    (again,) = completions(open_engine(Load(model=str(folder))), sampling, "Once")
    assert again.tokens == plain.tokens


def test_missing_tensors_are_refused(tmp_path: Path, tiny_tokenizer_text: str) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved(CONFIGS["gpt_neo"], tmp_path, tiny_tokenizer_text)
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.h.1.ln_1.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadModel, match=r"h\.1\.ln_1\.weight"):
        open_engine(Load(model=str(folder)))


def test_an_unknown_architecture_is_refused(tmp_path: Path, tiny_tokenizer_text: str) -> None:
    folder = saved(CONFIGS["gpt_neo"], tmp_path, tiny_tokenizer_text)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "gpt9"}))
    with pytest.raises(BadModel, match="gpt9"):
        open_engine(Load(model=str(folder)))


def test_a_model_that_is_no_causal_one_is_refused(tmp_path: Path, tiny_tokenizer_text: str) -> None:
    folder = saved(CONFIGS["gpt_neo"], tmp_path, tiny_tokenizer_text)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "t5"}))
    with pytest.raises(BadModel):
        open_engine(Load(model=str(folder)))


def test_a_failure_inside_generate_is_raised_where_events_are_read(
    tmp_path: Path, tiny_tokenizer_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(CONFIGS["gpt_neo"], tmp_path, tiny_tokenizer_text)
    engine = open_engine(Load(model=str(folder)))
    calls = []

    def failing(*args: object, **settings: object) -> torch.Tensor:
        calls.append(1)
        raise ZeroDivisionError("inside the model")

    monkeypatch.setattr(engine._model, "forward", failing)
    with pytest.raises(ZeroDivisionError, match="inside the model"):
        completions(engine, Sampling(), "Once")
    assert calls
