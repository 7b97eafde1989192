"""Bad checkpoints, each refused with the file and the rule before a tensor is read."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gptcli.checkpoints.preflight import inspect
from gptcli.checkpoints.resolve import missing
from gptcli.checkpoints.safetensors_headers import MAX_HEADER_BYTES
from gptcli.errors import BadModel, MissingInput
from gptcli.system.strict_json import SMALL_FILE_BYTES

SIZES = {"n_layer": 1, "n_embd": 4, "n_head": 2, "n_positions": 3, "vocab_size": 5}
CONFIG = {"model_type": "gpt2", "eos_token_id": 4, **SIZES}
ITEM = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I64": 8, "U8": 1, "BOOL": 1}
Shapes = dict[str, list[int]]


def shapes() -> Shapes:
    """Every tensor of the model that CONFIG describes."""
    block = {"ln_1": [4], "attn.c_attn": [4, 12], "attn.c_proj": [4, 4], "ln_2": [4]}
    block |= {"mlp.c_fc": [4, 16], "mlp.c_proj": [16, 4]}
    names = {"wte.weight": [5, 4], "wpe.weight": [3, 4], "ln_f.weight": [4], "ln_f.bias": [4]}
    for part, shape in block.items():
        names[f"h.0.{part}.weight"] = shape
        names[f"h.0.{part}.bias"] = shape[-1:]
    return names


def tensor_file(names: Shapes, dtype: str = "F16", dtypes: dict[str, str] | None = None) -> bytes:
    """A safetensors file of zeros."""
    header, end = {}, 0
    for name, shape in names.items():
        kind = (dtypes or {}).get(name, dtype)
        begin, end = end, end + ITEM[kind] * count(shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    return with_header(json.dumps({"__metadata__": {"format": "pt"}, **header}).encode(), end)


def with_header(header: bytes, data: int = 0) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(data)


def count(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint that passes."""
    write_config(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(tensor_file(shapes()))
    return tmp_path


def write_config(folder: Path, **changes: object) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes), encoding="utf-8")


def write_shards(folder: Path) -> dict[str, str]:
    """The same model in two shards; gives the index's weight_map."""
    names = list(shapes().items())
    (folder / "model.safetensors").unlink()
    places = {}
    for shard, part in {"a.safetensors": names[:5], "b.safetensors": names[5:]}.items():
        (folder / shard).write_bytes(tensor_file(dict(part)))
        places |= dict.fromkeys(dict(part), shard)
    write_index(folder, places)
    return places


def write_index(folder: Path, weight_map: object) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")


# --- what passes


def test_manifest_says_where_every_tensor_lies(folder: Path) -> None:
    manifest = inspect(folder)
    assert manifest.gpt2 is not None
    assert set(manifest.tensors) == {name for name, _ in manifest.gpt2.tensors()}
    data = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    wpe = manifest.tensors["wpe.weight"]
    assert (wpe.dtype, wpe.shape, wpe.offset, wpe.nbytes) == ("F16", (3, 4), start + 40, 24)


def test_bundled_model_passes_without_notices(tales: Path) -> None:
    manifest = inspect(tales)
    assert manifest.notices == ()
    assert manifest.gpt2 is not None
    assert manifest.gpt2.eos_token_ids == (4095,)


