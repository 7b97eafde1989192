"""`connect` finds the server's model and gives the engine for it."""

from __future__ import annotations

from collections.abc import Iterator

from gptcli.engines.remote.client import (
    AT_START,
    NOT_NEEDED,
    Client,
    Endpoint,
    Patience,
    endpoint,
    models,
    patience_of,
)
from gptcli.engines.remote.engine import RemoteEngine
from gptcli.engines.remote.failures import (
    FAILURES,
    RUN_STATUSES,
    failure,
    is_unreachable,
    status_of,
)
from gptcli.engines.remote.retry import patiently
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load
from gptcli.protocol import ModelInfo

UNKNOWN_CONTEXT = 10**9  # tokens; where the server does not say, nothing is cut to fit


def connect(load: Load, places: int = 1, patience: Patience | None = None) -> RemoteEngine:
    """The engine for `load.server`, with up to `load.concurrency` or `places` requests in flight.

    The model is the one named, else the first that the server lists; a name is not checked here,
    because some servers list less than they have, and a list that fails is done without. Raises
    UsageError (a key that cannot be one, --offline) and Unavailable within seconds (unreachable,
    key refused, no model).
    """
    assert load.server is not None
    to = endpoint(load.server)
    if load.offline and not to.is_local:
        why = "it is not on this machine, and --offline forbids the network"
        raise UsageError("--server", why, "Leave one of them out.")
    there = _listed(to, named=load.model is not None)
    name = load.model or next(iter(there), None)
    if name is None:
        raise Unavailable(
            f"--server {to.url}", "it has no model", "Load one there, or name one: -m"
        )
    context = there.get(name)
    patience = patience or patience_of(load.server_timeout)
    notices = tuple(_unused(load))
    if context is None:
        notices += (f"the server does not say how long a text {name} can read: nothing is cut",)
    info = ModelInfo(
        name=name,
        revision=None,
        architecture="remote",
        context=context or UNKNOWN_CONTEXT,
        vocabulary=0,
        parameters=0,
        dtype="unknown dtype",
        device=to.url,
        notices=notices,
    )
    return RemoteEngine(to, info, tuple(there), load.concurrency or places, patience)


def _listed(to: Endpoint, named: bool) -> dict[str, int | None]:
    """The server's models with their contexts.

    Where a model is named the list is not needed, only its context: then a list that fails is
    empty, unless there is no connection or the key is refused.
    """
    patience = NOT_NEEDED if named else AT_START
    try:
        with Client(to, patience) as client:
            return client.wait_for(patiently(lambda: models(client), patience))
    except FAILURES as error:
        if named and not (is_unreachable(error) or status_of(error) == 401):
            return {}
        wrong = failure(error, to)
        if not named and status_of(error) not in RUN_STATUSES and not is_unreachable(error):
            hint = "Name a model, -m, to do without its list of models"
            raise Unavailable(wrong.what, wrong.why, f"{wrong.hint}. {hint}") from None
        raise wrong from None


def _unused(load: Load) -> Iterator[str]:
    """A notice for each flag that only a model on this machine obeys."""
    for flag, given in (
        ("--revision", load.revision is not None),
        ("--device", load.device != "auto"),
        ("--dtype", load.dtype not in ("auto", "float32")),  # `score` asks for float32 by itself
        ("--threads", load.threads is not None),
    ):
        if given:
            yield f"{flag} is not used: the model runs on the server"
