"""MLX's GPT-2: folders of mlx-lm (safetensors), and `weights.npz`.

The first of the files is config.json; texts among the others, such as a tokenizer.json, go along.
MLX's matrices lie as (out, in), and their names may begin
with `model.`. Quantised ones are numbers of 2 to 8 bits, with a scale and a bias for each group;
they become float32. A file whose matrices lie as (in, out) is known by the shape of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.config_json import gpt2_config, model_type
from gptcli.checkpoints.file_kinds import MAX_TOKENIZER_BYTES
from gptcli.checkpoints.formats.locked.readers.gpt2.tensors import (
    MASK,
    as_float32,
    is_matrix,
    same_bytes,
    transposed,
)
from gptcli.checkpoints.formats.locked.readers.npz import PLAIN, read_npz
from gptcli.checkpoints.formats.locked.source import Job, Refused, Source, SourceTensor
from gptcli.checkpoints.head import EMBEDDING, HEAD
from gptcli.checkpoints.safetensors_headers import FLOATS, Tensor, read_header
from gptcli.system.strict_json import Object, read_bytes, read_object

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[Any]]

MAX_FILES = 1000
WEIGHTS = (".safetensors", ".npz")
BINARY = ".model"  # of sentencepiece, which an answer cannot hold
PREFIXES = ("model.", "transformer.")
QUANTISATION = ("quantization", "quantization_config")
WORD_BITS = 32
BITS = (2, 3, 4, 5, 6, 8)
PIECE_ROWS = 2**8  # of a quantised matrix, decoded at a time
FIRST = "h.0.attn.c_attn.weight"
HINT = "mlx_lm.convert --dequantize makes plain numbers of it"


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """An array of a file, of either kind."""

    origin: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Array]


@dataclass(frozen=True, kw_only=True)
class _Quantised:
    """A matrix (out, in): packed words, and scale and bias of each group of numbers in a row."""

    words: _Stored
    scales: _Stored
    biases: _Stored
    bits: int
    width: int  # numbers in a row


def read(job: Job) -> Source:
    """Read config.json and the headers. Raises Refused, BadModel, MissingInput."""
    if not 2 <= len(job.files) <= MAX_FILES:
        raise Refused(f"{len(job.files)} files; config.json and at least one of weights are needed")
    told = read_object(job.files[0])
    config = _config(told, job.files[0])
    checked, _ = gpt2_config(config, {}, job.files[0])
    weights = [file for file in job.files[1:] if file.suffix in WEIGHTS]
    others = [file for file in job.files[1:] if file.suffix not in WEIGHTS]
    stored = _gathered(weights)
    tied, left_out = _tied(stored)
    stored = {name: one for name, one in stored.items() if one.origin not in left_out}
    left_out |= _masks(stored)
    config["tie_word_embeddings"] = tied
    tensors = _tensors(checked, stored)
    kinds = {one.dtype for one in stored.values() if one.dtype == "U32"}
    said = ("its quantised numbers become float32, with what quantisation has left of them",)
    return Source(
        format="MLX",
        tensors=tuple(tensors),
        config=config,
        left_out=left_out,
        texts={file.name: _text(file) for file in others if file.suffix != BINARY},
        notices=(*(said if kinds else ()), *_not_copied(others)),
    )


def _config(told: Object, file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"model_type": "gpt2"} if "n_embd" in told else {}
    found |= {key: value for key, value in told.items() if key not in QUANTISATION}
    if model_type(found, file) != "gpt2":
        raise Refused(f"{file.name}: a model of the architecture {found.get('model_type')!r:.40}")
    modes = {
        str(part.get("mode", "affine"))
        for key in QUANTISATION
        if isinstance(parts := told.get(key), dict)
        for part in (parts, *parts.values())
        if isinstance(part, dict)
    } - {"affine"}
    if modes:
        raise Refused(f"numbers quantised as {', '.join(sorted(modes)):.80}; {HINT}")
    return found | {"architectures": ["GPT2LMHeadModel"]}


def _not_copied(files: Sequence[Path]) -> Iterator[str]:
    for file in files:
        if file.suffix == BINARY:
            yield f"{file.name} is no text: copy it into the new folder yourself"


def _text(file: Path) -> str:
    try:
        return read_bytes(file, MAX_TOKENIZER_BYTES).decode()
    except UnicodeDecodeError:
        raise Refused(f"{file.name}: it is not UTF-8") from None


def _gathered(files: Sequence[Path]) -> dict[str, _Stored]:
    """All arrays, by names without prefixes."""
    found: dict[str, _Stored] = {}
    for file in files:
        arrays = _npz(file) if file.suffix == ".npz" else _safetensors(file)
        for one in arrays:
            name = one.origin
            for prefix in PREFIXES:
                name = name.removeprefix(prefix)
            if name in found:
                raise Refused(f"{file.name}: {one.origin!r:.80} stands there twice")
            found[name] = one
    return found


def _npz(file: Path) -> list[_Stored]:
    return [
        _Stored(origin=name, dtype=member.dtype, shape=member.shape, read=member.read)
        for name, member in read_npz(file).items()
    ]


def _safetensors(file: Path) -> list[_Stored]:
    return [
        _Stored(origin=name, dtype=tensor.dtype, shape=tensor.shape, read=partial(_mapped, tensor))
        for name, tensor in read_header(file).items()
    ]


def _mapped(tensor: Tensor) -> Array:
    import numpy

    if not tensor.nbytes:
        return numpy.empty(tensor.shape, PLAIN[tensor.dtype])
    return numpy.memmap(tensor.file, PLAIN[tensor.dtype], "r", tensor.offset, tensor.shape)


def _tied(stored: Mapping[str, _Stored]) -> tuple[bool, dict[str, str]]:
    head, embedding = stored.get(HEAD), stored.get(EMBEDDING)
    if head is None or embedding is None:
        return head is None, {}
    same = (head.dtype, head.shape) == (embedding.dtype, embedding.shape)
    if not same or head.dtype not in FLOATS or not same_bytes(head.read(), embedding.read()):
        return False, {}
    return True, {head.origin: f"it is {embedding.origin} once more"}


def _masks(stored: dict[str, _Stored]) -> dict[str, str]:
    """The masks of old files, which are removed from `stored`."""
    masks = [name for name in stored if MASK.fullmatch(name)]
    return {stored.pop(name).origin: "a mask, which is no weight" for name in masks}


def _tensors(config: GPT2Config, stored: Mapping[str, _Stored]) -> list[SourceTensor]:
    """The tensors with our names and shapes."""
    first, width = stored.get(FIRST), config.n_embd
    turned = first is None or first.dtype == "U32" or first.shape == (3 * width, width)
    shapes = {HEAD: (config.vocab_size, width)} | dict(config.tensors())
    quantised = {name: _quantised(name, stored, shapes) for name in stored if _packed(name, stored)}
    used = {
        one.origin
        for parts in quantised.values()
        for one in (parts.words, parts.scales, parts.biases)
    }
    plain = {name: one for name, one in stored.items() if one.origin not in used}
    return [
        *(_unpacked(name, parts) for name, parts in quantised.items()),
        *(_plain(name, one, turned) for name, one in plain.items()),
    ]


def _plain(name: str, one: _Stored, turned: bool) -> SourceTensor:
    if one.dtype not in FLOATS:
        raise Refused(f"{one.origin!r:.80} is of the type {one.dtype}, without scales")
    found = SourceTensor(
        name=name, dtype=one.dtype, shape=one.shape, read=one.read, origin=one.origin
    )
    return transposed(found) if turned and is_matrix(name, one.shape) else found


def _packed(name: str, stored: Mapping[str, _Stored]) -> bool:
    base = name.removesuffix(".weight")
    return base != name and f"{base}.scales" in stored


def _quantised(
    name: str, stored: Mapping[str, _Stored], shapes: Mapping[str, tuple[int, ...]]
) -> _Quantised:
    """The parts of a matrix; how many bits a number has follows from how many there should be."""
    base = name.removesuffix(".weight")
    words, scales, biases = stored[name], stored[f"{base}.scales"], stored.get(f"{base}.biases")
    if biases is None:
        raise Refused(f"{words.origin!r:.80} has scales without biases; {HINT}")
    shape = shapes.get(name, ())
    if len(shape) != 2:
        raise Refused(f"{words.origin!r:.80} is a quantised matrix that a GPT-2 lacks")
    rows, width = shape[::-1] if name.startswith("h.") else shape
    fits = words.dtype == "U32" and {scales.dtype, biases.dtype} <= {*FLOATS}
    fits = fits and len(words.shape) == len(scales.shape) == 2 and scales.shape == biases.shape
    fits = fits and words.shape[0] == scales.shape[0] == rows and scales.shape[1] > 0
    if not fits or width % scales.shape[1] or words.shape[1] * WORD_BITS % width:
        raise Refused(f"{words.origin!r:.80}: its words, scales and biases do not fit together")
    bits = words.shape[1] * WORD_BITS // width
    if bits not in BITS:
        raise Refused(f"{words.origin!r:.80} has {bits} bits for a number")
    return _Quantised(words=words, scales=scales, biases=biases, bits=bits, width=width)


def _unpacked(name: str, parts: _Quantised) -> SourceTensor:
    shape = (parts.words.shape[0], parts.width)
    found = SourceTensor(
        name=name,
        dtype="F32",
        shape=shape,
        read=partial(_numbers, parts),
        origin=parts.words.origin,
    )
    return transposed(found) if is_matrix(name, shape) else found


def _numbers(parts: _Quantised) -> Array:
    """The numbers of a matrix, some rows at a time."""
    import numpy

    words, scales, biases = parts.words.read(), parts.scales.read(), parts.biases.read()
    found = numpy.empty((len(words), parts.width), "<f4")
    for start in range(0, len(words), PIECE_ROWS):
        rows = slice(start, start + PIECE_ROWS)
        scale = as_float32(scales[rows], parts.scales.dtype)[:, :, None]
        bias = as_float32(biases[rows], parts.biases.dtype)[:, :, None]
        packed = _integers(words[rows], parts.bits, parts.width)
        grouped = packed.reshape(len(packed), scale.shape[1], -1)
        with numpy.errstate(all="ignore"):  # a scale may be anything
            found[rows] = (grouped * scale + bias).reshape(len(packed), -1)
    return found


def _integers(words: Array, bits: int, width: int) -> Array:
    """The numbers of `bits` bits that words hold one behind the other, the lowest bit first."""
    import numpy

    data = numpy.ascontiguousarray(words).view(numpy.uint8).reshape(len(words), -1)
    if bits == 8:
        return data.astype("<f4")
    flags = numpy.unpackbits(data, axis=1, bitorder="little").reshape(len(words), width, bits)
    found: Array = flags @ (2.0 ** numpy.arange(bits)).astype("<f4")
    return found
