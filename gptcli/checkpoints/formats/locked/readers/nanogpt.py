"""GPT-2s in checkpoints of training programs for PyTorch: nanoGPT's `ckpt.pt` and its relatives.

The weights stand under `model` or `state_dict`, or by themselves, and their names between the
prefixes of DDP, FSDP, torch.compile and Lightning. nanoGPT and minGPT have matrices as (out, in),
which transformers and we turn; a model without biases is one with biases of zero. What nanoGPT
knows of its characters is in `meta.pkl`, which is read as data, not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.checkpoints.config_json import CONFIG
from gptcli.checkpoints.formats.locked.readers import pickles
from gptcli.checkpoints.formats.locked.readers.gpt2.characters import META, from_meta
from gptcli.checkpoints.formats.locked.readers.gpt2.sizes import Sizes, config_json, likely_heads
from gptcli.checkpoints.formats.locked.readers.gpt2.tensors import (
    MASK,
    TIED,
    same_bytes,
    transposed,
)
from gptcli.checkpoints.formats.locked.readers.gpt2.vocabulary import (
    NONE,
    Vocabulary,
    beside,
    end_of,
)
from gptcli.checkpoints.formats.locked.source import (
    NUMPY_DTYPES,
    Job,
    Refused,
    Source,
    SourceTensor,
    some,
)
from gptcli.checkpoints.head import EMBEDDING, HEAD
from gptcli.checkpoints.safetensors_headers import FLOATS
from gptcli.system.strict_json import read_object

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

LIBRARIES = pickles.LIBRARIES
SETTINGS = ("model_args", "hyper_parameters", "config", "model_config")
WRAPPERS = re.compile(
    r"(?<![^.])(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
MATRIX = re.compile(r"h\.\d+\.(?:attn|mlp)\.c_(?:attn|proj|fc)\.weight")
OBJECTS = re.compile(  # of settings and figures, which stand beside the weights
    r"[\w.]+\.\w*(?:Config|Args|Arguments|Settings|Params|Namespace|CfgNode)"
    r"|pathlib\.(?:\w+\.)?(?:Pure)?(?:Posix|Windows)Path"
    r"|numpy\.(?:_core|core)\.multiarray\.scalar|numpy\.dtype|numpy\.dtypes\.\w+"
)
OLD_GELU = (
    "its GELU is taken for nn.GELU, nanoGPT's since May 2023; if it was trained with an older one,"
    ' write "gelu_new" for activation_function in config.json'
)


def read(job: Job) -> Source:
    """The checkpoint is the first of the files. Raises Refused, GptcliError and OSError."""
    file = job.files[0]
    held = pickles.loaded(file, OBJECTS)
    tensors, left_out = _state(file, held)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    settings = _settings(held, job)
    sizes, notices = _sizes(file, shapes, settings)
    turned = shapes.get("h.0.attn.c_attn.weight") == (3 * sizes.width, sizes.width)
    tied = _drop_twin(tensors, left_out)
    activation, doubt = _activation(held, settings, turned)
    vocabulary = _vocabulary(job, held, sizes.vocabulary)
    found = [_tensor(file, name, tensor, turned) for name, tensor in tensors.items()]
    end = end_of(vocabulary, sizes.vocabulary)
    config = config_json(sizes, end=end, activation=activation, tied=tied)
    if settings.get("model_type") == "gpt2" and "architectures" in settings:
        config = {**settings, "tie_word_embeddings": tied}  # whole, as transformers writes it
    return Source(
        format="a checkpoint of nanoGPT" if "model_args" in held else "a checkpoint of PyTorch",
        tensors=(*found, *_zeros(found)),
        config=config,
        left_out=left_out,
        texts=vocabulary.texts,
        notices=(*notices, *doubt, *vocabulary.notices),
    )


def _state(file: Path, held: Mapping[Any, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The model's tensors by our names, and what there is beside them. Raises Refused."""
    state, left_out = pickles.parted(held)
    plain = {name: WRAPPERS.sub("", name) for name in state if isinstance(name, str)}
    prefix = _prefix(file, plain.values())
    tensors: dict[str, Any] = {}
    for name, tensor in state.items():
        own = _own(plain.get(name, ""), prefix)
        if own is None or MASK.fullmatch(own):
            left_out[str(name)] = "it is no weight" if own else "it is not in the model"
            continue
        pickles.check(file.name, name, tensor)
        if own in tensors:
            raise Refused(f"{file.name}: {own} stands there twice")
        tensors[own] = tensor
    return tensors, left_out


def _prefix(file: Path, names: Iterable[str]) -> str:
    """What stands before `wte.weight`. Raises Refused where nothing does, or several things."""
    found = {
        name.removesuffix(EMBEDDING)
        for name in names
        if name == EMBEDDING or name.endswith("." + EMBEDDING)
    }
    if len(found) != 1:
        what = f"holds several models: {some(sorted(found))}" if found else "holds no wte.weight"
        raise Refused(f"{file.name} {what}")
    return found.pop()


