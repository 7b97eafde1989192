"""A GPT-2 checkpoint as a GGUF file, which is what llama.cpp reads.

llama.cpp's converter is a script that no package holds. What GPT-2 needs of it is a table of
names, which is here, over llama.cpp's own package `gguf`. Tensors are read from the
checked checkpoint without torch. llama.cpp has one GPT-2: with its GELU and its attention scale,
so a checkpoint that differs is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.checkpoints.tokenization.loading import load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadModel

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]

NUMPY_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")  # one function, written in three ways
LAYER_NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
MODEL_NAMES = {
    "wte.weight": "token_embd.weight",
    "wpe.weight": "position_embd.weight",
    "ln_f.weight": "output_norm.weight",
    "ln_f.bias": "output_norm.bias",
    "lm_head.weight": "output.weight",
}
NORMAL, CONTROL, UNUSED = 1, 3, 5  # llama.cpp's types of tokens


def write_gguf(checkpoint: Path, file: Path, dtype: str) -> None:
    """Write the GPT-2 in folder `checkpoint` to `file`, its matrices as f32, f16 or q8_0.

    Biases, norms and position embeddings stay f32, as in llama.cpp's own files. Raises BadModel
    for anything but a GPT-2 that llama.cpp computes alike.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    manifest = inspect(checkpoint)
    config = _suitable(manifest)
    writer = GGUFWriter(str(file), "gpt2")
    _describe(writer, config)
    _add_tokenizer(writer, load_tokenizer(checkpoint), config)
    kind = GGMLQuantizationType[dtype.upper()]
    for name, tensor in _tensors(manifest):
        matrix = tensor.ndim == 2 and name != MODEL_NAMES["wpe.weight"]
        chosen = kind if matrix and _divides(tensor, kind) else GGMLQuantizationType.F32
        writer.add_tensor(name, quants.quantize(tensor, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _suitable(manifest: CheckedCheckpoint) -> GPT2Config:
    """The configuration of a GPT-2 that llama.cpp can run."""
    config, fault = manifest.gpt2, ""
    if config is None:
        fault = f"{manifest.model_type} is no gpt2"
    elif config.activation_function not in TANH_GELUS:
        fault = f"activation_function {config.activation_function}"
    elif not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        fault = "an attention scale of its own"
    if config is None or fault:
        raise BadModel("llama.cpp", f"it cannot run this model: {fault}", "Leave it out")
    return config


def _describe(writer: Any, config: GPT2Config) -> None:
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.inner)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _add_tokenizer(writer: Any, tokenizer: Tokenizer, config: GPT2Config) -> None:
    """Tokens in the order of their ids, filled up to the size of the embedding."""
    model = json.loads(tokenizer.raw.to_str())["model"]
    special = {
        id for id, token in tokenizer.raw.get_added_tokens_decoder().items() if token.special
    }
    named = [tokenizer.raw.id_to_token(id) for id in range(config.vocab_size)]
    types = [
        UNUSED if token is None else CONTROL if id in special else NORMAL
        for id, token in enumerate(named)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token or f"[unused {id}]" for id, token in enumerate(named)])
    writer.add_token_types(types)
    merges = model["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    if config.bos_token_id is not None:
        writer.add_bos_token_id(config.bos_token_id)
    for end in config.eos_token_ids[:1]:
        writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)


def _tensors(manifest: CheckedCheckpoint) -> Iterator[tuple[str, Array]]:
    """Name and values, float32; matrices as (out, in), which Conv1D stores as (in, out)."""
    import numpy

    for name, entry in manifest.tensors.items():
        stored = numpy.dtype(NUMPY_DTYPES[entry.dtype])
        raw = numpy.memmap(entry.file, stored, "r", entry.offset, entry.shape)
        if entry.dtype == "BF16":  # the upper half of a float32
            values = (raw.astype(numpy.uint32) << 16).view(numpy.float32)
        else:
            values = raw.astype(numpy.float32)
        conv1d = name.startswith("h.") and values.ndim == 2
        yield _renamed(name), numpy.ascontiguousarray(values.T) if conv1d else values


def _renamed(name: str) -> str:
    """`h.3.attn.c_attn.weight` is `blk.3.attn_qkv.weight`."""
    if name in MODEL_NAMES:
        return MODEL_NAMES[name]
    _, layer, rest = name.split(".", 2)
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{LAYER_NAMES[part]}.{kind}"


def _divides(tensor: Array, kind: Any) -> bool:
    """Whether rows are whole blocks of the format, as llama.cpp demands."""
    from gguf import GGML_QUANT_SIZES

    block, _ = GGML_QUANT_SIZES[kind]
    return bool(tensor.shape[-1] % block == 0)
