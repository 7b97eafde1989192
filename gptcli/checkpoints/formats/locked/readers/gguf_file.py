"""GGUF files of llama.cpp, in one part or several, with the architecture gpt2.

Matrices lie as (out, in) there; a tied head is stored once more, or not at all. Types that
safetensors lacks become float32. The tokenizer of llama.cpp becomes a tokenizer.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.formats.locked.readers.ggml.header import (
    GgufHeader,
    GgufTensor,
    read_gguf_header,
)
from gptcli.checkpoints.formats.locked.readers.ggml.names import EMBEDDING, HEAD, gpt2_name
from gptcli.checkpoints.formats.locked.readers.ggml.types import decoded, refuse_unreadable
from gptcli.checkpoints.formats.locked.readers.ggml.vocabulary import tokenizer_files
from gptcli.checkpoints.formats.locked.readers.gpt2.sizes import Sizes, config_json
from gptcli.checkpoints.formats.locked.readers.gpt2.tensors import (
    is_matrix,
    same_bytes,
    transposed,
)
from gptcli.checkpoints.formats.locked.source import Job, Refused, Source, SourceTensor, some

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]

MAX_PARTS = 999
SIZES = {  # of config.json, by the key of the metadata
    "n_positions": "context_length",
    "n_embd": "embedding_length",
    "n_layer": "block_count",
    "n_head": "attention.head_count",
    "n_inner": "feed_forward_length",
}
Metadata = Mapping[str, object]


def read(job: Job) -> Source:
    """Read the headers of all parts. Raises Refused, BadModel, MissingInput."""
    if not 1 <= len(job.files) <= MAX_PARTS:
        raise Refused(f"{len(job.files)} files, which are no model in parts")
    headers = [read_gguf_header(file) for file in job.files]
    metadata = headers[0].metadata
    _check_architecture(headers[0])
    _check_parts(headers)
    found = _gathered(headers)
    if unknown := [name for name in found if gpt2_name(name) is None]:
        raise Refused(f"tensors that a GPT-2 lacks: {some(unknown)}")
    tied, left_out = _tied(found)
    kept = {name: tensor for name, tensor in found.items() if name not in left_out}
    refuse_unreadable({tensor.type for tensor in kept.values()})
    config = _config(headers[0], found) | {"tie_word_embeddings": tied}
    texts, notices = tokenizer_files(headers[0].file.name, metadata, int(config["vocab_size"]))
    return Source(
        format="GGUF",
        tensors=tuple(_source(name, tensor) for name, tensor in kept.items()),
        config=config,
        left_out=left_out,
        texts=texts,
        notices=(*_said(kept.values()), *notices),
    )


def _check_architecture(header: GgufHeader) -> None:
    metadata, file = header.metadata, header.file.name
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise Refused(f"{file}: it holds not a model but: {kind!r:.40}")
    found = metadata.get("general.architecture")
    if found != "gpt2":
        raise Refused(f"{file}: a model of the architecture {found!r:.40}, not 'gpt2'")


def _check_parts(headers: list[GgufHeader]) -> None:
    """Whether the files are all parts of one model, in their order."""
    for place, header in enumerate(headers):
        told = header.metadata.get("split.count", 0) or 1, header.metadata.get("split.no", 0)
        if told != (len(headers), place):
            raise Refused(
                f"{header.file.name}: part {told[1]!r:.20} of {told[0]!r:.20}, counted from 0,"
                f" where part {place} of {len(headers)} was looked for"
            )


def _gathered(headers: list[GgufHeader]) -> dict[str, GgufTensor]:
    found: dict[str, GgufTensor] = {}
    for header in headers:
        for name, tensor in header.tensors.items():
            if name in found:
                raise Refused(f"{header.file.name}: {name!r:.80} stands in two parts")
            found[name] = tensor
    told = headers[0].metadata.get("split.tensors.count", len(found))
    if told != len(found):
        raise Refused(f"{headers[0].file.name}: {told!r:.20} tensors in all, but {len(found)} here")
    return found


def _tied(found: Mapping[str, GgufTensor]) -> tuple[bool, dict[str, str]]:
    """Whether the head is the embedding, and the head where it is left out."""
    head, embedding = found.get(HEAD), found.get(EMBEDDING)
    if head is None or embedding is None:
        return True, {}
    if head.type != embedding.type or head.shape != embedding.shape:
        return False, {}
    if not same_bytes(_stored(head), _stored(embedding)):
        return False, {}
    return True, {HEAD: f"it is {EMBEDDING} once more"}


def _config(header: GgufHeader, found: Mapping[str, GgufTensor]) -> dict[str, Any]:
    """config.json, but for whether the head is tied."""
    metadata, file = header.metadata, header.file.name
    sizes = {name: _size(metadata, key, file) for name, key in SIZES.items()}
    embedding = found.get(EMBEDDING)
    if embedding is None or len(embedding.shape) != 2:
        raise Refused(f"{file}: {EMBEDDING} is missing, or no matrix")
    grouped = metadata.get("gpt2.attention.head_count_kv", sizes["n_head"])
    if grouped != sizes["n_head"]:
        raise Refused(f"{file}: {grouped!r:.20} heads of keys for {sizes['n_head']} of queries")
    if metadata.get("gpt2.attention.causal", True) is not True:
        raise Refused(f"{file}: its attention looks ahead (gpt2.attention.causal is false)")
    rows = embedding.shape[0]
    return dict(
        config_json(
            Sizes(
                vocabulary=rows,
                context=sizes["n_positions"],
                width=sizes["n_embd"],
                heads=sizes["n_head"],
                layers=sizes["n_layer"],
                inner=sizes["n_inner"],
            ),
            begin=_token_id(metadata, "bos", rows),
            end=_token_id(metadata, "eos", rows),
            epsilon=_epsilon(metadata, file),
        )
    )


def _size(metadata: Metadata, key: str, file: str) -> int:
    value = metadata.get(f"gpt2.{key}")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise Refused(f"{file}: gpt2.{key} is {value!r:.40}, not a size")
    return value


def _epsilon(metadata: Metadata, file: str) -> float:
    """A float32 in the file; the shortest number that is that float32, such as 1e-05."""
    value = metadata.get("gpt2.attention.layer_norm_epsilon")
    if not isinstance(value, float) or not 0 < value <= 1:
        raise Refused(f"{file}: gpt2.attention.layer_norm_epsilon is {value!r:.40}")
    import numpy

    return float(str(numpy.float32(value)))


def _token_id(metadata: Metadata, role: str, size: int) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{role}_token_id")
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size
    return int(str(value)) if known else None


def _source(name: str, tensor: GgufTensor) -> SourceTensor:
    found = SourceTensor(
        name=gpt2_name(name) or name,
        dtype=tensor.type.result,
        shape=tensor.shape,
        read=lambda: decoded(_stored(tensor), tensor.type, tensor.shape),
        origin=name,
    )
    return transposed(found) if is_matrix(found.name, found.shape) else found


def _stored(tensor: GgufTensor) -> Array:
    import numpy

    return numpy.memmap(tensor.file, "u1", "r", tensor.offset, (tensor.nbytes,))


def _said(tensors: Iterable[GgufTensor]) -> list[str]:
    kinds = sorted({tensor.type.name for tensor in tensors if not tensor.type.plain})
    if not kinds:
        return []
    what = ", ".join(kinds)
    return [f"its {what} numbers become float32, with what quantisation has left of them"]