def _own(name: str, prefix: str) -> str | None:
    """Our name; the head stands beside the transformer, or in it."""
    if name.startswith(prefix) and name:
        return name.removeprefix(prefix)
    outer = prefix.removesuffix("transformer.")
    return HEAD if name == outer + HEAD else None


def _settings(held: Mapping[Any, Any], job: Job) -> Mapping[str, object]:
    """What the checkpoint, or a config.json beside it, says of the model's sizes."""
    for key in SETTINGS:
        found = held.get(key)
        if isinstance(found, pickles.Inert):
            found = vars(found)
        if isinstance(found, Mapping) and "n_head" in found:
            return found
    for file in job.files[1:]:
        if file.name == CONFIG:
            found = read_object(file)
            inner = found.get("model")
            return inner if isinstance(inner, Mapping) else found
    return {}


def _sizes(
    file: Path, shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, object]
) -> tuple[Sizes, tuple[str, ...]]:
    """From the shapes; only the number of heads must be said."""
    if len(shapes[EMBEDDING]) != 2 or len(shapes.get("wpe.weight", ())) != 2:
        raise Refused(f"{file.name}: its embeddings are no matrices")
    (vocabulary, width), (context, _) = shapes[EMBEDDING], shapes["wpe.weight"]
    layers = {name.split(".")[1] for name in shapes if name.startswith("h.")}
    heads: object = settings.get("n_head")
    notices: tuple[str, ...] = ()
    if heads is None:
        heads, notice = likely_heads(width)
        notices = (notice,)
    if type(heads) is not int or heads < 1:
        raise Refused(f"{file.name}: n_head is not a number above 0")
    sizes = Sizes(
        vocabulary=vocabulary, context=context, width=width, heads=heads, layers=len(layers)
    )
    return sizes, notices


def _activation(
    held: Mapping[Any, Any], settings: Mapping[str, object], turned: bool
) -> tuple[str, tuple[str, ...]]:
    """nanoGPT's was the tangent form until May 2023; others have that form still."""
    said = settings.get("activation_function")
    if isinstance(said, str):
        return said, ()
    if turned and isinstance(held.get("model_args"), Mapping) and "bias" in settings:
        return "gelu", (OLD_GELU,)
    return "gelu_new", ()


def _drop_twin(tensors: dict[str, Any], left_out: dict[str, str]) -> bool:
    """Leave out a head that is the embedding once more; whether the model is tied."""
    head, embedding = tensors.get(HEAD), tensors[EMBEDDING]
    if head is None:
        return True
    if head.shape != embedding.shape or head.dtype != embedding.dtype:
        return False
    if not same_bytes(pickles.numbers(head), pickles.numbers(embedding)):
        return False
    del tensors[HEAD]
    left_out[HEAD] = TIED
    return True


def _tensor(file: Path, name: str, tensor: Any, turned: bool) -> SourceTensor:
    source = pickles.as_source(name, tensor)
    if source.dtype not in FLOATS:
        raise Refused(f"{file.name}: {name} holds whole numbers ({source.dtype})")
    if not turned or not MATRIX.fullmatch(name) or len(source.shape) != 2:
        return source
    return transposed(source)


def _zeros(found: Iterable[SourceTensor]) -> list[SourceTensor]:
    """The biases of a model that was trained without them."""
    weights = {
        tensor.name.removesuffix("weight"): tensor
        for tensor in found
        if tensor.name.startswith(("h.", "ln_f.")) and tensor.shape
    }
    if any(name.endswith(".bias") for name in weights):
        return []  # some are there: then all have to be
    return [
        SourceTensor(
            name=name + "bias",
            dtype=tensor.dtype,
            shape=tensor.shape[-1:],
            read=partial(_no_numbers, tensor.shape[-1], tensor.dtype),
            origin="(zeros: it was trained without biases)",
        )
        for name, tensor in weights.items()
    ]


def _no_numbers(count: int, dtype: str) -> Array:
    import numpy

    return numpy.zeros(count, NUMPY_DTYPES[dtype])


def _vocabulary(job: Job, held: Mapping[Any, Any], embeddings: int) -> Vocabulary:
    """The tokenizer beside it, or the characters of the data set that it was trained on."""
    if found := beside(job.files, embeddings):
        return found
    config = held.get("config")
    dataset = config.get("dataset") if isinstance(config, Mapping) else None
    for file in job.files:
        if file.name == META and file.parent.name in (dataset, job.files[0].parent.name):
            return from_meta(file, embeddings)
    return Vocabulary(notices=(NONE,))
