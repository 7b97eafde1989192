"""What transformers 4 wrote with TensorFlow and with Flax: its config.json stays as it is.

Both have the tensors of torch's GPT-2 under names and shapes of their own, and no head where the
configuration ties it to the embedding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gptcli.checkpoints.formats.locked.source import Job, Refused, SourceTensor, some
from gptcli.checkpoints.head import HEAD

if TYPE_CHECKING:
    from gptcli.checkpoints.formats.locked.source import Array

FLOATS = {"<f2": "F16", "<f4": "F32", "<f8": "F64", "bfloat16": "BF16"}
# Parts of the names of what other classes have on top, and of what training leaves.
OTHER_HEADS = {
    "score": "the head of a classifier",
    "classifier": "the head of a classifier",
    "multiple_choice_head": "the head that chooses between answers",
    "qa_outputs": "the head that marks answers",
    "optimizer_weights": "the state of the optimizer",
}
MATRICES = re.compile(r".*\.(c_attn|c_proj|c_fc)\.weight|w[tp]e\.weight|lm_head\.weight")


def of_files(job: Job, suffix: str) -> list[Path]:
    """The files of this kind. Raises Refused where there is none."""
    found = [file for file in job.files if file.name.endswith(suffix)]
    if not found:
        raise Refused(f"{job.folder.name} has no file *{suffix}")
    return found


def is_tied(job: Job) -> bool:
    """Whether config.json ties the head to the embedding, as the option `tied` says."""
    return job.options.get("tied") is not False


def other_part(name: str) -> str | None:
    """Why a tensor of this name, in the source, is left out; None for one of a GPT-2."""
    return next((why for part in name.split("/") if (why := OTHER_HEADS.get(part))), None)


def tensor(
    name: str, origin: str, dtype: str, shape: tuple[int, ...], read: Callable[[], Array]
) -> SourceTensor:
    """A tensor by torch's name; dimensions of 1 before those that it has there are taken off."""
    kind = FLOATS.get(dtype.replace(">", "<"))
    if kind is None:
        raise Refused(f"{origin} holds {dtype}, not the numbers of a model")
    wanted = 2 if MATRICES.fullmatch(name) else 1
    squeezed = shape
    while len(squeezed) > wanted and squeezed[0] == 1:
        squeezed = squeezed[1:]
    if len(squeezed) != wanted:
        raise Refused(f"{origin} has the shape {list(shape)}")
    return SourceTensor(
        name=name,
        dtype=kind,
        shape=squeezed,
        read=read if squeezed == shape else lambda: read().reshape(squeezed),
        origin=origin,
    )


def by_name(found: Iterator[SourceTensor]) -> dict[str, SourceTensor]:
    """Tensors by torch's names. Raises Refused where two have one name, or there is none."""
    tensors: dict[str, SourceTensor] = {}
    for one in found:
        if before := tensors.get(one.name):
            raise Refused(f"{before.origin} and {one.origin} are both {one.name}")
        tensors[one.name] = one
    if not tensors:
        raise Refused("there are no tensors of a GPT-2")
    return tensors


def settle_head(tensors: dict[str, SourceTensor], tied: bool) -> Mapping[str, str]:
    """Take a head out that the configuration ties: there the framework computes without it."""
    if tied and HEAD in tensors:
        return {tensors.pop(HEAD).origin: "config.json ties the head to the embedding"}
    return {}


def refuse_unknown(names: list[str]) -> None:
    """Raises Refused, naming tensors that a GPT-2 lacks."""
    if names:
        raise Refused(f"tensors that a GPT-2 lacks: {some(names)}")
