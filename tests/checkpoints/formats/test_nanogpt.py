"""Checkpoints of nanoGPT and its relatives: the same scores, and no pickle that is followed."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file
from support import locked_readers
from support.hostile_files.nanogpt import ARGS, HOSTILE, saved
from support.linear_gpt2 import CONTEXT, HEADS, WIDTH, scores, state
from transformers import GPT2Config, GPT2LMHeadModel

from gptcli.checkpoints.formats.locked.readers import nanogpt, pickles
from gptcli.checkpoints.formats.locked.readers.gpt2.characters import plain_pickle
from gptcli.checkpoints.formats.locked.source import Job, Refused, Source
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadModel

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def read(*files: Path) -> Source:
    return locked_readers.read(nanogpt, *files)


def assert_scores(source: Source, folder: Path, wanted: torch.Tensor) -> None:
    found = locked_readers.scores(locked_readers.convert(source, folder), IDS)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_scores_are_those_of_nanogpt(tmp_path: Path) -> None:
    weights = state()
    weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, CONTEXT, CONTEXT)
    source = read(saved(tmp_path / "a", weights))
    assert source.format == "a checkpoint of nanoGPT"
    assert (source.config or {})["activation_function"] == "gelu"
    assert source.left_out["lm_head.weight"] == "it is the embedding"
    assert source.left_out["transformer.h.0.attn.bias"] == "it is no weight"
    assert source.left_out["optimizer"] == "it belongs to the training"
    assert_scores(source, tmp_path / "b", scores(weights, IDS))


def test_a_model_without_biases_has_biases_of_zero(tmp_path: Path) -> None:
    weights = state(bias=False)
    source = read(saved(tmp_path / "a", weights, model_args={**ARGS, "bias": False}))
    assert_scores(source, tmp_path / "b", scores(weights, IDS))
    assert (load_file(tmp_path / "b/model.safetensors")["ln_f.bias"] == 0).all()


def test_before_it_had_an_option_of_biases_its_gelu_was_the_older_one(tmp_path: Path) -> None:
    weights = state()
    args = {key: value for key, value in ARGS.items() if key != "bias"}
    source = read(saved(tmp_path / "a", weights, model_args=args))
    assert_scores(source, tmp_path / "b", scores(weights, IDS, tanh=True))


@pytest.mark.parametrize(
    "prefix",
    ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.gpt."],
)
def test_prefixes_of_other_programs_are_taken_off(tmp_path: Path, prefix: str) -> None:
    weights = state()
    named = {prefix + name: tensor for name, tensor in weights.items()}
    assert_scores(read(saved(tmp_path / "a", named)), tmp_path / "b", scores(weights, IDS))


def test_wrappers_inside_a_name_are_taken_out(tmp_path: Path) -> None:
    weights = state()
    named = {
        name.replace("h.", "h.").replace("attn.", "_checkpoint_wrapped_module.attn._orig_mod.")
        for name in weights
    }
    assert len(named) == len(weights)
    wrapped = {
        name.replace("attn.", "_checkpoint_wrapped_module.attn._orig_mod.", 1): tensor
        for name, tensor in weights.items()
    }
    assert_scores(read(saved(tmp_path / "a", wrapped)), tmp_path / "b", scores(weights, IDS))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_checkpoint_keeps_its_type(tmp_path: Path, kind: torch.dtype) -> None:
    weights = {name: tensor.to(kind) for name, tensor in state().items()}
    source = read(saved(tmp_path / "a", weights))
    made = load_file(locked_readers.convert(source, tmp_path / "b") / "model.safetensors")
    assert torch.equal(made["h.0.mlp.c_fc.weight"], weights["transformer.h.0.mlp.c_fc.weight"].T)
    assert made["wte.weight"].dtype == kind


def test_an_untied_head_is_kept_as_in_mingpt(tmp_path: Path) -> None:
    weights = {**state(), "lm_head.weight": torch.randn(37, WIDTH)}
    (tmp_path / "config.json").write_text(json.dumps({"model": {"n_head": HEADS}}), "utf-8")
    torch.save(weights, tmp_path / "model.pt")
    source = read(tmp_path / "model.pt", tmp_path / "config.json")
    assert (source.config or {})["tie_word_embeddings"] is False
    wanted = scores(weights, IDS, tanh=True)
    assert_scores(source, tmp_path / "b", wanted)


def test_a_head_that_was_saved_twice_is_still_the_embedding(tmp_path: Path) -> None:
    weights = state()
    weights["lm_head.weight"] = weights["lm_head.weight"].clone()
    assert "lm_head.weight" in read(saved(tmp_path, weights)).left_out


def test_a_checkpoint_of_lightning_around_transformers(tmp_path: Path) -> None:
    config = GPT2Config(
        vocab_size=37, n_positions=12, n_embd=16, n_layer=2, n_head=2, layer_norm_epsilon=0.1
    )
    model = GPT2LMHeadModel(config).eval()
    config.architectures = ["GPT2LMHeadModel"]
    config.save_pretrained(tmp_path)
    held = {
        "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        "pytorch-lightning_version": "2.5.0",
        "epoch": 3,
        "hyper_parameters": {"learning_rate": 1e-3},
    }
    torch.save(held, tmp_path / "last.ckpt")
    source = read(tmp_path / "last.ckpt", tmp_path / "config.json")
    assert (source.config or {})["layer_norm_epsilon"] == 0.1
    with torch.no_grad():
        assert_scores(source, tmp_path / "b", model(torch.tensor([IDS])).logits[0])


@dataclass
class GPTConfig:
    n_head: int = HEADS


def test_objects_of_settings_and_figures_beside_the_weights_do_nothing(tmp_path: Path) -> None:
    weights = state()
    file = saved(
        tmp_path / "a",
        weights,
        model_args=None,
        optimizer=None,
        config=GPTConfig(),
        val_loss=numpy.float64(1.5),
        figures=(numpy.float32(2), numpy.int64(3)),
        args=argparse.Namespace(out=Path("out"), learning_rate=1e-3),
    )
    assert_scores(read(file), tmp_path / "b", scores(weights, IDS, tanh=True))


def test_an_object_of_settings_can_run_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    program = b"\x80\x02}(X\x05\x00\x00\x00modelc__main__\nRunConfig\nX\x01\x00\x00\x00a\x85Ru."
    file = saved(tmp_path / "a", state())
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for name in old.namelist():
            data = program if name.endswith("data.pkl") else old.read(name)
            new.writestr(name.replace("ckpt/", "b/"), data)
    with pytest.raises(Refused, match="holds no wte"):
        read(tmp_path / "b.pt")
    evil = EvilConfig(canary)
    with pytest.raises(Refused, match="which makes no tensor"):
        read(saved(tmp_path / "a", state(), config=evil))
    assert not canary.exists()


class EvilConfig:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.canary}'",)


def test_pickled_weights_of_transformers_may_have_the_prefix_of_a_module(tmp_path: Path) -> None:
    held = {f"model.{name}": tensor for name, tensor in state().items()}
    torch.save(held, tmp_path / "pytorch_model.bin")
    job = Job(folder=tmp_path, files=(tmp_path / "pytorch_model.bin",))
    assert {tensor.name for tensor in pickles.read(job).tensors} == state().keys()
    llama = {"model.embed_tokens.weight": torch.zeros(2, 2), "model.norm.weight": torch.zeros(2)}
    torch.save(llama, tmp_path / "pytorch_model.bin")
    assert {tensor.name for tensor in pickles.read(job).tensors} == llama.keys()


def test_what_heads_it_has_is_guessed_only_where_it_can_be(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no file says how many heads"):
        read(saved(tmp_path, state(), model_args=None, config=None))


def meta(folder: Path, characters: str, protocol: int = 4) -> Path:
    """The `meta.pkl` of a data set."""
    folder.mkdir(parents=True)
    ids = {character: id for id, character in enumerate(characters)}
    held = {"vocab_size": len(ids), "itos": {id: c for c, id in ids.items()}, "stoi": ids}
    (folder / "meta.pkl").write_bytes(pickle.dumps(held, protocol))
    return folder / "meta.pkl"


@pytest.mark.parametrize("protocol", range(1, 6))
def test_the_characters_of_a_data_set_become_a_tokenizer(tmp_path: Path, protocol: int) -> None:
    file = saved(tmp_path / "out", state())
    other = meta(tmp_path / "data/other", "abc")
    own = meta(tmp_path / "data/shakespeare_char", "\n !'abcdeé漢😀", protocol)
    source = read(file, other, own)
    tokenizer = load_tokenizer(locked_readers.convert(source, tmp_path / "b"))
    text = "a bad\ncab!'é漢😀 "
    assert tokenizer.encode(text) == ["\n !'abcdeé漢😀".index(character) for character in text]
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_vocabulary_of_gpt2_has_its_end(tmp_path: Path) -> None:
    source = read(saved(tmp_path, state(vocabulary=50304)))
    config = source.config or {}
    assert (config["vocab_size"], config["eos_token_id"]) == (50304, 50256)
    assert "copy that of the model" in source.notices[-1]


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_checkpoint_is_refused(tmp_path: Path, what: str) -> None:
    file = saved(tmp_path / "a", **{"weights": state(), **HOSTILE[what]})
    with pytest.raises((Refused, BadModel)) as error:
        locked_readers.convert(read(file), tmp_path / "b")
    assert str(error.value)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (7,)


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Evil()),
        pickle.dumps({"stoi": Evil()}),
        pickle.dumps({"stoi": {"a": 0.5}}),
        pickle.dumps({"stoi": {"a": b"0"}}),
        pickle.dumps({"stoi": {"a": [0]}}),
        b"",
        b"\x80\x04",
        b"\x80\x04.",
        b"\x80\x04}u.",
        b"\x80\x04K\x01u.",
        b"\x80\x04(K\x01u.",
        b"\x80\x04}(K\x01u.",
        b"\x80\x04}(}K\x01u.",
        b"\x80\x04h\x05.",
        b"\x80\x04K\x01}s.",
        b"\x80\x04s.",
        b"\x80\x04X\xff\xff\xff\xffa.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
        b"\x80\x04\x8a\xff" + b"\xff" * 9 + b".",
        b"\x80\x04" + b"(" * 100_000 + b".",
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    ],
)
def test_a_pickle_of_characters_is_read_and_never_run(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "shakespeare_char"
    folder.mkdir()
    (folder / "meta.pkl").write_bytes(data)
    with pytest.raises((Refused, BadModel)):
        read(saved(tmp_path / "a", state()), folder / "meta.pkl")


def test_a_dictionary_that_holds_itself_does_no_harm() -> None:
    held = plain_pickle("x", b"\x80\x04}q\x00X\x01\x00\x00\x00ah\x00s.")
    assert isinstance(held, dict)
    assert held["a"] is held
