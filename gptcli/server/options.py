"""Options of `gptcli serve`."""

from __future__ import annotations

from dataclasses import dataclass

from gptcli.options.shared import BATCH_SIZE
from gptcli.options.spec import Options, option


@dataclass(frozen=True, kw_only=True)
class Serve(Options):
    """Where the server listens, and what it takes on."""

    panel = "Server"

    host: str = option(
        "127.0.0.1", "--host", "Address to listen at; 0.0.0.0 is all of this machine's."
    )
    port: int = option(
        8000, "--port", "Port to listen at; 0 takes a free one and says it.", low=0, high=65535
    )
    uds: str | None = option(
        None,
        "--uds",
        "Listen at a UNIX socket instead.",
        metavar="PATH",
        names="file",
    )
    batch_size: int = BATCH_SIZE
    max_queued_requests: int = option(
        256,
        "--max-queued-requests",
        "Refuse a request (429) while so many wait.",
        low=0,
        high=10**6,
    )
    max_queued_tokens: int = option(
        262_144,
        "--max-queued-tokens",
        "Refuse a request (429) where the prompts that wait would have more tokens.",
        low=1,
        high=10**9,
        rare=True,
    )
    request_timeout: float = option(
        600.0,
        "--request-timeout",
        "Seconds that a request may take, waiting included.",
        above=0,
        high=10**6,
        rare=True,
    )
    drain_timeout: float = option(
        30.0,
        "--drain-timeout",
        "At the end, seconds for the answers that are being written.",
        low=0,
        high=10**6,
        rare=True,
    )
    tokenizer_info: bool = option(
        False,
        "--tokenizer-info",
        "Tell clients of the tokenizer at /tokenizer_info; lm-eval then tokenizes by the server.",
        rare=True,
    )
