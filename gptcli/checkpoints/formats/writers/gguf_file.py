"""A GPT-2 checkpoint as a GGUF file, which is what llama.cpp reads.

llama.cpp's converter is a script that no package holds. What GPT-2 needs of it is a table of
names, over llama.cpp's own package `gguf`. Tensors are read from the checked checkpoint without
torch and written one by one, so that one of them is in memory. llama.cpp has one GPT-2: with its
GELU and its attention scale, so a checkpoint that differs is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.formats.conversion import failed
from gptcli.checkpoints.formats.locked.readers.ggml.names import ggml_name
from gptcli.checkpoints.formats.locked.readers.gpt2.tensors import is_matrix
from gptcli.checkpoints.formats.writers.gguf_pieces import pieces_vocabulary
from gptcli.checkpoints.formats.writers.gguf_vocabulary import vocabulary_of
from gptcli.checkpoints.formats.writers.tensors import WrittenModel, float32, missing
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.checkpoints.safetensors_headers import Tensor
from gptcli.checkpoints.tokenization.kinds import recognise
from gptcli.checkpoints.tokenization.loading import check_vocabulary, load_tokenizer
from gptcli.checkpoints.tokenization.roles import model_config, named_roles
from gptcli.errors import BadModel, UsageError, WriteFailed
from gptcli.system import durable

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]

GGUF_TYPES = ("f32", "f16", "bf16", "q8_0")
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")  # one function, written in three ways
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}  # llama.cpp's numbers of them
QUANTIZATION_VERSION = 2
QUANTISED = ("q8_0",)
LLAMA_CPP = "llama.cpp"


def write_gguf(
    checkpoint: Path, file: Path, dtype: str = "f16", name: str | None = None
) -> WrittenModel:
    """Write the GPT-2 in folder `checkpoint` to `file`, its matrices as `dtype` of GGUF_TYPES.

    name: what llama.cpp is to call it, else the folder's.
    Biases, norms and position embeddings stay f32, as in llama.cpp's own files. The file appears
    whole, in the place of one that was there. Raises BadModel for anything but a GPT-2 that
    llama.cpp computes alike, with a tokenizer that it has; UsageError for another type,
    Unavailable without the package gguf, CannotCreate and WriteFailed.
    """
    if dtype not in GGUF_TYPES:
        hint = f"Write {GGUF_TYPES[1]}, and make others of it with llama.cpp's llama-quantize."
        raise UsageError("--type", f"{dtype!r} is not one of {', '.join(GGUF_TYPES)}", hint)
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise missing("gguf") from None
    manifest = inspect(checkpoint)
    config = _suitable(manifest)
    tokenizer = load_tokenizer(checkpoint)
    check_vocabulary(tokenizer, config.vocab_size)
    found = recognise(checkpoint, named_roles(checkpoint), model_config(checkpoint))
    if found.kind.builder == "sentencepiece":
        vocabulary = pieces_vocabulary(checkpoint, found, tokenizer, config.vocab_size)
    else:
        vocabulary = vocabulary_of(tokenizer, config.vocab_size)
    place = durable.followed(file)
    try:
        with durable.new_file(place) as new:
            writer = GGUFWriter(str(new.path), "gpt2")
            try:
                _describe(writer, config, name or checkpoint.resolve().name, dtype)
                vocabulary.add_to(writer)
                count = _write(writer, manifest, dtype)
            finally:
                writer.close()
            new.put()
    except OSError as error:
        if error.errno is None:  # NumPy says how many numbers it could write, and not why
            raise WriteFailed(str(file), "not all of it could be written", "Make room.") from None
        raise failed(file, error) from None
    return WrittenModel(
        place=file,
        format="gguf",
        tensors=count,
        size=os.stat(place).st_size,  # noqa: PTH116 - as all that durable does
        type=dtype,
        notices=vocabulary.notices,
    )


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
        raise BadModel(LLAMA_CPP, f"it cannot run this model: {fault}", "Leave it out")
    return config


def _describe(writer: Any, config: GPT2Config, name: str, dtype: str) -> None:
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[dtype])
    if dtype in QUANTISED:
        writer.add_quantization_version(QUANTIZATION_VERSION)
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.inner)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


@dataclass(frozen=True)
class _Planned:
    """A tensor of the file: its type, and how to get its values."""

    name: str
    kind: Any
    shape: tuple[int, ...]
    nbytes: int
    read: Callable[[], Array]


def _write(writer: Any, manifest: CheckedCheckpoint, dtype: str) -> int:
    """Write all headers, then tensor by tensor; the number of tensors."""
    import numpy

    planned = list(_planned(manifest.tensors, dtype))
    for tensor in planned:
        plain = numpy.dtype("<f4")  # the true type is the last argument
        writer.add_tensor_info(tensor.name, tensor.shape, plain, tensor.nbytes, tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in planned:
        writer.write_tensor_data(tensor.read())
    return len(planned)


def _planned(tensors: Mapping[str, Tensor], dtype: str) -> Iterator[_Planned]:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    for name, entry in tensors.items():
        shape = entry.shape[::-1] if is_matrix(name, entry.shape) else entry.shape
        kind = GGMLQuantizationType[dtype.upper()]
        block, size = GGML_QUANT_SIZES[kind]
        # Rows must be whole blocks, as llama.cpp demands.
        if len(shape) != 2 or name == "wpe.weight" or shape[-1] % block:
            kind = GGMLQuantizationType.F32
            block, size = GGML_QUANT_SIZES[kind]
        count = 1
        for length in shape:
            count *= length
        yield _Planned(
            ggml_name(name), kind, shape, count // block * size, _reader(name, entry, kind)
        )


def _reader(name: str, entry: Tensor, kind: Any) -> Callable[[], Array]:
    def read() -> Array:
        import numpy
        from gguf import quants

        values = float32(entry)
        if is_matrix(name, entry.shape):
            values = numpy.ascontiguousarray(values.T)
        with numpy.errstate(over="ignore"):
            found: Array = quants.quantize(values, kind)
        if kind.name == "F16" and not numpy.isfinite(found).all() and numpy.isfinite(values).all():
            why = f"{name} holds numbers that are too large for it"
            raise BadModel("--type f16", why, "Write --type f32 or bf16.")
        return found

    return read
