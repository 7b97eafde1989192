"""GPT-2 as OpenAI published it, and as gpt-2-simple and nshepperd's program train it: TensorFlow 1.

Files: `NAME.index`, its data files, and beside them or in a folder of their own hparams.json,
encoder.json and vocab.bpe. The graph (`.meta`) is not read. A run's checkpoint also has what the
optimizer keeps of each variable, which is left out. Variables may stand in scopes
(`model/h0/attn/c_attn/w`), or in none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.checkpoints.formats.locked.readers.gpt2.sizes import Sizes, config_json, likely_heads
from gptcli.checkpoints.formats.locked.readers.gpt2.vocabulary import (
    NONE,
    Vocabulary,
    beside,
    end_of,
)
from gptcli.checkpoints.formats.locked.readers.tensorflow.bundle import OBJECTS, Bundle, Variable
from gptcli.checkpoints.formats.locked.source import Job, Refused, Source, SourceTensor, some
from gptcli.checkpoints.safetensors_headers import FLOATS
from gptcli.system.strict_json import read_object

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

HPARAMS = "hparams.json"
KEYS = {
    "vocabulary": "n_vocab",
    "context": "n_ctx",
    "width": "n_embd",
    "heads": "n_head",
    "layers": "n_layer",
}
MATRIX = r"(?:attn|mlp)/c_(?:attn|proj|fc)"
VARIABLE = re.compile(
    rf"(?P<scope>(?:.*/)?)(?P<own>wte|wpe|ln_f/[gb]|h(?P<layer>\d{{1,4}})/(?:ln_[12]/[gb]|{MATRIX}/[wb]))"
    r"(?P<slot>/.+)?"
)
# Numbers of a run, and the sums of gradients, which have no better name in TensorFlow.
OTHERS = re.compile(
    r"(?:.*/)?(?:global_step|_step|step|beta[12]_power|.*_power|loss_scale|learning_rate"
    r"|Variable(?:_\d+)?)(?:/.*)?"
)
PARTS = {"w": "weight", "g": "weight", "b": "bias"}


@dataclass(frozen=True, kw_only=True)
class Names:
    """The model's variables by the name that they get, and what else there is, with reasons."""

    used: Mapping[str, str]
    left_out: Mapping[str, str]


def read(job: Job) -> Source:
    """The index is the first of the files. Raises Refused, GptcliError and OSError."""
    index = next((file for file in job.files if file.name.endswith(".index")), None)
    if index is None:
        raise Refused("there is no .index of a TensorFlow checkpoint")
    data = (file for file in job.files if ".data-" in file.name and file.parent == index.parent)
    bundle = Bundle(index, data)
    names = _sort(index.name, bundle.entries)
    variables = bundle.variables(names.used.values())
    tensors = tuple(_tensor(name, variables[origin], bundle) for name, origin in names.used.items())
    sizes, notices = _sizes(job, index, {tensor.name: tensor.shape for tensor in tensors})
    own_first = sorted(job.files, key=lambda file: file.parent != index.parent)
    vocabulary = beside(own_first, sizes.vocabulary) or Vocabulary(notices=(NONE,))
    return Source(
        format="GPT-2 for TensorFlow 1",
        tensors=tensors,
        config=config_json(sizes, end=end_of(vocabulary, sizes.vocabulary)),
        left_out=names.left_out,
        texts=vocabulary.texts,
        notices=(*notices, *vocabulary.notices),
    )


