"""A GPT-2 checkpoint as a folder that CTranslate2's Generator loads.

CTranslate2's own converter goes through transformers, and leaves out what its specification can
say: another epsilon, and another attention scale. Here the specification is filled from the checked
checkpoint, with both. Our tokenizer lies beside: CTranslate2 takes tokens, not text. All of
the model is in memory, as float32.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.formats.conversion import failed
from gptcli.checkpoints.formats.locked.readers.gpt2.tensors import is_matrix
from gptcli.checkpoints.formats.writers.tensors import WrittenModel, float32, missing
from gptcli.checkpoints.preflight import CheckedCheckpoint, inspect
from gptcli.checkpoints.tokenization.files import JSON, names_in, tokenizer_files
from gptcli.checkpoints.tokenization.loading import check_vocabulary, load_tokenizer
from gptcli.checkpoints.tokenization.tokenizer import Tokenizer
from gptcli.errors import BadModel, UsageError, WriteFailed
from gptcli.system import durable

CTRANSLATE2_TYPES = ("int8", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32")
ACTIVATIONS = {
    "gelu_new": "GELUTanh",
    "gelu_pytorch_tanh": "GELUTanh",
    "gelu_fast": "GELUTanh",
    "gelu": "GELU",
    "quick_gelu": "GELUSigmoid",
    "relu": "RELU",
    "silu": "SWISH",
    "swish": "SWISH",
    "tanh": "Tanh",
}
FILES = ("config.json", "vocabulary.json", "model.bin")


def write_ctranslate2(checkpoint: Path, folder: Path, dtype: str = "int8") -> WrittenModel:
    """Write the GPT-2 in folder `checkpoint` into the empty folder `folder`.

    dtype: of CTRANSLATE2_TYPES, how weights are stored. Raises BadModel for anything but a GPT-2,
    UsageError for another type, Unavailable without the package ctranslate2, WriteFailed and
    CannotCreate.
    """
    if dtype not in CTRANSLATE2_TYPES:
        why = f"{dtype!r} is not one of {', '.join(CTRANSLATE2_TYPES)}"
        raise UsageError("--type", why, f"Write --type {CTRANSLATE2_TYPES[0]}.")
    manifest = inspect(checkpoint)
    config = manifest.gpt2
    if config is None:
        why = f"only a GPT-2 is written for it, and this is {manifest.model_type}"
        raise BadModel("CTranslate2", why, "Use CTranslate2's ct2-transformers-converter")
    tokenizer = load_tokenizer(checkpoint)
    check_vocabulary(tokenizer, config.vocab_size)
    spec = _specification(config, manifest)
    _tell_tokens(spec, tokenizer, config.vocab_size)
    try:
        spec.validate()
        spec.optimize(dtype)
        spec.save(str(folder))
        written = [*FILES, *_save_tokenizer(tokenizer, checkpoint, folder)]
        for name in written:
            durable.flush_file(folder / name)
        durable.sync_folder(folder / FILES[0])
    except OSError as error:
        if error.errno is None:
            raise WriteFailed(str(folder), "not all of it could be written", "Make room") from None
        raise failed(folder, error) from None
    return WrittenModel(
        place=folder,
        format="ctranslate2",
        type=dtype,
        tensors=len(manifest.tensors),
        size=sum((folder / name).stat().st_size for name in written),
    )


def _save_tokenizer(tokenizer: Tokenizer, checkpoint: Path, folder: Path) -> list[str]:
    """Write tokenizer.json, or copy the files of a tokenizer that cannot be one."""
    try:
        text = tokenizer.raw.to_str()
    except Exception as error:  # the library's only class: a part of ours cannot be written
        if type(error) is not Exception:
            raise
        names = tokenizer_files(names_in(checkpoint))
        for name in sorted(names):
            shutil.copyfile(checkpoint / name, folder / name)
        return sorted(names)
    durable.save(folder / JSON, text.encode())
    return [JSON]


def _specification(config: GPT2Config, manifest: CheckedCheckpoint) -> Any:
    """CTranslate2's specification of a decoder, with the weights."""
    try:
        from ctranslate2.specs import Activation, TransformerDecoderModelSpec
    except ImportError:
        raise missing("ctranslate2") from None
    spec = TransformerDecoderModelSpec.from_config(
        config.n_layer,
        config.n_head,
        pre_norm=True,
        activation=Activation[ACTIVATIONS[config.activation_function]],
    )
    weights = _Weights(manifest)
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = weights.of("wte.weight")
    decoder.position_encodings.encodings = weights.of("wpe.weight")
    weights.norm(decoder.layer_norm, "ln_f")
    tied = config.tie_word_embeddings
    decoder.projection.weight = decoder.embeddings.weight if tied else weights.of("lm_head.weight")
    for number, layer in enumerate(decoder.layer):
        block, attention = f"h.{number}.", layer.self_attention
        weights.norm(attention.layer_norm, f"{block}ln_1")
        weights.linear(attention.linear[0], f"{block}attn.c_attn")
        weights.linear(attention.linear[1], f"{block}attn.c_proj")
        weights.norm(layer.ffn.layer_norm, f"{block}ln_2")
        weights.linear(layer.ffn.linear_0, f"{block}mlp.c_fc")
        weights.linear(layer.ffn.linear_1, f"{block}mlp.c_proj")
        if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
            attention.queries_scale = config.attention_scale(number)
    spec.config.layer_norm_epsilon = config.layer_norm_epsilon
    return spec


class _Weights:
    """The tensors of a checkpoint, as the parts of a specification take them."""

    def __init__(self, manifest: CheckedCheckpoint) -> None:
        self._tensors = manifest.tensors

    def of(self, name: str) -> Any:
        """A tensor; a matrix of the blocks as (out, in)."""
        import numpy

        entry = self._tensors[name]
        values = float32(entry)
        return numpy.ascontiguousarray(values.T) if is_matrix(name, entry.shape) else values

    def norm(self, part: Any, name: str) -> None:
        part.gamma, part.beta = self.of(f"{name}.weight"), self.of(f"{name}.bias")

    def linear(self, part: Any, name: str) -> None:
        part.weight, part.bias = self.of(f"{name}.weight"), self.of(f"{name}.bias")


def _tell_tokens(spec: Any, tokenizer: Tokenizer, embeddings: int) -> None:
    """The vocabulary, which has a text for each embedding, and the special tokens by text."""
    texts: dict[str, None] = {}
    for id in range(embeddings):
        text = tokenizer.raw.id_to_token(id) or f"[unused {id}]"
        while text in texts:
            text += "_"
        texts[text] = None
    named = list(texts)
    spec.register_vocabulary(named)
    begin, end = tokenizer.roles.begin, tokenizer.roles.end
    roles = {"bos_token": begin, "eos_token": end, "unk_token": tokenizer.unknown_id}
    first = next((id for id in (end, begin, tokenizer.unknown_id) if id is not None), 0)
    for role, found in roles.items():
        setattr(spec.config, role, named[first if found is None else found])
