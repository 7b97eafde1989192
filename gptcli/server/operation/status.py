"""What supervisors ask: is it alive, may it get requests, which version, what was counted.

The event loop answers, while the engine computes.
"""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from gptcli import __version__
from gptcli.server.metrics import CONTENT_TYPE
from gptcli.server.responses import send_body, send_json
from gptcli.server.service import Service

FRESH = {"cache-control": "no-store"}


async def health(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """GET /health: 200 while the engine works, 503 once it has ended or does not step."""
    engine, trouble = service.engine, service.trouble
    found = {
        "status": trouble or ("draining" if service.draining else "ok"),
        "stalled_seconds": round(engine.stalled, 3),
        "running": engine.running,
        "waiting": engine.queued,
        "engine_failures": engine.failures,
    }
    await send_json(send, found, 503 if trouble else 200, FRESH)


async def ready(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """GET /ready: 503 where new requests are better sent elsewhere."""
    why_not = service.trouble or ("draining" if service.draining else None)
    await send_json(send, {"status": why_not or "ready"}, 503 if why_not else 200, FRESH)


async def version(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """GET /version."""
    await send_json(send, {"version": __version__})


async def metrics(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    """GET /metrics."""
    engine = service.engine
    gauges = {
        "requests_running": ("Requests that the engine has begun.", engine.running),
        "requests_waiting": ("Requests that the engine has not begun.", engine.queued),
        "tokens_waiting": ("About how many tokens their prompts have.", engine.queued_tokens),
        "http_requests_active": ("Requests that are not answered yet.", service.active),
        "engine_up": ("1 while the engine's thread works.", int(engine.alive)),
        "engine_failures": ("Failures of the engine since the start.", engine.failures),
        "engine_stalled_seconds": ("Seconds since a step while work waits.", engine.stalled),
        "draining": ("1 once the server is about to stop.", int(service.draining)),
        "start_time_seconds": ("When the server began, in UNIX time.", service.created),
    }
    info = {"version": __version__, "model": service.name, "dtype": service.info.dtype}
    text = service.metrics.text(gauges, info)
    await send_body(send, text.encode(), CONTENT_TYPE, headers=FRESH)
