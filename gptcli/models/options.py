"""The options of `gptcli models`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.options import Agreement
from gptcli.options.shared import ASKED, OVERWRITE
from gptcli.options.spec import Options, option


@dataclass(frozen=True, kw_only=True)
class Which(Options):
    """Which of several revisions is meant."""

    panel = "Model"

    revision: str | None = option(
        None,
        "--revision",
        "Branch, tag or commit; the first digits of a commit will do.",
        redeclares="what is on the disk can be named by the first digits of its commit",
    )


@dataclass(frozen=True, kw_only=True)
class Removal(Agreement):
    """How a removal is agreed to."""

    dry_run: bool = option(
        False,
        "--dry-run",
        "Print what would be removed, remove nothing.",
        instead=ASKED,
        redeclares="it is about files, not about prompts",
    )


@dataclass(frozen=True, kw_only=True)
class Extent(Options):
    """How much is verified."""

    panel = "Model"

    all: bool = option(
        False, "--all", "Every model on the machine.", instead=ASKED, redeclares="all models"
    )


@dataclass(frozen=True, kw_only=True)
class Target(Options):
    """What a checkpoint is converted to, and where that goes."""

    panel = "Output"

    output: str | None = option(
        None,
        "-o --output",
        "The new model's folder, or NAME.gguf. Without it the weights are added to the old folder.",
        metavar="PATH",
        names="folder",
        instead="It is another place each time.",
        redeclares="it is mostly a folder",
    )
    to: Literal["safetensors", "gguf", "ctranslate2"] | None = option(
        None,
        "--to",
        "The format: safetensors, as gptcli has it; gguf, for llama.cpp; or ctranslate2.",
        instead=ASKED,
        shown_default="that of the output's suffix, else safetensors",
    )
    type: str | None = option(
        None,
        "--type",
        "How numbers are stored. For gguf: f32, f16, bf16, q8_0. For ctranslate2: int8,"
        " int8_float16, int8_bfloat16, float16, bfloat16, float32.",
        instead=ASKED,
        shown_default="f16 for gguf, int8 for ctranslate2",
    )
    step: int | None = option(
        None,
        "--step",
        "Of a training run that kept several steps, take this one instead of the latest.",
        metavar="N",
        low=0,
        instead="It is another step each time.",
    )
    force: bool = OVERWRITE


@dataclass(frozen=True, kw_only=True)
class MergeTarget(Options):
    """Where a merged model goes, and in which numbers."""

    panel = "Output"

    output: str | None = option(
        None,
        "-o --output",
        "The new model's folder.",
        metavar="FOLDER",
        names="folder",
        instead="It is another place each time.",
        redeclares="it is a folder",
    )
    type: Literal["base", "float32"] = option(
        "base",
        "--type",
        "How numbers are stored: as the base has them, or in float32.",
        instead=ASKED,
        redeclares="other types are for other programs",
    )
    force: bool = OVERWRITE
