"""A Ray cluster: connected to or started, how its nodes are shared out, a model for all of them.

Not here: what runs on it, the rows of a batch in `gptcli.batch.run.cluster` and the replicas of a
server in `gptcli.server.cluster`.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gptcli import __version__
from gptcli.checkpoints.adapters.opened import inspect_adapted
from gptcli.checkpoints.resolve import Progress, resolve
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load
from gptcli.system.processors import usable_cores

SHARED_MEMORY_BYTES = 256 << 20  # bytes of shared memory of a cluster of our own: blocks are small

Variables = dict[str, str]


@dataclass(frozen=True)
class Pool:
    """The actors: how many, what each asks of its node, and how many threads it uses."""

    count: int
    cpus: float
    gpus: int
    threads: int | None


def arranged(nodes: list[dict[str, float]], load: Load, actors: int | None) -> Pool:
    """The actors for nodes with these resources, as Ray names them."""
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus and load.device in ("auto", "cuda"):
        return Pool(actors or gpus, 1, 1, load.threads)
    cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1] or [1]
    threads = load.threads or min(cpus)
    if actors and not load.threads:
        threads = max(1, min(sum(cpus) // actors, max(cpus)))
    count = actors or max(1, sum(number // threads for number in cpus))
    return Pool(count, threads // 2 or 0.5, 0, threads)


def alive(ray: Any) -> list[dict[str, Any]]:
    """Ray's own description of each node that is there."""
    return [node for node in ray.nodes() if node["Alive"]]


def check_version(version: str) -> None:
    """On a node: raise Unavailable where the program has another gptcli than this node."""
    if version != __version__:
        raise Unavailable(
            "Ray cluster",
            f"a node has gptcli {__version__}, and this is {version}",
            f"Run on every node: pip install gptcli=={version}",
        )


def findable(load: Load, progress: Progress = None) -> tuple[Load, str | None]:
    """The options with the model named so that any node finds the very same, and its real name.

    Raises as `resolve`, and BadModel.
    """
    if load.server is not None:
        return load, None
    found = resolve(load, progress)
    inspect_adapted(*found.parts)
    model = str(found.folder.absolute()) if found.source == "path" else found.name
    return found.pinned(load, model), found.title


@contextmanager
def connected(
    address: str | None, verbose: bool, part: str = "data", variables: Variables | None = None
) -> Iterator[Any]:
    """Ray, connected, with a part of it; quiet unless `verbose`. Raises Unavailable, UsageError.

    `variables` are set in the environment of all that is started there.
    What was connected already stays so afterwards.
    """
    if address is not None and address.startswith("ray://"):
        how = "Run this on a machine of the cluster: --address auto."
        raise UsageError("--address", "Ray's client is not enough here", how)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not verbose:  # else each run is told as an error that actors have arguments
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change
    try:
        ray: Any = importlib.import_module("ray")
        importlib.import_module(f"ray.{part}")
    except ImportError as error:
        missing = f"{error.name} is not installed"
        raise Unavailable("Ray", missing, "Install it: pip install 'gptcli[ray]'") from None
    with _off_stdout(verbose):
        ours = not ray.is_initialized()
        if ours:
            _connect(ray, address, verbose, variables)
        level = logging.INFO if verbose else logging.CRITICAL
        logging.getLogger("ray").setLevel(level)
        logging.getLogger(f"ray.{part}").setLevel(level)
        try:
            yield ray
        finally:
            if ours:
                ray.shutdown()


def _connect(ray: Any, address: str | None, verbose: bool, variables: Variables | None) -> None:
    """Connect to a cluster, or start one here. Raises Unavailable."""
    alone = {
        "num_cpus": usable_cores(),
        "object_store_memory": SHARED_MEMORY_BYTES,
        "include_dashboard": False,
    }
    try:
        _knock(address or "")
        with _own_sigterm(), _silent(not verbose):
            ray.init(
                address or "local",
                logging_level=logging.INFO if verbose else logging.CRITICAL,
                log_to_driver=verbose,
                runtime_env={"env_vars": variables} if variables else None,
                **({} if address else alone),
            )
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise Unavailable(
            f"Ray cluster {address or 'of our own'}",
            first_line(error),
            "Check --address: ray status. Without it a cluster is started here.",
        ) from None


def _knock(address: str) -> None:
    """Raise OSError where nobody answers at HOST:PORT: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


@contextmanager
def _off_stdout(verbose: bool) -> Iterator[None]:
    """Keep Ray from standard output, where answers go: it tells of lost nodes there, unasked.

    There is no setting for that. Were the function called otherwise one day, a test would say so.
    """
    ray: Any = importlib.import_module("ray._private.worker")
    before = ray.print_to_stdstream

    def print_to_stdstream(data: dict[str, object], ignore_prefix: bool) -> None:
        if verbose:
            before({**data, "is_err": True}, ignore_prefix=ignore_prefix)

    ray.print_to_stdstream = print_to_stdstream
    try:
        yield
    finally:
        ray.print_to_stdstream = before


@contextmanager
def _silent(wanted: bool) -> Iterator[None]:
    """Let nothing reach stderr: Ray's core says there that it is told to be quiet."""
    if not wanted or sys.__stderr__ is None:  # or there is none
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what SIGTERM does: Ray, when it is connected, puts its own handler in place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def first_line(error: BaseException) -> str:
    """What Ray says, without the pages that follow."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