def _sort(file: str, names: Iterable[str]) -> Names:
    """Which variables are the model's. Raises Refused for those that may be and are unknown."""
    found = {name: VARIABLE.fullmatch(name) for name in names}
    scope = _scope(file, found)
    used: dict[str, str] = {}
    left_out: dict[str, str] = {}
    unknown: list[str] = []
    for name, match in found.items():
        if match and match["slot"]:
            left_out[name] = "the optimizer keeps it"
        elif match and match["scope"] == scope:
            if used.setdefault(_ours(match["own"]), name) != name:
                raise Refused(f"{file}: {name} is {used[_ours(match['own'])]} once more")
        elif name == OBJECTS or OTHERS.fullmatch(name):
            left_out[name] = "it belongs to the training"
        elif not name.startswith(scope) or match:
            left_out[name] = f"it is not in the model's scope {scope}"
        else:
            unknown.append(name)
    if unknown:
        raise Refused(f"{file}: variables that a GPT-2 lacks: {some(unknown)}")
    return Names(used=used, left_out=left_out)


def _scope(file: str, found: Mapping[str, re.Match[str] | None]) -> str:
    """The scope of the model: of several the one that OpenAI's program uses, or the outermost."""
    matches = (match for match in found.values() if match and match["own"] == "wte")
    scopes = [match["scope"] for match in matches if not match["slot"]]
    if not scopes:
        shown = some([name for name in found if name != OBJECTS])
        kind = " by TensorFlow 2 or Keras" if OBJECTS in found else ""
        raise Refused(f"{file} is no GPT-2 of OpenAI's program: it has no wte, but {shown}{kind}")
    scopes.sort(key=lambda scope: (scope != "model/", scope.count("/"), scope))
    if len(scopes) > 1 and scopes[0] != "model/" and scopes[0].count("/") == scopes[1].count("/"):
        raise Refused(f"{file} holds several models: {some(scopes)}")
    return scopes[0]


def _ours(own: str) -> str:
    """`h0/attn/c_attn/w` is h.0.attn.c_attn.weight, and `wte` wte.weight."""
    *path, last = own.split("/")
    if not path:
        return f"{last}.weight"
    if path[0] != "ln_f":
        path[:1] = ["h", str(int(path[0][1:]))]
    return ".".join((*path, PARTS[last]))


def _tensor(name: str, variable: Variable, bundle: Bundle) -> SourceTensor:
    shape = variable.shape
    if len(shape) == 3 and shape[0] == 1:  # a convolution of width 1
        shape = shape[1:]
    if variable.dtype not in FLOATS:
        raise Refused(f"{variable.name} holds whole numbers ({variable.dtype})")
    return SourceTensor(
        name=name,
        dtype=variable.dtype,
        shape=shape,
        read=partial(_read, bundle, variable, shape),
        origin=variable.name,
    )


def _read(bundle: Bundle, variable: Variable, shape: tuple[int, ...]) -> Array:
    return bundle.read(variable).reshape(shape)


def _sizes(
    job: Job, index: Path, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Sizes, tuple[str, ...]]:
    """What hparams.json says, or the shapes, and notices."""
    vocabulary, width = (*shapes.get("wte.weight", ()), 0, 0)[:2]
    layers = {int(name.split(".")[1]) for name in shapes if name.startswith("h.")}
    told = {
        "vocabulary": vocabulary,
        "context": (*shapes.get("wpe.weight", ()), 0)[0],
        "width": width,
        "layers": len(layers),
    }
    for file in sorted(_named(job, HPARAMS), key=lambda file: file.parent != index.parent):
        said = _said(file)
        fits = all(said.get(key, size) == size for key, size in told.items())
        if fits or file.parent == index.parent:
            told |= said
            break
    if "heads" in told:
        return Sizes(**told), ()
    heads, notice = likely_heads(width)
    return Sizes(**told, heads=heads), (notice,)


def _said(file: Path) -> dict[str, int]:
    """The sizes of an hparams.json. Raises Refused and GptcliError."""
    said = read_object(file)
    sizes = {}
    for key, name in KEYS.items():
        value = said.get(name)
        if value is None:
            continue
        if type(value) is not int or not 0 < value < 2**31:
            raise Refused(f"{file.name}: {name} is not a number above 0")
        sizes[key] = value
    return sizes


def _named(job: Job, name: str) -> list[Path]:
    return [file for file in job.files if file.name == name]