def test_inspection_imports_nothing_heavy(tales: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from gptcli.checkpoints.preflight import inspect;"
        f"inspect(Path({str(tales)!r}));"
        "slow = ('torch', 'numpy', 'tokenizers', 'safetensors', 'huggingface_hub');"
        "sys.exit(any(name in sys.modules for name in slow))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tales.parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_prefix_of_the_language_model_class_is_dropped(folder: Path) -> None:
    names = {f"transformer.{name}": shape for name, shape in shapes().items()}
    (folder / "model.safetensors").write_bytes(tensor_file(names))
    assert "wte.weight" in inspect(folder).tensors


def test_masks_of_old_checkpoints_are_dropped_silently(folder: Path) -> None:
    masks = {"h.0.attn.bias": [1, 1, 3, 3], "h.0.attn.masked_bias": []}
    dtypes = {"h.0.attn.bias": "BOOL"}
    data = tensor_file(shapes() | masks, dtypes=dtypes)
    (folder / "model.safetensors").write_bytes(data)
    manifest = inspect(folder)
    assert manifest.notices == ()
    assert not masks.keys() & manifest.tensors.keys()


def test_copy_of_a_tied_head_is_dropped_silently(folder: Path) -> None:
    data = tensor_file(shapes() | {"lm_head.weight": [5, 4]})
    (folder / "model.safetensors").write_bytes(data)
    manifest = inspect(folder)
    assert manifest.notices == ()
    assert "lm_head.weight" not in manifest.tensors


def test_tied_head_stands_in_for_a_missing_embedding(folder: Path) -> None:
    names = shapes()
    names["lm_head.weight"] = names.pop("wte.weight")
    (folder / "model.safetensors").write_bytes(tensor_file(names))
    assert inspect(folder).tensors["wte.weight"].shape == (5, 4)


def test_head_that_is_not_tied_is_kept(folder: Path) -> None:
    write_config(folder, tie_word_embeddings=False)
    data = tensor_file(shapes() | {"lm_head.weight": [5, 4]})
    (folder / "model.safetensors").write_bytes(data)
    assert "lm_head.weight" in inspect(folder).tensors


def test_other_tensors_are_dropped_with_one_notice(folder: Path) -> None:
    extra = {"score.weight": [2, 4], "summary.bias": [1]}
    (folder / "model.safetensors").write_bytes(tensor_file(shapes() | extra))
    (notice,) = inspect(folder).notices
    assert "score.weight, summary.bias" in notice


def test_shards_are_read_through_their_index(folder: Path) -> None:
    write_shards(folder)
    files = {tensor.file.name for tensor in inspect(folder).tensors.values()}
    assert files == {"a.safetensors", "b.safetensors"}


def test_files_can_be_links_as_in_the_hugging_face_cache(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "x"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(Path("../..") / name)
    assert inspect(snapshot).gpt2 is not None


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
def test_every_floating_point_type_passes(folder: Path, dtype: str) -> None:
    (folder / "model.safetensors").write_bytes(tensor_file(shapes(), dtype))
    assert inspect(folder).tensors["ln_f.bias"].dtype == dtype


def test_other_architectures_keep_their_names(folder: Path) -> None:
    config = {"model_type": "gpt_neo", "hidden_size": 4, "vocab_size": 5}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(tensor_file({"transformer.x": [2]}))
    manifest = inspect(folder)
    assert (manifest.model_type, manifest.gpt2) == ("gpt_neo", None)
    assert list(manifest.tensors) == ["transformer.x"]


def test_old_configuration_without_model_type_is_known_by_its_class(folder: Path) -> None:
    write_config(folder, model_type=None, architectures=["GPT2LMHeadModel"])
    assert inspect(folder).gpt2 is not None


def test_general_names_of_sizes_are_understood(folder: Path) -> None:
    config = dict(CONFIG)
    config["hidden_size"], config["num_hidden_layers"] = config.pop("n_embd"), config.pop("n_layer")
    (folder / "config.json").write_text(json.dumps(config))
    assert inspect(folder).gpt2 is not None


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": 1}, {"eos_token_id": 2}, (1,)),
        ({"eos_token_id": [3, 1, 3]}, {}, (3, 1)),
        ({"eos_token_id": None}, {"eos_token_id": 2}, (2,)),
        (None, {"eos_token_id": [0]}, (0,)),
        (None, {"eos_token_id": None}, ()),
    ],
)
def test_end_tokens_come_from_generation_config_first(
    folder: Path, generation: object, config: dict[str, object], expected: tuple[int, ...]
) -> None:
    write_config(folder, **config)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    manifest = inspect(folder)
    assert manifest.gpt2 is not None
    assert manifest.gpt2.eos_token_ids == expected
    assert manifest.notices == ()


@pytest.mark.parametrize("bad", [5, -1, True, "4", 1.0, [[]]])
def test_end_token_outside_the_vocabulary_is_dropped_with_a_notice(
    folder: Path, bad: object
) -> None:
    write_config(folder, eos_token_id=bad)
    manifest = inspect(folder)
    assert manifest.gpt2 is not None
    assert manifest.gpt2.eos_token_ids == ()
    assert len(manifest.notices) == 1


@pytest.mark.parametrize(
    "key", ["_attn_implementation", "_attn_implementation_internal", "attn_implementation"]
)
def test_key_that_names_a_kernel_is_ignored_with_a_notice(folder: Path, key: str) -> None:
    write_config(folder, **{key: "owner/kernel"})
    (notice,) = inspect(folder).notices
    assert key in notice


