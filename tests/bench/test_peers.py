"""Peers of the benchmark: each writes what our engine writes, so that speeds may be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gptcli import load
from gptcli.bench.peers.peer import PeerSetting, PeerWork, cut, static_batches
from gptcli.bench.peers.roster import PEERS, Contender, contenders, open_peer, prepare
from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.errors import BadModel
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion

# Of several lengths, and more than there are slots.
WORK = [
    PeerWork("Once upon a time", 24),
    PeerWork("The old king said", 9),
    PeerWork("A dragon and a fox", 6),
]


def opened(name: str, checkpoint: Path, folder: Path) -> Any:
    """A peer on a checkpoint, with two slots; the test is skipped where it is not installed."""
    [contender] = contenders(name)
    for module in contender.kind.modules:
        pytest.importorskip(module, reason=f"{contender.name} needs {module}, see gptcli[bench]")
    prepare(contender, checkpoint, folder)
    made = any(folder.iterdir())
    setting = PeerSetting(
        folder=folder if made else checkpoint,
        dtype=contender.dtype,
        device="cpu",
        threads=1,
        slots=2,
    )
    return open_peer(contender, setting)


def ours(checkpoint: Path) -> list[list[int]]:
    model = load(options=Load(model=str(checkpoint), dtype="float32"))

    def tokens(item: PeerWork) -> list[int]:
        told = Sampling(greedy=True, max_new_tokens=item.new_tokens, min_new_tokens=item.new_tokens)
        done = model.generate(item.prompt, told)
        assert isinstance(done, Completion)
        return list(done.tokens)

    return [tokens(item) for item in WORK]


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_writes_the_tokens_that_we_write(name: str, tales: Path, tmp_path: Path) -> None:
    assert opened(name, tales, tmp_path).write(WORK) == ours(tales)


@pytest.mark.parametrize("name", ["transformers:bfloat16", "ctranslate2:int8", "llama.cpp:q8_0"])
def test_a_peer_in_fewer_bits_writes_as_many_tokens(name: str, tales: Path, tmp_path: Path) -> None:
    found = opened(name, tales, tmp_path).write(WORK)
    assert [len(row) for row in found] == [item.new_tokens for item in WORK]


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_does_not_end_at_the_end_token(name: str, ending: Path, tmp_path: Path) -> None:
    [found] = opened(name, ending, tmp_path).write([PeerWork("the king", 8)])
    assert len(found) == 8
    assert 0 not in found


@pytest.fixture
def ending(make_tiny: Any, tiny: Path) -> Path:
    """A model that would write its end token, 0, at every place; as many tokens as embeddings."""
    from safetensors.torch import load_file, save_file

    folder: Path = make_tiny(vocab_size=load_tokenizer(tiny).size)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.bias"] = 20 * tensors["transformer.wte.weight"][0]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    told = Sampling(greedy=True, max_new_tokens=8)
    assert load(options=Load(model=str(folder))).generate("the king", told).tokens in ((), (0,))
    return folder


def test_llama_cpp_reads_a_head_of_its_own(make_tiny: Any, tmp_path: Path) -> None:
    checkpoint = make_tiny(tie_word_embeddings=False)
    assert opened("llama.cpp", checkpoint, tmp_path).write(WORK) == ours(checkpoint)


def test_llama_cpp_refuses_a_gpt2_that_it_computes_otherwise(
    make_tiny: Any, tmp_path: Path
) -> None:
    pytest.importorskip("gguf", reason="llama.cpp needs gguf, see gptcli[bench]")
    with pytest.raises(BadModel, match="activation_function relu"):
        prepare(Contender("llama.cpp", "f32"), make_tiny(activation_function="relu"), tmp_path)


@pytest.mark.parametrize(
    ("name", "setting", "why"),
    [
        ("ctranslate2", {"scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx"),
        ("ctranslate2", {"scale_attn_weights": False}, "scale_attn_weights"),
        ("ctranslate2", {"layer_norm_epsilon": 1e-3}, "layer_norm_epsilon 0.001"),
        ("ctranslate2", {"layer_norm_epsilon": 1.1e-5}, "layer_norm_epsilon"),
        ("llama.cpp", {"scale_attn_by_inverse_layer_idx": True}, "attention scale"),
        ("llama.cpp", {"scale_attn_weights": False}, "attention scale"),
        ("llama.cpp", {"activation_function": "gelu"}, "activation_function"),
    ],
)
def test_a_peer_that_ignores_a_setting_of_the_config_refuses_the_model(
    name: str, setting: dict[str, Any], why: str, make_tiny: Any, tmp_path: Path
) -> None:
    if name == "llama.cpp":
        pytest.importorskip("gguf", reason="llama.cpp needs gguf, see gptcli[bench]")
    contender = Contender(name, PEERS[name].dtypes[0])
    with pytest.raises(BadModel, match=why):
        prepare(contender, make_tiny(**setting), tmp_path)


def test_ctranslate2_takes_the_settings_that_it_has(tales: Path) -> None:
    from gptcli.bench.peers.ctranslate2 import unlike

    assert unlike(inspect(tales).gpt2) == ""
    assert unlike(None) == ""


@pytest.mark.parametrize(
    "setting",
    [
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"layer_norm_epsilon": 1e-3},
        {"activation_function": "relu"},
        {"tie_word_embeddings": False},
        {"n_inner": 48},
    ],
)
def test_transformers_obeys_every_setting(
    setting: dict[str, Any], make_tiny: Any, tmp_path: Path
) -> None:
    checkpoint = make_tiny(**setting)
    assert opened("transformers", checkpoint, tmp_path).write(WORK) == ours(checkpoint)


def test_a_gguf_file_has_matrices_as_llama_cpp_multiplies(tiny: Path, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="llama.cpp needs gguf, see gptcli[bench]")
    prepare(Contender("llama.cpp", "f16"), tiny, tmp_path)
    tensors = {item.name: item for item in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    kinds = gguf.GGMLQuantizationType
    assert tensors["blk.1.ffn_up.weight"].data.shape == (128, 32)
    assert tensors["blk.1.ffn_up.weight"].tensor_type == kinds.F16
    assert tensors["blk.1.ffn_up.bias"].tensor_type == kinds.F32
    assert tensors["position_embd.weight"].tensor_type == kinds.F32


def test_static_batches_keep_the_order_of_arrival() -> None:
    works = [PeerWork(str(number), 1) for number in range(5)]
    batches = [[item.prompt for item in batch] for batch in static_batches(works, 2)]
    assert batches == [["0", "1"], ["2", "3"], ["4"]]


def test_what_a_batch_computes_beyond_a_rows_end_is_cut_off() -> None:
    assert cut([[1, 2, 3], [4, 5, 6]], [PeerWork("a", 3), PeerWork("b", 1)]) == [[1, 2, 3], [4]]


def test_a_peer_is_missing_where_one_of_its_modules_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PEERS["llama.cpp"], "modules", ("json", "no_such_library"))
    assert contenders("llama.cpp")[0].missing == ("no_such_library",)
