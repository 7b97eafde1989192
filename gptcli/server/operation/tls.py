"""TLS by files: a certificate with its chain, and its key."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from gptcli.errors import BadInput, MissingInput, UsageError
from gptcli.server.options import Serve
from gptcli.system.os_errors import reason


def tls_context(options: Serve) -> ssl.SSLContext | None:
    """The context for --tls-cert and --tls-key; None without them.

    Raises UsageError, MissingInput, and BadInput where the files do not fit together.
    """
    if options.tls_cert is None:
        if options.tls_key is not None:
            raise UsageError("--tls-key", "it needs --tls-cert", "Name the certificate as well")
        return None
    for path in (options.tls_cert, options.tls_key or options.tls_cert):
        _check_readable(path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        why = _why(error)
        hint = "Give a PEM certificate with --tls-cert and its key with --tls-key"
        raise BadInput(options.tls_cert, why, hint) from None
    return context


def _check_readable(path: str) -> None:
    try:
        with Path(path).open("rb") as stream:
            stream.read(1)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise MissingInput(path, why, "Check the path and its permissions") from None


def _no_password() -> NoReturn:
    raise ValueError("the key has a password, which a server cannot ask for")


def _why(error: Exception) -> str:
    told = getattr(error, "reason", None) or ""
    if told == "KEY_VALUES_MISMATCH":
        return "the certificate is not that of the key"
    if isinstance(error, ssl.SSLError):
        return f"no PEM certificate with its key ({told.lower().replace('_', ' ') or 'unreadable'})"
    return str(error)