# --- config.json


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b"", "not JSON"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"3", "not a JSON object"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": {"b": 1, "b": 2}}', "stands twice"),
        (b'{"a": "\xff"}', "invalid UTF-8 at byte 7"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": "' + b"x" * SMALL_FILE_BYTES + b'"}', "larger than"),
        (b"\x00" * 100, "not JSON"),
        (pickle.dumps({"model_type": "gpt2"}), "invalid UTF-8|not JSON"),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else None,
)
def test_configuration_that_is_not_a_json_object_is_refused(
    folder: Path, text: bytes, rule: str
) -> None:
    (folder / "config.json").write_bytes(text)
    with pytest.raises(BadModel, match=rf"config\.json: .*({rule})"):
        inspect(folder)


ODD_NUMBERS = ["NaN", "-Infinity", "1e999", "9" * 5000, "1000000000000000019884624838656"]


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=lambda number: number[:9])
def test_an_odd_number_does_no_harm_where_nobody_uses_it(folder: Path, number: str) -> None:
    text = (folder / "config.json").read_text().rstrip("}")
    (folder / "config.json").write_text(f'{text}, "time_step_limit": [0.0, {number}]}}')
    limit = f'{{"model_max_length": {number}}}'
    (folder / "tokenizer_config.json").write_text(limit)
    assert inspect(folder).gpt2 is not None


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=lambda number: number[:9])
@pytest.mark.parametrize("key", ["n_layer", "vocab_size", "layer_norm_epsilon", "n_inner"])
def test_an_odd_number_is_refused_where_it_counts(folder: Path, key: str, number: str) -> None:
    config = {name: value for name, value in CONFIG.items() if name != key}
    text = json.dumps(config).rstrip("}")
    (folder / "config.json").write_text(f'{text}, "{key}": {number}}}')
    with pytest.raises(BadModel, match=rf"config\.json: {key} is ") as caught:
        inspect(folder)
    assert len(str(caught.value)) < 200


def test_a_key_that_stands_twice_with_one_value_does_no_harm(folder: Path) -> None:
    text = (folder / "config.json").read_text().rstrip("}")
    (folder / "config.json").write_text(text + ', "n_layer": 1, "x": 2, "x": 2}')
    assert inspect(folder).gpt2 is not None


def test_an_end_outside_the_vocabulary_is_said_once(folder: Path) -> None:
    write_config(folder, eos_token_id=50256, bos_token_id=50256)
    (notice,) = inspect(folder).notices
    assert "50256" in notice


def test_the_default_end_says_nothing_where_another_token_ends_texts(folder: Path) -> None:
    write_config(folder, eos_token_id=[50256, 50257])
    found = inspect(folder)
    assert found.notices_beside(()) == found.notices
    (notice,) = found.notices_beside((3,))
    assert "50257" in notice


@pytest.mark.parametrize(
    "prefix",
    [
        "transformer.",
        "module.",
        "_orig_mod.",
        "_orig_mod.transformer.",
        "module.transformer.",
        "module._orig_mod.transformer.",
        "_orig_mod.module.transformer.",
        "_fsdp_wrapped_module.transformer.",
        "transformer._orig_mod.",
    ],
)
def test_the_names_of_wrappers_are_no_corruption(folder: Path, prefix: str) -> None:
    named = {prefix + name: shape for name, shape in shapes().items()}
    (folder / "model.safetensors").write_bytes(tensor_file(named))
    manifest = inspect(folder)
    assert set(manifest.tensors) == set(shapes())
    assert manifest.notices == ()


def test_the_wrapper_of_one_layer_is_no_corruption(folder: Path) -> None:
    named = {
        name.replace("h.0.", "h.0._checkpoint_wrapped_module."): shape
        for name, shape in shapes().items()
    }
    (folder / "model.safetensors").write_bytes(tensor_file(named))
    assert set(inspect(folder).tensors) == set(shapes())


def with_head(folder: Path, head: bytes, dtype: str = "F16") -> None:
    """The same model, with a head of its own beside the embedding."""
    names = shapes() | {"lm_head.weight": [5, 4]}
    data = tensor_file(names, dtypes={"lm_head.weight": dtype})
    (folder / "model.safetensors").write_bytes(data[: -len(head)] + head)


