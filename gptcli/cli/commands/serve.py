"""`gptcli serve`: the model for OpenAI's clients, over HTTP."""

from __future__ import annotations

from gptcli.cli.recording import recording
from gptcli.cli.session import Session
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load, Record, Talk
from gptcli.server.operation.listening import address, listen
from gptcli.server.options import Serve


def serve(*, serve: Serve, load: Load, record: Record, talk: Talk) -> None:
    """Serve a model over HTTP, for OpenAI's clients, and a page to write with it.

    Routes: /v1/completions, /v1/chat/completions, /v1/models and more; see gptcli docs server.
    """
    session = Session.of(talk)
    if load.server is not None:
        raise UsageError("--server", "serve runs the model here", "Leave it out.")
    _check_installed()
    listening = listen(serve)
    with listening, recording(record, "serve", load) as watch:
        engine = session.open_engine(load, serve.batch_size, watch=watch)
        from gptcli.server.operation.running import run
        from gptcli.server.service import Service, ServiceLimits

        limits = ServiceLimits(
            queued_requests=serve.max_queued_requests,
            queued_tokens=serve.max_queued_tokens,
            seconds=serve.request_timeout,
        )
        where = address(listening)
        service = Service.of(engine, limits)
        service.tokenizer_info = serve.tokenizer_info
        run(
            service,
            listening,
            serve,
            lambda: session.note(f"{engine.info.name} is served at {where}/v1"),
        )


def _check_installed() -> None:
    """Raise Unavailable where the extra is not installed."""
    from importlib.util import find_spec

    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            why = f"it needs {package}, which is not installed"
            raise Unavailable("gptcli serve", why, "Run: pip install 'gptcli[serve]'")
