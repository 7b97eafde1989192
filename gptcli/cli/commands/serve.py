"""`gptcli serve`: the model for OpenAI's clients, over HTTP."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from gptcli.cli import signals
from gptcli.cli.output import stderr
from gptcli.cli.recording import recording
from gptcli.cli.session import Session
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load, Record, Talk
from gptcli.options.moderation import ModeratedLoad
from gptcli.server.operation.access_log import AccessLog
from gptcli.server.operation.listening import address, listen, unlisten
from gptcli.server.options import Serve

if TYPE_CHECKING:
    from gptcli.protocol import Engine
    from gptcli.server.operation.guard import Access
    from gptcli.server.service import Service, ServiceLimits


def serve(*, serve: Serve, load: ModeratedLoad, record: Record, talk: Talk) -> None:
    """Serve a model to OpenAI's clients, over HTTP, and a page to write with it.

    Routes: /v1/completions, /v1/chat/completions, /v1/models and more; see gptcli docs server.
    """
    session = Session.of(talk)
    if load.server is not None:
        raise UsageError("--server", "serve runs the model here", "Leave it out.")
    if serve.runner == "local":
        _check_installed("serve", "starlette", "uvicorn")
        number = _here(serve, load, record, session)
    else:
        number = _on_ray(serve, load, record, session)
    if number is not None:
        signals.die(number)


def _here(serve: Serve, load: Load, record: Record, session: Session) -> int | None:
    """Serve in this process; gives the signal that ended it."""
    from gptcli.server.operation.running import Ending, run
    from gptcli.server.operation.tls import tls_context

    tls, access = tls_context(serve), _access(serve, session)
    with (
        _listening(serve) as listening,
        _log(serve, session) as log,
        recording(record, "serve", load) as watch,
    ):
        engine = session.open_engine(load, serve.batch_size, watch=watch)
        from gptcli.server.app import application, guarded

        service = _service(engine, serve)
        where = address(listening, tls is not None)
        return run(
            guarded(application(service), service, access, log.write if log else None),
            service,
            listening,
            Ending(drain_seconds=serve.drain_timeout, at_once=signals.die),
            lambda: session.note(_told(engine.info.name, where)),
            tls,
        )


def _on_ray(serve: Serve, load: Load, record: Record, session: Session) -> int:
    """Serve on a Ray cluster; gives the signal that ended it."""
    if record.record is not None:
        why = "it does not go with --runner ray: replicas on other machines write the texts"
        raise UsageError("--record", why, "Leave it out, or serve without --runner.")
    _check_installed("ray", "ray", "starlette", "uvicorn")
    from gptcli.server.cluster.serving import ServeProgram, run
    from gptcli.server.operation.running import Ending
    from gptcli.server.operation.tls import tls_context

    tls_context(serve)  # refuses files that are none
    program = ServeProgram(
        note=session.note,
        ending=Ending(drain_seconds=serve.drain_timeout, at_once=signals.die),
        verbose=session.talk.verbose,
    )
    return run(serve, load, _limits(serve), _access(serve, session), program)


def _told(model: str, where: str) -> str:
    page = "" if "unix" in where else f"; the page is at {where}/"
    return f"{model} is served at {where}/v1{page}"


def _service(engine: Engine, serve: Serve) -> Service:
    from gptcli.server.service import Service

    service = Service.of(engine, _limits(serve))
    service.tokenizer_info = serve.tokenizer_info
    return service


def _limits(serve: Serve) -> ServiceLimits:
    from gptcli.server.service import ServiceLimits

    return ServiceLimits(
        queued_requests=serve.max_queued_requests,
        queued_tokens=serve.max_queued_tokens,
        seconds=serve.request_timeout,
        stall_seconds=serve.stall_timeout,
    )


def _access(serve: Serve, session: Session) -> Access:
    """Who may ask. Raises MissingInput and BadInput for the file of keys."""
    from gptcli.server.operation.guard import Access
    from gptcli.server.operation.keys import Keys, read_keys
    from gptcli.server.operation.origins import Hosts, Origins

    keys = Keys() if serve.api_key_file is None else read_keys(serve.api_key_file, session.note)
    if not keys and serve.uds is None and not _is_loopback(serve.host):
        session.note(f"everyone who reaches {serve.host} may use it; see --api-key-file")
    return Access(
        keys=keys,
        hosts=Hosts.of(serve.host if serve.uds is None else None, serve.allowed_host),
        origins=Origins(serve.cors_origin),
        body_bytes=serve.max_body * 10**6,
    )


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    return host.lower() == "localhost"


@contextmanager
def _listening(serve: Serve) -> Iterator[socket.socket]:
    listening = listen(serve)
    try:
        yield listening
    finally:
        unlisten(listening, serve)


@contextmanager
def _log(serve: Serve, session: Session) -> Iterator[AccessLog | None]:
    """The access log, if there is one; and failures are said from here on."""
    from gptcli.server.operation.complaints import complain

    complain(session.error, stderr.say_lines if session.talk.debug else None)
    log = None if serve.access_log is None else AccessLog(serve.access_log, session.error)
    try:
        yield log
    finally:
        if log is not None:
            log.close()


def _check_installed(extra: str, *packages: str) -> None:
    """Raise Unavailable where a package of an extra is not installed."""
    from importlib.util import find_spec

    for package in packages:
        if find_spec(package) is None:
            why = f"it needs {package}, which is not installed"
            raise Unavailable("gptcli serve", why, f"Run: pip install 'gptcli[{extra}]'")