def test_a_head_that_is_the_embedding_is_tied(folder: Path) -> None:
    with_head(folder, bytes(40))
    manifest = inspect(folder)
    assert manifest.gpt2 is not None
    assert manifest.gpt2.tie_word_embeddings
    assert "lm_head.weight" not in manifest.tensors
    assert manifest.notices == ()


@pytest.mark.parametrize(
    ("head", "dtype"),
    [(bytes(39) + b"\1", "F16"), (b"\1" + bytes(39), "F16"), (bytes(80), "F32")],
    ids=["last byte", "first byte", "data type"],
)
def test_a_head_that_differs_from_the_embedding_is_used(
    folder: Path, head: bytes, dtype: str
) -> None:
    with_head(folder, head, dtype)
    manifest = inspect(folder)
    assert manifest.gpt2 is not None
    assert not manifest.gpt2.tie_word_embeddings
    assert manifest.tensors["lm_head.weight"].dtype == dtype
    (notice,) = manifest.notices
    assert "lm_head.weight differs" in notice


@pytest.mark.parametrize(
    "change",
    [
        {"n_layer": -1},
        {"n_layer": 0},
        {"n_layer": 97},
        {"n_layer": 1.0},
        {"n_layer": True},
        {"n_layer": "1"},
        {"n_layer": None},
        {"n_layer": [1]},
        {"n_embd": 0},
        {"n_embd": 65_537},
        {"n_embd": 10**29},
        {"n_head": 0},
        {"n_head": 3},
        {"n_positions": 0},
        {"n_positions": 1_000_001},
        {"vocab_size": 0},
        {"vocab_size": 4_000_001},
        {"n_inner": 0},
        {"n_inner": -16},
        {"layer_norm_epsilon": 0},
        {"layer_norm_epsilon": -1e-5},
        {"layer_norm_epsilon": "1e-5"},
        {"layer_norm_epsilon": True},
        {"layer_norm_epsilon": None},
        {"activation_function": "exec"},
        {"activation_function": None},
        {"activation_function": ["gelu"]},
        {"tie_word_embeddings": "yes"},
        {"tie_word_embeddings": 1},
        {"scale_attn_weights": None},
        {"scale_attn_by_inverse_layer_idx": 0},
        {"hidden_size": 8},
        {"model_type": 3},
        {"model_type": None},
        {"model_type": "../gpt2"},
        {"quantization_config": {"quant_method": "gptq"}},
    ],
    ids=str,
)
def test_value_out_of_range_is_refused_by_name(folder: Path, change: dict[str, object]) -> None:
    write_config(folder, **change)
    (key,) = change
    with pytest.raises(BadModel, match=rf"config\.json: .*{key}"):
        inspect(folder)


@pytest.mark.parametrize("change", [{"vocab_size": -1}, {"hidden_size": "big"}, {"n_layer": 2**40}])
def test_sizes_of_other_architectures_are_checked_too(
    folder: Path, change: dict[str, object]
) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | change))
    with pytest.raises(BadModel, match=next(iter(change))):
        inspect(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_request_to_run_code_is_refused(folder: Path, name: str) -> None:
    config = CONFIG | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}
    (folder / name).write_text(json.dumps(config))
    with pytest.raises(BadModel, match=f"unsafe model file: {name}: auto_map"):
        inspect(folder)


def test_missing_folder_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInput):
        inspect(tmp_path / "none")


def test_folder_without_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"holds no config\.json"):
        inspect(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda file: file.symlink_to("/dev/zero")])
def test_only_regular_files_are_opened(
    folder: Path, name: str, make: Callable[[Path], None]
) -> None:
    (folder / name).unlink()
    make(folder / name)
    with pytest.raises(BadModel, match="not a regular file"):
        inspect(folder)


def test_unreadable_file_is_missing_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:  # a mode of 0 does not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(MissingInput, match="Permission denied"):
        inspect(folder)


# --- weights


@pytest.mark.parametrize(
    ("pickled", "hint"),
    [
        ("pytorch_model.bin", "gptcli models convert"),
        ("model.pt", "gptcli models convert"),
        ("model.ckpt", "gptcli models convert"),
    ],
)
def test_pickled_weights_are_refused_with_a_way_out(folder: Path, pickled: str, hint: str) -> None:
    (folder / "model.safetensors").rename(folder / pickled)
    with pytest.raises(BadModel, match="pickle") as caught:
        inspect(folder)
    assert hint in caught.value.hint


