"""Refuse a bad or unsafe checkpoint before any tensor is read.

The libraries load what they are given: missing tensors become random weights, an index may name a
pickle or a file outside the folder. `inspect` reads config.json and the safetensors headers itself,
compares the one with the other, and hands back where every tensor lies. It costs milliseconds and
only the standard library, so a broken model fails before torch is imported. Values of the weights
are not looked at, nor is the tokenizer, except for code that its configuration may ask for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.config_json import CONFIG, check_sizes, gpt2_config, model_type, refuse_code
from gptcli.checkpoints.safetensors_headers import Tensor, read_tensors
from gptcli.errors import BadModel, MissingInput
from gptcli.system.strict_json import AGAIN, Object, corrupt, read_object

__all__ = ["CheckedCheckpoint", "Tensor", "inspect"]

FLOATS = ("F16", "BF16", "F32", "F64")
MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # buffers that old files still hold
MAX_SHOWN_NAMES = 5  # names in an error


@dataclass(frozen=True, kw_only=True)
class CheckedCheckpoint:
    """A checkpoint that passed: its configuration, and where each tensor lies."""

    folder: Path
    config: Mapping[str, object]  # config.json, as it stands there
    model_type: str
    gpt2: GPT2Config | None  # None for any other architecture
    tensors: dict[str, Tensor]  # a GPT-2's names are those of GPT2Config.tensors()
    notices: tuple[str, ...]


def inspect(folder: Path) -> CheckedCheckpoint:
    """Check a checkpoint folder without reading a tensor.

    A GPT-2's tensors are compared with its configuration, name by name; of other architectures the
    configuration's sanity and the headers are checked.

    Raises MissingInput (no such folder, unreadable file) and BadModel (anything unsafe, corrupt or
    inconsistent), naming the file and the rule.
    """
    if not folder.is_dir():
        raise MissingInput(str(folder), "no such folder", "Give a folder that holds config.json")
    file = folder / CONFIG
    if not file.exists():
        raise BadModel("not a model folder", f"{folder} holds no {CONFIG}", AGAIN)
    config = read_object(file)
    notices = [*refuse_code(config, file), *_refuse_tokenizer_code(folder)]
    kind = model_type(config, file)
    gpt2 = None
    if kind == "gpt2":
        gpt2, more = gpt2_config(config, _optional(folder / "generation_config.json"), file)
        notices += more
    else:
        check_sizes(config, file)
    tensors = read_tensors(folder)
    if gpt2 is not None:
        tensors, more = _fit(_plain_names(tensors), gpt2)
        notices += more
    return CheckedCheckpoint(
        folder=folder,
        config=config,
        model_type=kind,
        gpt2=gpt2,
        tensors=tensors,
        notices=tuple(notices),
    )


def _optional(file: Path) -> Object:
    return read_object(file) if file.exists() else {}


def _refuse_tokenizer_code(folder: Path) -> tuple[str, ...]:
    file = folder / "tokenizer_config.json"
    # Its chat template and added tokens can make it longer than a config.json.
    return refuse_code(read_object(file, 2**24), file) if file.exists() else ()


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without `transformer.`: a GPT2LMHeadModel writes it, a GPT2Model does not."""
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = name.removeprefix("transformer.")
        if short in plain:
            raise corrupt(tensor.file, f'tensor "{short}" stands there with and without prefix')
        plain[short] = tensor
    return plain


def _fit(found: dict[str, Tensor], config: GPT2Config) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that the configuration asks for, and a notice if there were others.

    Raises BadModel where one is missing, has another shape, or is not of a floating-point type.
    """
    head = found.get("lm_head.weight")
    if config.tie_word_embeddings and head is not None:
        # A tied head is the embedding; some writers keep only the head's copy of the two.
        embedding = found.setdefault("wte.weight", head)
        if head.shape != embedding.shape:
            raise corrupt(head.file, "lm_head.weight has another shape than wte.weight")
    expected = dict(config.tensors())
    missing = [name for name in expected if name not in found]
    if missing:
        raise _mismatch("missing tensors", missing, found)
    misshaped = [
        f"{name} {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if found[name].shape != shape
    ]
    if misshaped:
        raise _mismatch("tensors of a wrong shape", misshaped, found)
    other = [f"{name} {found[name].dtype}" for name in expected if found[name].dtype not in FLOATS]
    if other:
        raise _mismatch("tensors that are not floating-point", other, found)
    silent = {*expected, "lm_head.weight"}
    extra = [name for name in found if name not in silent and not MASK.fullmatch(name)]
    notices = [f"{len(extra)} tensors that a GPT-2 lacks are ignored: {_some(extra)}"]
    return {name: found[name] for name in expected}, notices if extra else []


def _mismatch(fault: str, names: list[str], found: dict[str, Tensor]) -> BadModel:
    file = next((tensor.file.name for tensor in found.values()), "the weights")
    rule = f"{file} does not fit {CONFIG}: {fault}: {_some(names)}"
    return BadModel("corrupt model file", rule, AGAIN)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN_NAMES} more" if len(names) > MAX_SHOWN_NAMES else ""
    return ", ".join(names[:MAX_SHOWN_NAMES]) + more
