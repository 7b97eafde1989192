"""The server on a Ray cluster: replicas are started, watched until a signal comes, and ended.

The entrance, Ray Serve's HTTP proxy, is on the head of the cluster and listens where it was asked
to. It sends a request to one of the two replicas that it picks with fewer requests under way. A
replica that is lost is started again, on another node if need be: each asks for half of the
processors that it uses. Not here: what a replica does is in `gptcli.server.cluster.replica`.
"""

from __future__ import annotations

import importlib
import logging
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from gptcli import __version__
from gptcli.checkpoints.resolve import Progress
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load
from gptcli.ray_cluster import Pool, alive, arranged, connected, findable, first_line
from gptcli.server.cluster.replica import Doorway, Replica, ReplicaOrders
from gptcli.server.operation.guard import Access
from gptcli.server.operation.listening import address, listen
from gptcli.server.operation.running import KEEP_ALIVE_SECONDS, SIGNALS, Ending
from gptcli.server.options import Serve
from gptcli.server.service import ServiceLimits
from gptcli.system.units import counted

NAME = "gptcli"  # of the application and its deployment, as Ray shows them
HEALTH_SECONDS = 2.0  # between two looks at a replica
HEALTH_LIMIT = 30.0  # seconds that it may take to answer
LOOK_SECONDS = 2.0  # between two looks at the cluster
ROOM = 64  # requests beside those that run and wait: /health, and those that are refused
END_SECONDS = 10.0  # that Ray may take beyond the drain
# Else the entrance sends all to the replica beside it until that is full, and the others are idle.
EVENLY = {"RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0"}
AGAIN = "Start the server again."
OURS = re.compile(r"gptcli\.errors\.\w+: ?(.+)")


@dataclass(frozen=True, kw_only=True)
class ServeProgram:
    """What the command gives: notices, and how it ends."""

    note: Callable[[str], None]
    ending: Ending
    verbose: bool = False
    progress: Progress = None


def run(
    options: Serve, load: Load, limits: ServiceLimits, access: Access, program: ServeProgram
) -> int:
    """Serve on a cluster until a signal comes, and return it.

    Raises as `connected` and `findable`; Unavailable where the cluster has no room, Ray Serve runs
    there for somebody else, or the replicas cannot be started.
    """
    load, called = findable(load, program.progress)
    with connected(options.address, program.verbose, "serve", EVENLY) as ray:
        serve: Any = importlib.import_module("ray.serve")
        logging.getLogger("ray.serve").propagate = program.verbose
        nodes = alive(ray)
        _check_place(ray, nodes, options.address)
        _check_free(serve)
        pool = arranged([node["Resources"] for node in nodes], load, options.replicas)
        _check_room(pool, [node["Resources"] for node in nodes])
        orders = ReplicaOrders(
            load=replace(load, threads=pool.threads),
            called=called,
            batch_size=options.batch_size,
            limits=limits,
            access=access,
            tokenizer_info=options.tokenizer_info,
            version=__version__,
        )
        where = _entrance(serve, options, program.verbose)
        with _signalled(program.ending) as stop:
            try:
                app = _application(serve, orders, pool, options)
                return _served(serve, app, f"{called} is served at {where}/v1", stop, program)
            finally:
                _end(serve, options.drain_timeout)


def _check_place(ray: Any, nodes: list[dict[str, Any]], where: str | None) -> None:
    """Raise UsageError on a machine that is not the cluster's head."""
    head = [one for one in nodes if "node:__internal_head__" in one["Resources"]]
    here = ray.util.get_node_ip_address()
    if head and head[0]["NodeManagerAddress"] not in (here, "127.0.0.1"):
        why = f"the server listens at the cluster's head, and this is {here}"
        raise UsageError("--address", why, f"Run it at {head[0]['NodeManagerAddress']}.")


def _check_free(serve: Any) -> None:
    """Raise Unavailable where Ray Serve runs already: a cluster has one entrance."""
    if found := serve.status().proxies:
        why = f"Ray Serve runs on this cluster already, with {counted(len(found), 'entrance')}"
        raise Unavailable("--runner ray", why, "End it: serve shutdown. Or take another cluster.")


def _check_room(pool: Pool, nodes: list[dict[str, float]]) -> None:
    """Raise Unavailable for more replicas than the cluster holds: Ray would wait for ever."""
    kind, each = ("GPU", float(pool.gpus)) if pool.gpus else ("CPU", pool.cpus)
    room = sum(int(node.get(kind, 0) / each) for node in nodes)
    if pool.count > room:
        why = f"the cluster has room for {room}"
        raise Unavailable(f"--replicas {pool.count}", why, "Ask for fewer, or add nodes.")