def test_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadModel, match=r"holds no model\.safetensors"):
        inspect(folder)


@pytest.mark.parametrize(
    ("shard", "rule"),
    [
        ("m.bin", r'"m\.bin" is not \.safetensors'),
        ("a.safetensors.bin", "is not .safetensors"),
        ("a.safetensors\n", "is not .safetensors"),
        ("a\0.safetensors", "is not .safetensors"),
        ("", "is not .safetensors"),
        ("../a.safetensors", "outside the model directory"),
        ("/a.safetensors", "outside the model directory"),
        ("sub/a.safetensors", "outside the model directory"),
        ("..\\a.safetensors", "outside the model directory"),
        ("none.safetensors", "is missing"),
        (3, "not a text"),
        (None, "not a text"),
    ],
)
def test_shard_that_is_unsafe_or_missing_is_refused(folder: Path, shard: object, rule: str) -> None:
    places = write_shards(folder)
    (folder / "m.bin").write_bytes(b"not to be read")
    write_index(folder, places | {"wte.weight": shard})
    with pytest.raises(BadModel, match=rf"(?s)model\.safetensors\.index\.json: .*{rule}"):
        inspect(folder)


def test_a_shard_whose_name_no_file_can_have_is_refused(folder: Path) -> None:
    write_index(folder, write_shards(folder) | {"wte.weight": "x" * 300 + ".safetensors"})
    assert missing(folder) == ("tokenizer.json",)  # `inspect` says what is wrong with the index
    with pytest.raises(BadModel, match="too long for a file"):
        inspect(folder)


@pytest.mark.parametrize("weight_map", [None, [], {}, "x", {"a": {}}])
def test_index_without_shards_is_refused(folder: Path, weight_map: object) -> None:
    write_shards(folder)
    write_index(folder, weight_map)
    with pytest.raises(BadModel, match=r"model\.safetensors\.index\.json"):
        inspect(folder)


def test_tensor_that_is_not_in_its_shard_is_refused(folder: Path) -> None:
    places = write_shards(folder)
    write_index(folder, places | {"wte.weight": "b.safetensors"})
    with pytest.raises(BadModel, match=r'"wte\.weight" is not in shard'):
        inspect(folder)


def test_tensor_that_stands_in_two_shards_is_refused(folder: Path) -> None:
    write_shards(folder)
    (folder / "b.safetensors").write_bytes(tensor_file(shapes()))
    with pytest.raises(BadModel, match="stands in two shards"):
        inspect(folder)


def test_missing_tensors_are_listed_up_to_five(folder: Path) -> None:
    names = dict(list(shapes().items())[:-7])
    (folder / "model.safetensors").write_bytes(tensor_file(names))
    with pytest.raises(BadModel, match=r"missing tensors: (h\.0\.\S+, ){4}h\.0\.\S+ and 2 more"):
        inspect(folder)


def test_tensor_of_a_wrong_shape_is_refused_with_both_shapes(folder: Path) -> None:
    names = shapes() | {"wpe.weight": [4, 4]}
    (folder / "model.safetensors").write_bytes(tensor_file(names))
    with pytest.raises(BadModel, match=r"wpe\.weight \[4, 4\] instead of \[3, 4\]"):
        inspect(folder)


def test_missing_head_that_is_not_tied_is_refused(folder: Path) -> None:
    write_config(folder, tie_word_embeddings=False)
    with pytest.raises(BadModel, match=r"missing tensors: lm_head\.weight"):
        inspect(folder)


def test_tied_head_of_another_shape_is_refused(folder: Path) -> None:
    data = tensor_file(shapes() | {"lm_head.weight": [6, 4]})
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(BadModel, match=r"lm_head\.weight"):
        inspect(folder)


def test_name_with_and_without_prefix_is_refused(folder: Path) -> None:
    data = tensor_file(shapes() | {"transformer.wte.weight": [5, 4]})
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(BadModel, match="with and without prefix"):
        inspect(folder)


@pytest.mark.parametrize("dtype", ["I64", "U8", "BOOL"])
def test_weights_that_are_not_floating_point_are_refused(folder: Path, dtype: str) -> None:
    (folder / "model.safetensors").write_bytes(tensor_file(shapes(), dtypes={"ln_f.bias": dtype}))
    with pytest.raises(BadModel, match=f"not floating-point: ln_f.bias {dtype}"):
        inspect(folder)


