"""Run all checks, one after the other, and the network's beside them.

A check that fails is a finding. Only the network's can hang; the wait for it is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread

from gptcli.config.keys import Tables
from gptcli.doctor.configuration import configuration
from gptcli.doctor.findings import Area, Finding, Findings
from gptcli.doctor.hardware import engines, hardware, torch_loads
from gptcli.doctor.network import network
from gptcli.doctor.speed import speed
from gptcli.doctor.storage import storage
from gptcli.doctor.terminal import terminal
from gptcli.doctor.versions import versions
from gptcli.options.registry import Known

NETWORK_SECONDS = 10.0  # the wait for the network's check at the end


def examine(
    named: str | None, common: Known, tables: Tables, *, quick: bool = False, offline: bool = False
) -> Iterator[Finding]:
    """Every finding; `quick` leaves out what is measured. `named` is the file of --config."""
    asked: list[Finding] = []
    asking = Thread(
        target=lambda: asked.extend(_guarded("hub", lambda: network(offline))), daemon=True
    )
    asking.start()
    yield from _guarded("versions", versions)
    yield from _guarded("machine", hardware)
    needed = [*_guarded("machine", engines), *_guarded("machine", torch_loads)]
    yield from needed
    if not quick and not any(finding.level == "problem" for finding in needed):
        yield from _guarded("speed", speed)
    yield from _guarded("models", storage)
    asking.join(NETWORK_SECONDS)
    late = Finding(
        area="hub",
        what="network",
        value=f"no answer within {NETWORK_SECONDS:g} s",
        level="problem",
        fix="Check the network; to work without it: --offline.",
    )
    yield from asked or [late]
    yield from _guarded("settings", lambda: configuration(named, common, tables))
    yield from _guarded("terminal", terminal)


def _guarded(area: Area, look: Callable[[], Findings]) -> Findings:
    try:
        yield from look()
    except Exception as error:  # whatever it is, the others are still to be looked at
        why = (str(error).splitlines() or [""])[0][:200]
        yield Finding(
            area=area,
            what="this check",
            value=f"it failed: {type(error).__name__}: {why}",
            level="problem",
            fix="If nothing else explains it, report it with the output of gptcli doctor.",
        )
