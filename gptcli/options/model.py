"""Options that choose the model, its device and data type."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptcli.errors import UsageError
from gptcli.options.shared import OFFLINE, REVISION
from gptcli.options.spec import Options, option

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]
MAX_SCALE = 100  # of an adapter


def check_url(url: str) -> None:
    """Raises UsageError for a URL that cannot be an endpoint; never shows a password."""
    from urllib.parse import urlsplit

    hint = "Give an address such as http://localhost:8000/v1."
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # reading the port parses it
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


def parse_adapter(text: str) -> tuple[str, float]:
    """Split `FOLDER[=SCALE]`: a folder, or a Hub id. Raises UsageError.

    A folder that is there by the whole text has no scale.
    """
    name, equals, number = text.rpartition("=")
    with suppress(OSError, ValueError):  # a name too long, a NUL
        if not equals or Path(text).is_dir():
            name, equals, number = text, "", "1"
    try:
        scale = float(number)
    except ValueError:
        scale = math.nan
    if not name or not abs(scale) <= MAX_SCALE:
        hint = f"Give FOLDER=SCALE with a SCALE from -{MAX_SCALE} to {MAX_SCALE}, such as 0.5."
        raise UsageError("--adapter", f"{text[:200]!r} is not FOLDER[=SCALE]", hint)
    return name, scale


def check_adapters(given: tuple[str, ...]) -> None:
    """Raises UsageError for a value of `--adapter` that cannot be one."""
    for text in given:
        parse_adapter(text)


def same_server(one: str, other: str) -> bool:
    """Whether two URLs of endpoints are one: case of the host and a last slash mean nothing."""
    return _parts(one) == _parts(other)


def _parts(url: str) -> tuple[object, ...]:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname, port, parts.path.rstrip("/"), parts.query
    except ValueError:
        return (url,)


@dataclass(frozen=True, kw_only=True)
class Load(Options):
    """Which model runs, on which device and in which data type."""

    panel = "Model"

    model: str | None = option(
        None,
        "-m --model",
        "Folder, Hub id or gpt2, medium, large, xl, distil, tiny-tales.",
        names="model",
        shown_default="gpt2 or tiny-tales",
    )
    adapter: tuple[str, ...] = option(
        (),
        "--adapter",
        "LoRA adapter to apply; several add up.",
        metavar="FOLDER[=SCALE]",
        rare=True,
        check=check_adapters,
        names="folder",
    )
    revision: str | None = REVISION
    device: Device = option("auto", "--device", "Device to run on.")
    dtype: Dtype = option(
        "auto",
        "--dtype",
        "Data type of the weights. auto is 16-bit, for small models on a CPU float32. int8 needs a"
        " CPU.",
    )
    threads: int | None = option(
        None,
        "--threads",
        "Number of CPU threads.",
        low=1,
        high=1024,
        shown_default="all cores",
        rare=True,
    )
    offline: bool = OFFLINE
    prefix_cache: bool = option(
        True,
        "--prefix-cache/--no-prefix-cache",
        "Compute once what several prompts begin with.",
        rare=True,
    )
    draft: Literal["ngram", "off"] = option(
        "ngram",
        "--draft",
        "Speculative decoding: draft tokens from the text so far, verify them in one step. The"
        " output is unchanged. It switches itself off where it does not pay.",
        rare=True,
    )
    draft_model: str | None = option(
        None,
        "--draft-model",
        "Draft with a smaller model that has the same tokens.",
        names="model",
        rare=True,
    )
    server: str | None = option(
        None,
        "--server",
        "OpenAI-compatible endpoint: http://host:8000/v1.",
        metavar="URL",
        check=check_url,
    )
    concurrency: int | None = option(
        None,
        "--concurrency",
        "How many requests are sent to the --server at once.",
        low=1,
        high=1024,
        shown_default="--batch-size",
        needs="server",
        rare=True,
    )
    server_timeout: float | None = option(
        None,
        "--server-timeout",
        "Seconds that the --server may take until its text begins, and between two tokens.",
        low=1,
        high=10**6,
        shown_default="600",
        needs="server",
        rare=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapter and self.server is not None:
            why = "the --server has its own weights, which nothing here can change"
            raise UsageError("--adapter", why, "Leave it out, or run the model here.")


@dataclass(frozen=True, kw_only=True)
class Network(Options):
    """Whether the network may be used."""

    panel = "Model"

    offline: bool = OFFLINE


@dataclass(frozen=True, kw_only=True)
class HubSource(Network):
    """Which revision of a Hub model, and whether the network may be used."""

    revision: str | None = REVISION
