"""Options of `gptcli serve`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gptcli.errors import UsageError
from gptcli.options.shared import ADDRESS, BATCH_SIZE, RUNNER, Runs
from gptcli.options.spec import Options, option

HOST = re.compile(r"(\*\.)?[\w-]+(\.[\w-]+)*\.?", re.ASCII)
ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[^/?#\s*@]+", re.ASCII)

NOT_ON_RAY = {
    "--uds": "Ray Serve listens at a port",
    "--access-log": "each replica would write its own, on its node",
}


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
    stall_timeout: float = option(
        120.0,
        "--stall-timeout",
        "Seconds without a step of the engine after which /health says 503.",
        above=0,
        high=10**6,
        rare=True,
    )
    max_body: int = option(
        8,
        "--max-body",
        "Megabytes that the body of a request may have; 413 above.",
        low=1,
        high=2000,
        rare=True,
    )
    api_key_file: str | None = option(
        None,
        "--api-key-file",
        "Ask clients for a key: one of this file, which has one a line.",
        metavar="FILE",
        names="file",
    )
    allowed_host: tuple[str, ...] = option(
        (),
        "--allowed-host",
        "Answer to this name as well; repeatable; * is any name.",
        metavar="NAME",
    )
    cors_origin: tuple[str, ...] = option(
        (),
        "--cors-origin",
        "Let pages of this origin use the server; repeatable; * is any page.",
        metavar="ORIGIN",
    )
    access_log: str | None = option(
        None,
        "--access-log",
        "Log each request as a line of JSON, without its text; - is standard output.",
        metavar="FILE",
        names="file",
    )
    tls_cert: str | None = option(
        None, "--tls-cert", "Serve HTTPS with this certificate.", metavar="FILE", names="file"
    )
    tls_key: str | None = option(
        None,
        "--tls-key",
        "The certificate's key, where its file does not have it.",
        metavar="FILE",
        names="file",
        needs="tls_cert",
    )
    runner: Runs = RUNNER
    replicas: int | None = option(
        None,
        "--replicas",
        "Engines on the Ray cluster.",
        shown_default="one for each GPU, else for each node",
        needs="runner",
        low=1,
        high=10_000,
        rare=True,
    )
    address: str | None = ADDRESS

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_runner()
        for name in self.allowed_host:
            if name != "*" and not HOST.fullmatch(name):
                raise UsageError("--allowed-host", f"{name!r} is no name", "Give it without a port")
        for origin in self.cors_origin:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                hint = "Give it as a browser does: https://example.com, without a path"
                raise UsageError("--cors-origin", f"{origin!r} is no origin", hint)

    def _check_runner(self) -> None:
        """Raise UsageError for what goes with one of the runners only."""
        if self.runner == "ray":
            for flag, given in (("--uds", self.uds), ("--access-log", self.access_log)):
                if given is not None:
                    why = f"it does not go with --runner ray: {NOT_ON_RAY[flag]}"
                    raise UsageError(flag, why, "Leave it out; a reverse proxy in front has it.")
        elif self.replicas is not None:
            raise UsageError("--replicas", "they are Ray's", "Add --runner ray.")
        elif self.address is not None:
            raise UsageError("--address", "it is Ray's", "Add --runner ray.")