def _entrance(serve: Any, options: Serve, verbose: bool) -> str:
    """Start Ray Serve with its entrance; gives its address. Raises as `listen`."""
    listening = listen(options)  # so that a port that is taken is said as ever, and 0 is a free one
    port, where = listening.getsockname()[1], address(listening, options.tls_cert is not None)
    listening.close()
    http = {"host": options.host, "port": port, "keep_alive_timeout_s": KEEP_ALIVE_SECONDS}
    if options.tls_cert is not None:
        http |= {
            "ssl_certfile": options.tls_cert,
            "ssl_keyfile": options.tls_key or options.tls_cert,
        }
    logs = None if verbose else {"log_level": "CRITICAL", "enable_access_log": False}
    serve.start(proxy_location="HeadOnly", http_options=http, logging_config=logs)
    return where


def _application(serve: Any, orders: ReplicaOrders, pool: Pool, options: Serve) -> Any:
    under_way = options.batch_size + options.max_queued_requests
    deployment = serve.deployment(
        serve.ingress(Doorway())(Replica),
        name=NAME,
        num_replicas=pool.count,
        ray_actor_options={"num_cpus": pool.cpus, "num_gpus": pool.gpus},
        max_ongoing_requests=under_way + ROOM,  # each replica refuses for itself before
        health_check_period_s=HEALTH_SECONDS,
        health_check_timeout_s=HEALTH_LIMIT,
        graceful_shutdown_timeout_s=options.drain_timeout,
        graceful_shutdown_wait_loop_s=0.2,
        logging_config={"log_level": "CRITICAL", "enable_access_log": False},
    )
    return deployment.bind(orders, _replica_name)


def _replica_name() -> str:
    """In a replica: its name, as Ray shows it."""
    context: Any = importlib.import_module("ray.serve").get_replica_context()
    return str(getattr(context.replica_id, "unique_id", context.replica_tag))


class _Stop:
    """The signal that came, if one did."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.came = threading.Event()


@contextmanager
def _signalled(ending: Ending) -> Iterator[_Stop]:
    """Note the first signal inside the block; a second one ends the program at once."""
    stop = _Stop()

    def handle(number: int, frame: object) -> None:
        if stop.number is not None:
            ending.at_once(number)
        stop.number = number
        stop.came.set()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, action in before.items():
        if action != signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _served(serve: Any, app: Any, ready: str, stop: _Stop, program: ServeProgram) -> int:
    """Start the application, and watch it until a signal comes."""
    starting = threading.Thread(target=_start, args=(serve, app), name="ray-serve", daemon=True)
    starting.start()
    count: int | None = None
    while not stop.came.wait(0.2 if count is None else LOOK_SECONDS):
        found = _running(serve)
        if found is None:
            continue
        if count is None:
            program.note(ready)
        if found != count:
            program.note(f"{counted(found, 'replica')} answer{'s' if found == 1 else ''}")
        count = found
    assert stop.number is not None
    return stop.number


def _start(serve: Any, app: Any) -> None:
    try:
        serve.run(app, name=NAME, route_prefix="/")
    except Exception as error:  # the status says it as well, to `_running`
        logging.getLogger("gptcli.server").debug("Ray Serve: %s", first_line(error))


def _running(serve: Any) -> int | None:
    """How many replicas run; None before all have. Raises Unavailable where they cannot start."""
    try:
        found = serve.status().applications.get(NAME)
    except Exception as error:
        raise Unavailable("the Ray cluster", first_line(error), AGAIN) from None
    if found is None or found.status in ("NOT_STARTED", "DEPLOYING"):
        return None
    deployment = found.deployments[NAME]
    if found.status == "DEPLOY_FAILED":
        told = f"{found.message}\n{deployment.message}"
        ours = OURS.findall(told)
        why = ours[-1] if ours else told.strip().splitlines()[-1]
        raise Unavailable("a replica", why, "On every node the same gptcli and model are needed.")
    return int(deployment.replica_states.get("RUNNING", 0))


def _end(serve: Any, seconds: float) -> None:
    """Drain and end the replicas, and then Ray Serve."""
    try:
        serve.delete(NAME, _blocking=False)
        until = monotonic() + seconds + END_SECONDS
        pause = threading.Event()
        while NAME in serve.status().applications and monotonic() < until:
            pause.wait(0.1)
        serve.shutdown()
    except Exception as error:  # the cluster is gone: so is all of it
        logging.getLogger("gptcli.server").debug("Ray Serve: %s", first_line(error))
