"""Broken and unsafe models through the real command: the right code, one line, nothing executed.

What each malformed file must get, in all its variants, is in test_preflight and test_tokenization;
here are the worst of them as a user meets them, and models that come from a (local) Hub.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import REAL, run
from support.fake_hub import COMMIT, FakeHub

INDEX = "model.safetensors.index.json"
Break = Callable[[Path], object]


class Canary:
    """Unpickling it leaves a file behind."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def pickle_in(folder: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps(Canary(folder / "canary")))


def index_to(shard: str) -> Break:
    def broken(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
        if shard.endswith(".bin"):
            pickle_in(folder, shard)
        content = {"metadata": {}, "weight_map": {"transformer.wte.weight": shard}}
        (folder / INDEX).write_text(json.dumps(content))

    return broken


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    pickle_in(folder, "pytorch_model.bin")


def config(**changes: object) -> Break:
    def broken(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return broken


def config_text(text: str) -> Break:
    return lambda folder: (folder / "config.json").write_text(text)


def tokenizer_text(text: str) -> Break:
    return lambda folder: (folder / "tokenizer.json").write_text(text)


def panicking_tokenizer(folder: Path) -> None:
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated"}
    content["pre_tokenizer"]["invert"] = False
    content["model"]["merges"] = [["a", "b c"]]
    file.write_text(json.dumps(content))


def tensors(change: Callable[[dict], object]) -> Break:
    def broken(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        loaded = load_file(folder / "model.safetensors")
        change(loaded)
        save_file(loaded, folder / "model.safetensors", metadata={"format": "pt"})

    return broken


def without_two(loaded: dict) -> None:
    del loaded["transformer.h.0.ln_1.weight"], loaded["transformer.h.1.mlp.c_fc.bias"]


def not_a_number(loaded: dict) -> None:
    loaded["transformer.ln_f.weight"][0] = float("nan")


def cut_by_a_byte(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def endless_header(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes((2**63).to_bytes(8, "little") + file.read_bytes()[8:])


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        pytest.param(index_to("m.bin"), "m.bin", id="1-index-to-a-pickle"),
        pytest.param(index_to("../elsewhere.safetensors"), "..", id="2-index-out-of-the-folder"),
        pytest.param(index_to("/etc/elsewhere.safetensors"), "/etc", id="2-index-to-a-path"),
        pytest.param(only_a_pickle, "safetensors", id="3-only-a-pickle"),
        pytest.param(config(auto_map={"A": "b.C"}), "auto_map", id="4-code-of-its-own"),
        pytest.param(tensors(without_two), "h.0.ln_1.weight", id="5-tensors-missing"),
        pytest.param(tensors(not_a_number), "non-finite scores at token 1", id="6-not-a-number"),
        pytest.param(cut_by_a_byte, "model.safetensors", id="7-cut-by-a-byte"),
        pytest.param(endless_header, "model.safetensors", id="7-endless-header"),
        pytest.param(tokenizer_text("{"), "tokenizer.json", id="9-broken-tokenizer"),
        pytest.param(panicking_tokenizer, "tokenizer.json", id="9-panicking-tokenizer"),
        pytest.param(config_text("[" * 100_000), "config.json", id="10-deep"),
        pytest.param(config_text("null"), "config.json", id="10-null"),
        pytest.param(config(n_layer=-1), "n_layer", id="10-negative"),
        pytest.param(config(layer_norm_epsilon=float("nan")), "config.json", id="10-nan"),
    ],
)
def test_a_bad_model_is_65_and_one_line(
    tiny: Path, tmp_path: Path, broken: Break, told: str
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    broken(folder)
    done = run(REAL, "generate", "Once", "--greedy", "-m", str(folder))
    assert (done.returncode, done.stdout) == (65, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("gptcli: error: ")
    assert told in line
    assert not (folder / "canary").exists()


def test_a_kernel_from_elsewhere_is_ignored_and_said(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    config(_attn_implementation="someone/kernel")(folder)
    done = run(REAL, "generate", "Once", "--greedy", "-m", str(folder), "--max-new-tokens", "3")
    assert done.returncode == 0
    assert b"_attn_implementation" in done.stderr


@pytest.mark.parametrize("kernel", ["someone/kernel", "flash_attention_2", {"": "someone/kernel"}])
def test_no_engine_fetches_a_kernel(main_in, tiny: Path, tmp_path: Path, kernel: object) -> None:
    """Beam search runs through transformers, where the name in config.json once won."""
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    config(_attn_implementation=kernel, transformers_weights="elsewhere")(folder)
    args = ("generate", "Once", "--num-beams", "2", "--max-new-tokens", "3", "-m", str(folder))
    if kernel == "someone/kernel":  # transformers takes seconds to start: once it is the program
        done = run(REAL, *args)
        code, said = done.returncode, done.stderr.decode()
    else:
        code, _, said = main_in(*args)
    assert code == 0, said
    assert "config.json: _attn_implementation is ignored" in said


def test_new_tokens_are_cut_at_the_context_and_said_where_no_window_can_slide(tiny: Path) -> None:
    args = ("--json", "--greedy", "--max-new-tokens", "200", "--logit-bias", "0=-100")
    args += ("--logprobs", "0")
    done = run(REAL, "generate", "a b c d e f", "-m", str(tiny), *args)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["finish_reason"]) == (0, "length")
    assert answer["usage"]["total_tokens"] == 64
    assert b"context" in done.stderr


def test_new_tokens_beyond_the_context_are_written_by_a_window_that_slides(tiny: Path) -> None:
    args = ("--json", "--greedy", "--max-new-tokens", "200", "--logit-bias", "0=-100")
    done = run(REAL, "generate", "a b c d e f", "-m", str(tiny), *args)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["usage"]["completion_tokens"]) == (0, 200)
    assert done.stderr.decode().count("its beginning is no longer seen") == 1


def test_no_model_named_and_no_hub_falls_back_and_says_so() -> None:
    done = run(REAL, "generate", "Once", "--max-new-tokens", "3", "--json")
    assert (done.returncode, json.loads(done.stdout)["model"]) == (0, "tiny-tales")
    (line,) = done.stderr.decode().splitlines()
    assert "gptcli generate -m gpt2" in line


def test_a_named_model_without_a_hub_is_69() -> None:
    begin = time.monotonic()
    done = run(REAL, "generate", "Once", "-m", "gpt2")
    assert (done.returncode, done.stdout) == (69, b"")
    assert len(done.stderr.splitlines()) == 1
    assert time.monotonic() - begin < 10


def test_a_model_of_the_hub_is_downloaded_once_and_used_offline(tiny: Path, tmp_path: Path) -> None:
    files = {file.name: file.read_bytes() for file in tiny.iterdir()}
    ask = ("generate", "Once", "-m", "gpt2", "--json", "--seed", "1", "--max-new-tokens", "3")
    with FakeHub("openai-community/gpt2", files) as hub:
        first = run(REAL, *ask, HF_ENDPOINT=hub.url, HF_HOME=tmp_path)
    second = run(REAL, *ask, "--offline", HF_HOME=tmp_path)
    assert (first.returncode, first.stderr) == (0, b"")
    assert first.stdout == second.stdout
    assert json.loads(second.stdout)["revision"] == COMMIT
