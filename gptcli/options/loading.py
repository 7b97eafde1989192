"""Which model runs, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptcli.errors import UsageError
from gptcli.specs import Options, option

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]


@dataclass(frozen=True, kw_only=True)
class Load(Options):
    """Which model runs, and on what."""

    panel = "Model"

    model: str | None = option(
        None,
        "-m --model",
        "Folder, Hub id, or one of gpt2, medium, large, xl, distil, tiny-tales."
        " Without it: gpt2, or the bundled tiny-tales where gpt2 cannot be had.",
        names="model",
    )
    revision: str | None = option(None, "--revision", "Branch, tag or commit of a Hub model.")
    device: Device = option("auto", "--device", "Where to compute.")
    dtype: Dtype = option(
        "auto",
        "--dtype",
        "Numbers of the weights. auto is 16-bit, but float32 for small models on a CPU;"
        " int8, on a CPU only, halves them again, for large models, and changes the text a little.",
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
    draft: Literal["ngram", "off"] = option(
        "ngram",
        "--draft",
        "Guess the next tokens from the text so far, and check them in one step; the text stays"
        " what it is. It is left off by itself where it does not pay.",
    )
    draft_model: str | None = option(
        None,
        "--draft-model",
        "Let a smaller model with the same tokens guess instead.",
        names="model",
    )
    server: str | None = option(
        None,
        "--server",
        "OpenAI-compatible endpoint that runs the model, such as http://localhost:8000/v1.",
        metavar="URL",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server is not None:
            _check_url(self.server)


@dataclass(frozen=True, kw_only=True)
class Network(Options):
    """Whether the network may be used."""

    panel = "Model"

    offline: bool = option(False, "--offline", "Never use the network.")


@dataclass(frozen=True, kw_only=True)
class Source(Network):
    """Which version of a model of the Hub, and whether the Hub may be asked."""

    revision: str | None = option(None, "--revision", "Branch, tag or commit of a Hub model.")


def _check_url(url: str) -> None:
    """Raises UsageError for what is no address of an endpoint; never shows a password."""
    from urllib.parse import urlsplit

    hint = "Give an address such as http://localhost:8000/v1."
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # the port is parsed only when it is asked for
    except ValueError as error:
        raise UsageError("--server", f"it is no URL ({error})", hint) from None
    if "@" in parts.netloc:
        hint = "Take the name and the password out; a key goes into GPTCLI_API_KEY."
        raise UsageError("--server", "the URL holds credentials", hint)
    if parts.scheme not in ("http", "https"):
        raise UsageError("--server", f"{url!r} does not begin with http:// or https://", hint)
    if not host or not url.isprintable() or " " in url:
        raise UsageError("--server", f"{url!r} names no host", hint)
    if parts.query or parts.fragment:
        raise UsageError("--server", f"{url!r} goes on after the path", hint)
