"""llm.c's models (`gpt2_124M.bin`, `model_00019560.bin`): a header, then all numbers in one order.

Matrices lie as (out, in), those of all layers one behind the other; rows of the vocabulary beyond
the tokens that there are pad it and are dropped. Beside the model may lie its tokenizer, of which
GPT-2's is made again, and what the model answered in PyTorch (`gpt2_124M_debug_state.bin`), which
proves the conversion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.checkpoints.config_json import LIMITS
from gptcli.checkpoints.file_kinds import MAX_TOKENIZER_BYTES
from gptcli.checkpoints.formats.locked.readers.gpt2.ranks import from_tokens
from gptcli.checkpoints.formats.locked.readers.gpt2.sizes import Sizes, config_json
from gptcli.checkpoints.formats.locked.readers.gpt2.vocabulary import NONE, Vocabulary, end_of
from gptcli.checkpoints.formats.locked.source import (
    NUMPY_DTYPES,
    Job,
    Proof,
    Refused,
    Source,
    SourceTensor,
)
from gptcli.checkpoints.safetensors_headers import ITEM_BYTES
from gptcli.system.strict_json import open_model_file, read_bytes

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

HEADER_INTS, HEADER_BYTES = 256, 1024
MODEL, STATE, TOKENS = 20240326, 20240327, 20240328  # what files begin with
OTHERS = {20240803: "a Llama 3 of llm.c", 20240527: "what llm.c's optimizer keeps"}
DTYPES = {3: "F32", 5: "BF16"}
VERSION = 2  # of the other two files
STATE_SUFFIX = "_debug_state.bin"
MAX_PROOF_TOKENS = 2**14


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the numbers of a tensor lie: `shape` of them, to be turned, and cut to `rows`."""

    name: str
    offset: int
    shape: tuple[int, ...]
    rows: int | None = None

    @property
    def result(self) -> tuple[int, ...]:
        """The shape that the tensor gets."""
        if self.rows is not None:
            return (self.rows, *self.shape[1:])
        return self.shape[::-1] if self.turned else self.shape

    @property
    def turned(self) -> bool:
        """Whether it is a matrix of a block."""
        return len(self.shape) == 2 and self.name.startswith("h.")


def read(job: Job) -> Source:
    """Files are told apart by their beginning. Raises Refused, GptcliError and OSError."""
    headers = {file: _header(file) for file in job.files}
    model = next((file for file, header in headers.items() if header[0] == MODEL), None)
    if model is None:
        kinds = [OTHERS.get(header[0], "no model of llm.c") for header in headers.values()]
        raise Refused(f"{job.files[0].name} is {kinds[0]}")
    dtype, sizes, padded = _sizes(model, headers[model])
    places = list(_places(sizes, padded, ITEM_BYTES[dtype]))
    expected = places[-1].offset + prod(places[-1].shape) * ITEM_BYTES[dtype]
    if (there := model.stat().st_size) != expected:
        raise Refused(f"{model.name} has {there} bytes; a model of its sizes has {expected}")
    tokens = next((file for file, header in headers.items() if header[0] == TOKENS), None)
    vocabulary = _vocabulary(tokens, headers, sizes)
    state = model.with_name(model.stem + STATE_SUFFIX)
    known = dtype == "F32" and headers.get(state, [0])[0] == STATE
    return Source(
        format="a model of llm.c",
        tensors=tuple(_tensor(model, place, dtype) for place in places),
        config=config_json(sizes, end=end_of(vocabulary, sizes.vocabulary)),
        left_out=_padding(sizes.vocabulary, padded),
        texts=vocabulary.texts,
        notices=vocabulary.notices,
        proof=_proof(state, headers[state], sizes) if known else None,
    )


def _padding(rows: int, padded: int) -> dict[str, str]:
    if padded == rows:
        return {}
    return {f"rows {rows} to {padded - 1} of wte": "no token has these ids: they are padding"}


def _header(file: Path) -> list[int]:
    with open_model_file(file) as stream:
        data = stream.read(HEADER_BYTES)
    if len(data) < HEADER_BYTES:
        raise Refused(f"{file.name} is too short for a file of llm.c")
    parts = (data[place : place + 4] for place in range(0, HEADER_BYTES, 4))
    return [int.from_bytes(part, "little", signed=True) for part in parts]


def _sizes(file: Path, header: list[int]) -> tuple[str, Sizes, int]:
    """Type, sizes and rows of the embedding. Raises Refused."""
    _, version, context, vocabulary, layers, heads, width, padded, *_ = header
    if version not in DTYPES:
        older = "; write it again with llm.c's train_gpt2.py" if version in (1, 2, 4) else ""
        raise Refused(f"{file.name} is of version {version}, not 3 or 5{older}")
    sizes = Sizes(vocabulary=vocabulary, context=context, width=width, heads=heads, layers=layers)
    told = {
        "n_layer": layers,
        "n_embd": width,
        "n_head": heads,
        "n_positions": context,
        "vocab_size": vocabulary,
    }
    for key, value in told.items():
        low, high = LIMITS[key]
        if not low <= value <= high:
            raise Refused(f"{file.name}: {key} is {value}")
    if not vocabulary <= padded <= LIMITS["vocab_size"][1]:
        raise Refused(f"{file.name}: {padded} rows for {vocabulary} tokens")
    return DTYPES[version], sizes, padded