# --- the header of a safetensors file


@pytest.mark.parametrize("cut", [1, 100, 500])
def test_weights_that_are_cut_off_are_refused(folder: Path, cut: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(BadModel, match=r"corrupt model file: model\.safetensors: cut off"):
        inspect(folder)


def entry(shape: object = (2,), offsets: object = (0, 4), dtype: object = "F16") -> object:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("tensors", "rule"),
    [
        ({"a": entry(), "b": entry(offsets=[2, 6])}, "overlaps"),
        ({"a": entry(), "b": entry(offsets=[0, 4])}, "overlaps"),
        ({"a": entry(offsets=[1, 5])}, "leaves a gap"),
        ({"a": entry(offsets=[4, 8])}, "leaves a gap"),
        ({"a": entry(offsets=[4, 0])}, "not begin and end"),
        ({"a": entry(offsets=[0])}, "not begin and end"),
        ({"a": entry(offsets=[0, 4, 8])}, "not begin and end"),
        ({"a": entry(offsets=[-4, 0])}, "not a list of sizes"),
        ({"a": entry(offsets=[0, True])}, "not a list of sizes"),
        ({"a": entry(offsets=[0, 4.0])}, "not a list of sizes"),
        ({"a": entry(offsets=None)}, "not a list of sizes"),
        ({"a": entry(shape=[3])}, "its shape does not fill"),
        ({"a": entry(shape=[2**62, 2**62])}, "its shape does not fill"),
        ({"a": entry(shape=[-2])}, "not a list of sizes"),
        ({"a": entry(shape="2")}, "not a list of sizes"),
        ({"a": entry(shape=[1] * 9 + [2])}, "10 dimensions"),
        ({"a": entry(dtype="F17")}, "unknown dtype"),
        ({"a": entry(dtype=["F16"])}, "unknown dtype"),
        ({"a": entry(dtype=None)}, "unknown dtype"),
        ({"a": None}, "lacks dtype"),
        ({"a": {"dtype": "F16"}}, "lacks dtype"),
        ({"a": entry(offsets=[0, 2**64])}, "its shape does not fill"),
        ({"a": entry(shape=[2**31], offsets=[0, 2**32])}, "cut off"),
        ({}, "8 bytes too many"),
        ({"a": entry()}, "4 bytes too many"),
    ],
)
def test_header_that_does_not_tile_the_data_is_refused(
    folder: Path, tensors: object, rule: str
) -> None:
    (folder / "model.safetensors").write_bytes(with_header(json.dumps(tensors).encode(), 8))
    with pytest.raises(BadModel, match=rf"corrupt model file: model\.safetensors: .*{rule}"):
        inspect(folder)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "0 bytes are too few"),
        (b"\x01\x00\x00", "3 bytes are too few"),
        ((2**63).to_bytes(8, "little") + b"{}", "a header of 9223372036854775808 bytes"),
        ((2**64 - 1).to_bytes(8, "little") + b"{}", "a header of"),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}", "a header of"),
        ((3).to_bytes(8, "little") + b"{}", "cut off inside its header"),
        (with_header(b""), "not JSON"),
        (with_header(b"null"), "not a JSON object"),
        (with_header(b'{"a": NaN}'), "NaN"),
        (with_header(b'{"a": 1, "a": 1}'), "stands twice"),
        (with_header(b'{"\xff": 1}'), "invalid UTF-8"),
        (with_header(b'{"a":' * 100_000), "nested too deeply"),
        (pickle.dumps([1, 2, 3]), "header"),
    ],
    ids=range(13),
)
def test_file_without_a_sound_header_is_refused(folder: Path, data: bytes, rule: str) -> None:
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(BadModel, match=rf"corrupt model file: model\.safetensors: .*{rule}"):
        inspect(folder)


def test_every_flipped_bit_of_the_length_is_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    sound = file.read_bytes()
    for bit in range(64):
        length = int.from_bytes(sound[:8], "little") ^ (1 << bit)
        file.write_bytes(length.to_bytes(8, "little") + sound[8:])
        with pytest.raises(BadModel):
            inspect(folder)


def test_checkpoint_of_transformers_passes(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "copy")
    manifest = inspect(tmp_path / "copy")
    assert manifest.gpt2 is not None
    assert manifest.notices == ()
