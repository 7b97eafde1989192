"""Which model runs, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.specs import Options, option

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class Load(Options):
    """Which model runs, and on what."""

    panel = "Model"

    model: str | None = option(
        None,
        "-m --model",
        "Folder, Hub id, or one of gpt2, medium, large, xl, distil, tiny-tales."
        " Without it: gpt2, or the bundled tiny-tales where gpt2 cannot be had.",
    )
    revision: str | None = option(None, "--revision", "Branch, tag or commit of a Hub model.")
    device: Device = option("auto", "--device", "Where to compute.")
    dtype: Dtype = option(
        "auto", "--dtype", "Number format; auto is float32 on a CPU and 16-bit on a GPU."
    )
    threads: int | None = option(
        None, "--threads", "CPU threads; all cores by default.", low=1, high=1024
    )
    offline: bool = option(False, "--offline", "Never use the network.")
    prefix_cache: bool = option(
        True,
        "--prefix-cache/--no-prefix-cache",
        "Compute once what several prompts begin with.",
    )
