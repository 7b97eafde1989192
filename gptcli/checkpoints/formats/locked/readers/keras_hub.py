"""A GPT-2 of Keras Hub: a preset's folder, or a .keras file that holds the same.

Keras saves Python by name (classes, functions, even code of a Lambda layer). Of all that only
numbers are read here, and the class must be GPT-2's. The weights are arrays in HDF5, by the names
of layers: query, key and value lie apart and by head, as (in, heads, width of a head), and become
c_attn; the layers count transformer_decoder, transformer_decoder_1, ... Needs h5py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.config_json import LIMITS, MAX_INNER_WIDTH
from gptcli.checkpoints.file_kinds import MAX_TOKENIZER_BYTES
from gptcli.checkpoints.formats.locked.readers.containers.hdf5 import Dataset, datasets
from gptcli.checkpoints.formats.locked.readers.containers.zipped import Archive
from gptcli.checkpoints.formats.locked.readers.gpt2.sizes import Sizes, config_json
from gptcli.checkpoints.formats.locked.readers.transformers4 import FLOATS, refuse_unknown
from gptcli.checkpoints.formats.locked.source import (
    NUMPY_DTYPES,
    Job,
    Refused,
    Source,
    SourceTensor,
)
from gptcli.checkpoints.tokenization.roles import END_OF_TEXT
from gptcli.system.strict_json import SMALL_FILE_BYTES, read_bytes

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

LIBRARIES = ("h5py",)  # loaded before the process is locked in
FORMAT = "Keras Hub"
TASK_WEIGHTS = "task.weights.h5"  # the head of another task, beside the model's own weights
# Where each number of Keras stands in GPT2Config, which bounds it.
SIZES = {
    "vocab_size": "vocabulary_size",
    "n_layer": "num_layers",
    "n_head": "num_heads",
    "n_embd": "hidden_dim",
    "n_positions": "max_sequence_length",
}
INNER = "intermediate_dim"
VARIABLE = re.compile(
    r"(?:.*/)?(?:transformer_(?:decoder|layer)(?:_(?P<layer>[0-9]{1,4}))?/"
    r"(?P<block>_self_attention_layer/_?(?:query|key|value|output)_dense"
    r"|_self_attention_layer_?norm|_feedforward_(?:layer_?norm|intermediate_dense|output_dense))"
    r"|(?P<outside>reversible_embedding|token_embedding|embedding|position_embedding"
    r"|layer_normalization|layer_norm))/vars/(?P<number>[01])"
)
PARTS = {  # of a block and outside: Keras' name without the underscores of some versions: torch's
    "self_attention_layernorm": "ln_1",
    "feedforward_layernorm": "ln_2",
    "feedforward_intermediate_dense": "mlp.c_fc",
    "feedforward_output_dense": "mlp.c_proj",
    "self_attention_layer/output_dense": "attn.c_proj",
    "reversible_embedding": "wte",
    "token_embedding": "wte",
    "embedding": "wte",
    "position_embedding": "wpe",
    "layer_normalization": "ln_f",
    "layernorm": "ln_f",
}
ROLES = ("bos_token", "eos_token", "unk_token")
HEADS = tuple(f"self_attention_layer/{part}_dense" for part in ("query", "key", "value"))


def read(job: Job) -> Source:
    """The tensors, config.json and tokenizer. Raises Refused, ModuleNotFoundError."""
    files = _Files(job)
    config, inner = _sizes(files)
    left_out: dict[str, str] = {}
    found: dict[str, Dataset] = {}
    for array in files.arrays():
        if why := _other(array.name):
            left_out[array.name] = why
        elif (name := _name(array.name)) is None:
            refuse_unknown([array.name])
        elif name in found:
            raise Refused(f"{found[name].name} and {array.name} are the same variable")
        else:
            found[name] = array
    texts, end = _tokenizer(files, config)
    return Source(
        format=FORMAT,
        tensors=tuple(_tensors(found, config)),
        config=_config_json(config, inner, end),
        left_out=left_out,
        texts=texts,
    )


@dataclass(frozen=True)
class _Files:
    """The files of a preset's folder, or of a .keras archive."""

    job: Job

    @property
    def _archive(self) -> Archive | None:
        archives = [file for file in self.job.files if file.suffix == ".keras"]
        return Archive(archives[0]) if archives else None

    def text(self, name: str, limit: int) -> bytes | None:
        """A small file by the last part of its path; None where there is none."""
        if archive := self._archive:
            inside = [one for one in archive.names() if PurePosixPath(one).name == name]
            return archive.text(inside[0], limit) if inside else None
        found = [file for file in self.job.files if file.name == name]
        # What is asked for is allocated: no more than there is.
        return read_bytes(found[0], min(limit, found[0].stat().st_size)) if found else None

    def object(self, name: str, limit: int = SMALL_FILE_BYTES) -> Mapping[str, Any] | None:
        """A small JSON file; None where there is none."""
        data = self.text(name, limit)
        try:
            found = None if data is None else json.loads(data)
        except (ValueError, RecursionError) as error:
            raise Refused(f"{name}: it is not JSON ({error})") from None
        if not isinstance(found, dict | None):
            raise Refused(f"{name}: it is not a JSON object")
        return found

    def arrays(self) -> list[Dataset]:
        """All arrays of the model's weights."""
        if archive := self._archive:
            inside = [name for name in archive.names() if name.endswith(".weights.h5")]
            parts = [archive.part(name) for name in inside]
            found = [one for part in parts for one in datasets(archive.path, part.begin, part.size)]
        else:
            weights = [file for file in self.job.files if file.suffix == ".h5"]
            found = [one for file in weights if file.name != TASK_WEIGHTS for one in datasets(file)]
        if not found:
            raise Refused("there are no weights")
        return found


