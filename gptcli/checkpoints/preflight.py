"""Refuse a bad or unsafe checkpoint before any tensor is read.

The libraries load what they are given: missing tensors become random weights, an index may name a
pickle or a file outside the folder. `inspect` reads config.json and the safetensors headers itself,
compares the one with the other, and hands back where every tensor lies. It costs milliseconds and
only the standard library, so a broken model fails before torch is imported. Values of the weights
are not looked at, nor is the tokenizer, except for code that its configuration may ask for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.checkpoints.config_json import (
    CONFIG,
    DEFAULT_OUTSIDE,
    check_sizes,
    gpt2_config,
    model_type,
    refuse_code,
)
from gptcli.checkpoints.file_kinds import converting, foreign_model, quantized_model
from gptcli.checkpoints.head import untied
from gptcli.checkpoints.safetensors_headers import (
    FLOATS,
    INDEX,
    PICKLED,
    SINGLE,
    Tensor,
    read_tensors,
)
from gptcli.errors import BadModel, MissingInput
from gptcli.system.strict_json import AGAIN, Object, corrupt, read_object

__all__ = ["CheckedCheckpoint", "Tensor", "inspect"]

_WRAPPER = r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
WRAPPERS = re.compile(rf"^(?:module\.|{_WRAPPER})+|\b{_WRAPPER}")  # of torch, in tensors' names
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
    digests: Mapping[Path, str] = field(default_factory=dict)  # SHA-256 of files without a name
    held: tuple[object, ...] = ()  # what those files live by

    def notices_beside(self, ends: Sequence[int]) -> tuple[str, ...]:
        """The notices that matter to a run where these tokens end a text."""
        return tuple(text for text in self.notices if not (ends and text == DEFAULT_OUTSIDE))


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
        hint = "Give the folder that holds it, or choose another model with -m"
        raise _foreign(folder) or BadModel(
            "not a model folder", f"{folder} holds no {CONFIG}", hint
        )
    config = read_object(file)
    if foreign := quantized_model(config, folder):
        raise foreign
    notices = [*refuse_code(config, file), *_refuse_tokenizer_code(folder)]
    if not {"model_type", "architectures"} & config.keys() and (foreign := _foreign(folder)):
        raise foreign
    kind = model_type(config, file)
    gpt2 = None
    if kind == "gpt2":
        gpt2, more = gpt2_config(config, _optional(folder / "generation_config.json"), file)
        notices += more
    else:
        check_sizes(config, file)
    tensors = _tensors(folder)
    if gpt2 is not None:
        tensors = _plain_names(tensors)
        gpt2, more = untied(gpt2, tensors)
        notices += more
        tensors, more = _fit(tensors, gpt2)
        notices += more
    return CheckedCheckpoint(
        folder=folder,
        config=config,
        model_type=kind,
        gpt2=gpt2,
        tensors=tensors,
        notices=tuple(notices),
    )


def _foreign(folder: Path) -> BadModel | None:
    """The error that says what the folder holds in place of a model, where that is known."""
    from gptcli.checkpoints.sources import refusal  # three modules, seldom needed

    return refusal(folder) or foreign_model(folder)


def _optional(file: Path) -> Object:
    return read_object(file) if file.exists() else {}


def _refuse_tokenizer_code(folder: Path) -> tuple[str, ...]:
    file = folder / "tokenizer_config.json"
    # Its chat template and added tokens can make it longer than a config.json.
    return refuse_code(read_object(file, 2**24), file) if file.exists() else ()


def _tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors by name; where there are no weights of ours, what there is instead is said."""
    known = (SINGLE, INDEX, *PICKLED)
    if not any((folder / name).exists() for name in known) and (foreign := _foreign(folder)):
        raise foreign
    return read_tensors(folder)


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as GPT2Config.tensors() has them.

    A GPT2LMHeadModel writes `transformer.` before them, a GPT2Model does not; torch.compile, DDP
    and FSDP write the names of their wrappers.
    """
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = plain_name(name)
        if short in plain:
            raise corrupt(tensor.file, f'tensor "{short}" stands there with and without prefix')
        plain[short] = tensor
    return plain


def plain_name(name: str) -> str:
    """A tensor's name without the prefixes of classes and wrappers."""
    return WRAPPERS.sub("", name).removeprefix("transformer.")


def _fit(found: dict[str, Tensor], config: GPT2Config) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that the configuration asks for, and a notice if there were others.

    Raises BadModel where one is missing, has another shape, or is not of a floating-point type.
    """
    expected = dict(config.tensors())
    missing = [name for name in expected if name not in found]
    if len(missing) == len(expected):
        raise _foreign_names(found)
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


def _foreign_names(found: dict[str, Tensor]) -> BadModel:
    """The error for weights none of which has a name of transformers' GPT-2."""
    if any(name.startswith("model.h.") for name in found):
        rule = "the folder holds an MLX model, whose matrices lie otherwise"
        folder = next(iter(found.values())).file.parent
        return BadModel("foreign model", rule, converting(folder))
    rule = f"the weights hold no tensor of transformers' GPT-2, but {_some(list(found)) or 'none'}"
    hint = "Save it with transformers' GPT2LMHeadModel, or choose another model with -m"
    return BadModel("foreign model", rule, hint)


def _mismatch(fault: str, names: list[str], found: dict[str, Tensor]) -> BadModel:
    file = next((tensor.file.name for tensor in found.values()), "the weights")
    rule = f"{file} does not fit {CONFIG}: {fault}: {_some(names)}"
    return BadModel("corrupt model file", rule, AGAIN)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN_NAMES} more" if len(names) > MAX_SHOWN_NAMES else ""
    return ", ".join(names[:MAX_SHOWN_NAMES]) + more
