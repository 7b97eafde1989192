"""Options of `gptcli train`: what is learned from, what is trained, how, and what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.errors import UsageError
from gptcli.options.model import Device
from gptcli.options.shared import ASKED, OFFLINE, OVERWRITE, REVISION
from gptcli.options.spec import Options, option
from gptcli.training.data.options import TrainingData
from gptcli.training.settings import OptimizerName, Schedule

Preset = Literal["tiny", "small", "gpt2"]


@dataclass(frozen=True, kw_only=True)
class TrainedModel(Options):
    """Where the weights come from, and which of them are trained."""

    panel = "Model"

    from_: str | None = option(
        None,
        "--from",
        "Fine-tune this model: a folder, a Hub id, or gpt2, medium, large, xl, distil, tiny-tales.",
        names="model",
        shown_default="gpt2 or tiny-tales",
        instead=ASKED,
    )
    revision: str | None = REVISION
    scratch: Preset | None = option(
        None,
        "--scratch",
        "Pre-train a new model in place of --from: tiny (4 layers of 128, context 256), small (6 of"
        " 384, context 512) or gpt2 (12 of 768, context 1024).",
    )
    recipe: str | None = option(
        None,
        "--recipe",
        "Take options from a recipe: tiny-tales, or a TOML file of them; flags win.",
        metavar="NAME",
        names="file",
        instead="Write its options into the table [train].",
    )
    layers: int | None = option(None, "--layers", "Layers of the new model.", low=1, high=1000)
    width: int | None = option(None, "--width", "Width of the new model.", low=1, high=10**5)
    heads: int | None = option(
        None, "--heads", "Attention heads of the new model.", low=1, high=1000
    )
    context: int | None = option(
        None,
        "--context",
        "Longest sequence in tokens.",
        low=2,
        high=10**6,
        shown_default="the model's",
        redeclares="a new model's own, or the length of what is learned at a time",
    )
    tokenizer: str | None = option(
        None,
        "--tokenizer",
        "Tokenizer of the new model: a folder or a model's name.",
        names="model",
        shown_default="one is trained on the data",
        rare=True,
    )
    vocab_size: int | None = option(
        None,
        "--vocab-size",
        "Tokens of the tokenizer that is trained.",
        low=257,
        high=10**6,
        shown_default="4096",
        rare=True,
    )
    lora: bool = option(
        False, "--lora", "Train low-rank adapters (LoRA) and keep the model as it is."
    )
    lora_rank: int = option(
        8, "--lora-rank", "Rank of the adapters.", low=1, high=4096, needs="lora", rare=True
    )
    lora_alpha: float | None = option(
        None,
        "--lora-alpha",
        "Their scale is alpha / rank.",
        above=0,
        high=10**6,
        needs="lora",
        shown_default="twice the rank",
        rare=True,
    )
    lora_targets: tuple[str, ...] = option(
        (),
        "--lora-target",
        "A matrix that gets an adapter: c_attn, attn.c_proj, c_fc, mlp.c_proj, or all; repeatable.",
        metavar="NAME",
        needs="lora",
        shown_default="c_attn",
        rare=True,
    )
    freeze: int = option(
        0,
        "--freeze",
        "Leave the embeddings and so many first layers as they are.",
        low=0,
        high=1000,
        rare=True,
    )
    dropout: float = option(0.0, "--dropout", "Dropout while training.", low=0, high=0.9, rare=True)
    device: Device = option("auto", "--device", "Device to train on.", redeclares="it trains")
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto",
        "--precision",
        "Data type of the products; weights stay in float32. auto is bfloat16 where the processor"
        " is fast in it.",
        rare=True,
    )
    threads: int | None = option(
        None,
        "--threads",
        "Number of CPU threads.",
        low=1,
        high=1024,
        shown_default="all cores",
        redeclares="they may change the last bits of the weights",
        rare=True,
    )
    compile: bool = option(
        False,
        "--compile",
        "Compile the layers: minutes at the first step, faster after it. It needs a GPU.",
        rare=True,
    )
    offline: bool = OFFLINE


@dataclass(frozen=True, kw_only=True)
class Optimization(Options):
    """How the weights are changed, and how long."""

    panel = "Training"

    epochs: float | None = option(
        None,
        "--epochs",
        "How often the data is read.",
        above=0,
        high=10**6,
        shown_default="3, if no limit is given",
    )
    steps: int | None = option(
        None,
        "--steps",
        "Steps of the optimizer.",
        low=1,
        high=10**9,
        redeclares="they are no steps of an attribution",
    )
    minutes: float | None = option(
        None, "--minutes", "Longest time, in minutes.", above=0, high=10**6
    )
    batch_tokens: int | None = option(
        None,
        "--batch-tokens",
        "Tokens of a step.",
        low=1,
        high=10**9,
        shown_default="8 contexts, or a 20th of a small text",
        rare=True,
    )
    micro_tokens: int | None = option(
        None,
        "--micro-tokens",
        "Tokens computed at a time; the result does not depend on it.",
        low=1,
        high=10**9,
        shown_default="what fits into memory",
        rare=True,
    )
    learning_rate: float | None = option(
        None,
        "--learning-rate --lr",
        "Greatest learning rate.",
        above=0,
        high=100,
        shown_default="5e-5 to fine-tune, 2e-4 for --lora, 1e-3 from scratch",
    )
    schedule: Schedule = option(
        "cosine",
        "--schedule",
        "How the rate falls after warm-up; wsd: late, in a straight line.",
        rare=True,
    )
    warmup: int | None = option(
        None,
        "--warmup",
        "Steps until the greatest rate.",
        low=0,
        high=10**9,
        shown_default="a 20th of the steps, 100 at most",
        rare=True,
    )
    decay_from: float = option(
        0.4,
        "--decay-from",
        "With wsd: the share of steps after which the rate falls.",
        low=0,
        high=0.99,
        rare=True,
    )
    weight_decay: float = option(
        0.1,
        "--weight-decay",
        "Of matrices, not of biases and layer norms.",
        low=0,
        high=10,
        rare=True,
    )
    clip: float = option(
        1.0, "--clip", "Greatest norm of the gradient; 0 is no limit.", low=0, high=10**6, rare=True
    )
    optimizer: OptimizerName = option(
        "adamw",
        "--optimizer",
        "muon: Muon for the layers' matrices, AdamW for the rest.",
        rare=True,
    )
    seed: int = option(
        0,
        "--seed",
        "Of the order, the new weights, dropout and samples.",
        low=0,
        high=2**31 - 1,
        redeclares="none is drawn: the same command gives the same weights",
    )


@dataclass(frozen=True, kw_only=True)
class TrainingProgress(Options):
    """What is measured, kept and shown while it trains."""

    panel = "Progress"

    output: str | None = option(
        None,
        "-o --output",
        "Folder of the model that is made.",
        metavar="FOLDER",
        names="file",
        redeclares="it is a folder, and it is needed",
    )
    eval_every: int | None = option(
        None,
        "--eval-every",
        "Steps between validations.",
        low=1,
        high=10**9,
        shown_default="a 20th of the steps",
        rare=True,
    )
    save_every: int | None = option(
        None,
        "--save-every",
        "Steps between checkpoints.",
        low=1,
        high=10**9,
        shown_default="at each validation, and every 10 minutes",
        rare=True,
    )
    keep: int = option(
        1, "--keep", "Checkpoints kept beside the best and the last.", low=0, high=1000, rare=True
    )
    patience: int | None = option(
        None,
        "--patience",
        "End after so many validations without a better loss.",
        low=1,
        high=10**6,
    )
    sample_every: int | None = option(
        None,
        "--sample-every",
        "Steps between sample texts; 0 is none.",
        low=0,
        high=10**9,
        shown_default="at each validation",
        rare=True,
    )
    sample_prompt: tuple[str, ...] = option(
        (),
        "--sample-prompt",
        "Begin a sample with this; repeatable.",
        metavar="TEXT",
        shown_default="the end token",
    )
    tensorboard: bool = option(False, "--tensorboard", "Write events for TensorBoard.", rare=True)
    wandb: str | None = option(
        None, "--wandb", "Log to this project of Weights & Biases.", metavar="PROJECT", rare=True
    )
    force: bool = OVERWRITE
    dry_run: bool = option(
        False,
        "--dry-run",
        "Measure a few steps, show the plan, and stop.",
        redeclares="what it shows is another thing",
    )
    shard: bool = option(
        False,
        "--shard",
        "Split weights and optimizer over the processes (FSDP), for models that do not fit.",
        rare=True,
    )


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """All groups of a run."""

    data: tuple[str, ...]
    reading: TrainingData
    model: TrainedModel
    optimization: Optimization
    following: TrainingProgress

    def __post_init__(self) -> None:
        if self.model.from_ is not None and self.model.scratch is not None:
            raise UsageError("--scratch", "it excludes --from", "Leave one of them out.")
        if self.following.dry_run and self.following.force:
            why = "a rehearsal leaves the run that is there alone"
            raise UsageError("--force", why, "Leave it out, or name another folder with -o.")
