"""The socket that the server listens at. It is bound before the model is loaded."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from gptcli.errors import CannotCreate, Unavailable, UsageError
from gptcli.server.options import Serve
from gptcli.system.os_errors import reason

BACKLOG = 2048  # connections that the system keeps for us


def listen(options: Serve) -> socket.socket:
    """A bound and listening socket. Raises Unavailable, CannotCreate, UsageError."""
    return _at_path(options.uds) if options.uds is not None else _at_port(options)


def address(listening: socket.socket, tls: bool = False) -> str:
    """What clients are told, such as http://127.0.0.1:8000."""
    scheme = "https" if tls else "http"
    if listening.family == getattr(socket, "AF_UNIX", None):
        return f"{scheme}+unix://{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def unlisten(listening: socket.socket, options: Serve) -> None:
    """Close it; the file of a UNIX socket goes as well."""
    listening.close()
    if options.uds is not None:
        with suppress(OSError, ValueError):
            Path(options.uds).unlink()


def _at_port(options: Serve) -> socket.socket:
    where = f"{options.host}:{options.port}"
    try:
        found = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise UsageError("--host", f"{options.host!r} is no address: {error}", "") from None
    family, kind, protocol, _, at = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let another program in
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(at)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            hint = "Choose another with --port, or 0 for a free one"
            raise Unavailable(where, "another program listens there", hint) from None
        raise Unavailable(where, reason(error), "Choose another with --host and --port") from None
    return listening


def _at_path(path: str) -> socket.socket:
    """A socket in the file system, for this user alone; one that nobody serves is replaced."""
    if not hasattr(socket, "AF_UNIX"):
        raise UsageError("--uds", "this system has no UNIX sockets", "Use --port")
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(path)
        listening.listen(BACKLOG)
    except (OSError, ValueError) as error:
        listening.close()
        why = reason(error) if isinstance(error, OSError) and error.errno else str(error)
        raise CannotCreate(path, why, "Choose another path with --uds") from None
    finally:
        os.umask(before)
    return listening


def _remove_stale(path: str) -> None:
    """Raises Unavailable where somebody serves there, CannotCreate for what is no socket."""
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise CannotCreate(path, "it exists, and is no socket", "Choose another path")
    except (FileNotFoundError, ValueError):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            with suppress(OSError):
                Path(path).unlink()
            return
    raise Unavailable(path, "another program listens there", "Choose another path with --uds")