def _sizes(files: _Files) -> tuple[GPT2Config, int]:
    """What config.json, or task.json, says of the sizes, and the width of the MLP."""
    top = files.object("config.json") or files.object("task.json") or {}
    config: Any = top.get("config")
    name = top.get("class_name")
    if name == "GPT2CausalLM" and isinstance(config, dict):
        backbone = config.get("backbone")
        name, config = (
            (backbone.get("class_name"), backbone.get("config"))
            if isinstance(backbone, dict)
            else (None, None)
        )
    if name != "GPT2Backbone" or not isinstance(config, dict):
        raise Refused(f"config.json: its class is {name!r:.80}, not GPT2Backbone")
    sizes: dict[str, Any] = {
        ours: _number(config, theirs, *LIMITS[ours]) for ours, theirs in SIZES.items()
    }
    inner = _number(config, INNER, 1, MAX_INNER_WIDTH)
    if sizes["n_embd"] % sizes["n_head"]:
        raise Refused(f"config.json: num_heads {sizes['n_head']} does not divide hidden_dim")
    return GPT2Config(**sizes, n_inner=inner), inner


def _number(config: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = config.get(key)
    if type(value) is not int or not low <= value <= high:
        raise Refused(f"config.json: {key} is {value!r:.80}, not from {low} to {high}")
    return value


def _config_json(config: GPT2Config, inner: int, end: int | None) -> Mapping[str, object]:
    sizes = Sizes(
        vocabulary=config.vocab_size,
        context=config.n_positions,
        width=config.n_embd,
        heads=config.n_head,
        layers=config.n_layer,
        inner=inner,
    )
    return config_json(sizes, end=end)


def _other(name: str) -> str | None:
    """Why a variable is left out; None for one of a GPT-2."""
    parts = name.split("/")
    if "seed_generator" in parts:
        return "the state of a random generator"
    if parts[0] in ("optimizer", "_optimizer"):
        return "the state of the optimizer"
    return None


def _name(origin: str) -> str | None:
    """torch's name of a variable, or for query, key and value one of ours."""
    found = VARIABLE.fullmatch(origin)
    if found is None:
        return None
    place = (found["block"] or found["outside"]).replace("/_", "/").removeprefix("_")
    place = place.replace("layer_norm", "layernorm") if "ization" not in place else place
    kind = ("weight", "bias")[int(found["number"])]
    ours = PARTS.get(place, place)
    return f"h.{int(found['layer'] or 0)}.{ours}.{kind}" if found["block"] else f"{ours}.{kind}"


def _tensors(found: dict[str, Dataset], config: GPT2Config) -> Iterable[SourceTensor]:
    """The tensors of a GPT-2 of this configuration; what is missing is left to the caller."""
    expected = dict(config.tensors())
    heads = (config.n_head, config.n_embd // config.n_head)
    for layer in range(config.n_layer):
        for kind in ("weight", "bias"):
            name = f"h.{layer}.attn.c_attn.{kind}"
            parts = [found.pop(f"h.{layer}.{part}.{kind}", None) for part in HEADS]
            whole = [part for part in parts if part is not None]
            if len(whole) == len(parts):
                shape = (*expected[name][:-1], *heads)
                yield _joined(name, whole, shape, expected[name])
            elif whole:
                raise Refused(f"{name} has query, key and value only in part")
        out = found.get(f"h.{layer}.attn.c_proj.weight")
        if out is not None and out.shape != (*heads, config.n_embd):
            raise Refused(f"{out.name} has the shape {list(out.shape)}")
    for name, array in found.items():
        shape = expected.get(name, array.shape)
        yield SourceTensor(
            name=name,
            dtype=_dtype(array),
            shape=shape if prod(shape) == prod(array.shape) else array.shape,
            read=lambda array=array, shape=shape: array.read().reshape(shape),  # type: ignore[misc]
            origin=array.name,
        )


def _joined(
    name: str, parts: list[Dataset], shape: tuple[int, ...], whole: tuple[int, ...]
) -> SourceTensor:
    """Query, key and value side by side."""
    dtypes = {_dtype(part) for part in parts}
    for part in parts:
        if part.shape != shape or len(dtypes) > 1:
            raise Refused(f"{part.name} has the shape {list(part.shape)}, not {list(shape)}")
    dtype = dtypes.pop()

    def read() -> Array:
        import numpy

        values: Array = numpy.empty(whole, NUMPY_DTYPES[dtype])
        width = whole[-1] // len(parts)
        for place, part in enumerate(parts):
            target = values[..., place * width : (place + 1) * width]
            target[...] = part.read().reshape(target.shape)
        return values

    origin = ", ".join(part.name for part in parts)
    return SourceTensor(name=name, dtype=dtype, shape=whole, read=read, origin=origin)


def _dtype(array: Dataset) -> str:
    dtype = FLOATS.get(array.dtype.replace(">", "<"))
    if dtype is None:
        raise Refused(f"{array.name} holds {array.dtype}, not the numbers of a model")
    return dtype


def _tokenizer(files: _Files, config: GPT2Config) -> tuple[dict[str, str], int | None]:
    """The files of the tokenizer, and the id of <|endoftext|>."""
    vocabulary = files.object("vocabulary.json", MAX_TOKENIZER_BYTES)
    merges = files.text("merges.txt", MAX_TOKENIZER_BYTES)
    if vocabulary is None or merges is None:
        return {}, None
    try:
        rules = merges.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"merges.txt: invalid UTF-8 at byte {error.start}") from None
    end = vocabulary.get(END_OF_TEXT)
    end = end if type(end) is int and 0 <= end < config.vocab_size else None
    said = (files.object("tokenizer.json") or {}).get("config")
    settings: Mapping[str, Any] = said if isinstance(said, dict) else {}
    listed = settings.get("unsplittable_tokens")
    special = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    about = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": settings.get("add_prefix_space") is True,
        **dict.fromkeys(ROLES if end is not None else (), END_OF_TEXT),
        "additional_special_tokens": [one for one in special if one != END_OF_TEXT],
        "model_max_length": config.n_positions,
    }
    head = "" if rules.startswith("#version") else "#version: 0.2\n"  # Keras writes none
    texts = {
        "vocab.json": json.dumps(vocabulary),
        "merges.txt": head + rules,
        "tokenizer_config.json": json.dumps(about),
    }
    return texts, end