def _places(sizes: Sizes, padded: int, item: int) -> Iterator[Place]:
    """All tensors in their order."""
    width = sizes.width
    offset = HEADER_BYTES
    rows = sizes.vocabulary
    yield Place(name="wte.weight", offset=offset, shape=(padded, width), rows=rows)
    offset += padded * width * item
    yield Place(name="wpe.weight", offset=offset, shape=(sizes.context, width))
    offset += sizes.context * width * item
    blocks: dict[str, tuple[int, ...]] = {
        "ln_1": (width,),
        "attn.c_attn": (3 * width, width),
        "attn.c_proj": (width, width),
        "ln_2": (width,),
        "mlp.c_fc": (4 * width, width),
        "mlp.c_proj": (width, 4 * width),
    }
    for part, matrix in blocks.items():
        for kind, shape in (("weight", matrix), ("bias", matrix[:1])):
            for layer in range(sizes.layers):
                yield Place(name=f"h.{layer}.{part}.{kind}", offset=offset, shape=shape)
                offset += prod(shape) * item
    for kind in ("weight", "bias"):
        yield Place(name=f"ln_f.{kind}", offset=offset, shape=(width,))
        offset += width * item


def _tensor(file: Path, place: Place, dtype: str) -> SourceTensor:
    return SourceTensor(
        name=place.name,
        dtype=dtype,
        shape=place.result,
        read=partial(_numbers, file, place, NUMPY_DTYPES[dtype]),
        origin=f"{file.name} at {place.offset}",
    )


def _numbers(file: Path, place: Place, dtype: str) -> Array:
    shape = place.shape if place.rows is None else place.result
    numbers = _array(file, place.offset, shape, dtype)
    return numbers.T if place.turned else numbers


def _array(file: Path, offset: int, shape: tuple[int, ...], dtype: str) -> Array:
    import numpy

    numbers = numpy.empty(shape, dtype)
    with file.open("rb") as stream:
        stream.seek(offset)
        if stream.readinto(numbers.reshape(-1).view(numpy.uint8).data) != numbers.nbytes:
            raise Refused(f"{file.name} is cut short")
    return numbers


def _vocabulary(file: Path | None, headers: dict[Path, list[int]], sizes: Sizes) -> Vocabulary:
    if file is None:
        return Vocabulary(notices=(NONE,))
    _, version, count, end, *_ = headers[file]
    if version not in (1, VERSION) or not 0 < count <= LIMITS["vocab_size"][1]:
        raise Refused(f"{file.name} is of an unknown version ({version}), or has {count} tokens")
    data = read_bytes(file, MAX_TOKENIZER_BYTES)
    tokens, place = [], HEADER_BYTES
    for _ in range(count):
        size = data[place] if place < len(data) else 0
        tokens.append(data[place + 1 : place + 1 + size])
        place += 1 + size
        if not size or place > len(data):
            raise Refused(f"{file.name} is cut short, or has a token of no bytes")
    if place != len(data):
        raise Refused(f"{file.name} has more than its {count} tokens")
    return from_tokens(
        file.name, tokens, end if version == VERSION else count - 1, sizes.vocabulary
    )


def _proof(file: Path, header: list[int], sizes: Sizes) -> Proof:
    """What the model said of a few texts when the file was written. Raises Refused."""
    import numpy

    _, version, rows, length, *_ = header
    if version != VERSION or rows < 1 or not 1 <= length <= sizes.context:
        raise Refused(f"{file.name} is of an unknown version ({version}), or has no texts")
    if rows * length > MAX_PROOF_TOKENS:
        raise Refused(f"{file.name} has {rows} texts of {length} tokens")
    begin, size = HEADER_BYTES + 8 * rows * length, 4 * sizes.vocabulary
    if file.stat().st_size < begin + rows * length * size:
        raise Refused(f"{file.name} is cut short")
    x, y = _array(file, HEADER_BYTES, (2, rows, length), "<i4")
    if x.min() < 0 or y.min() < 0 or max(x.max(), y.max()) >= sizes.vocabulary:
        raise Refused(f"{file.name} has tokens that the model lacks")
    if not numpy.array_equal(x[:, 1:], y[:, :-1]):
        raise Refused(f"{file.name}: its texts do not go on with what follows them")
    told = numpy.empty((rows, length))
    for place, id in enumerate(y.reshape(-1).tolist()):
        scores = _array(file, begin + place * size, (sizes.vocabulary,), "<f4").astype("f8")
        scores -= scores.max()
        told.reshape(-1)[place] = scores[id] - numpy.log(numpy.exp(scores).sum())
    texts = [(*row, last) for row, last in zip(x.tolist(), y[:, -1].tolist(), strict=True)]
    return Proof(ids=tuple(texts), logprobs=tuple(map(tuple, told.tolist())))
