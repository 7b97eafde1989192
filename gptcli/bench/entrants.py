"""Who takes part in a benchmark: our engine and the peers, behind one call.

All get the same work. Each says how many tokens it wrote for each prompt, and a run counts only if
that is what was asked: an engine that stops early would look fast. Not here: the work is in
`gptcli.bench.workloads`, the order of runs in `gptcli.bench.rounds`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gptcli.bench.peers.peer import PeerSetting, PeerWork
from gptcli.bench.peers.roster import Contender, open_peer
from gptcli.bench.rounds import FAILURES, Say, left_out
from gptcli.bench.workloads import SLOTS
from gptcli.engines import open_engine
from gptcli.errors import Unavailable
from gptcli.options import Load, Sampling
from gptcli.protocol import Completion, Engine, GenerateRequest


@dataclass(frozen=True)
class Rival:
    """A peer that is ready to be loaded: its model is converted."""

    contender: Contender
    setting: PeerSetting


@dataclass(frozen=True)
class Entrant:
    """A loaded engine: `write` continues every prompt; returns how many tokens it wrote to each."""

    label: str
    dtype: str
    write: Callable[[Sequence[PeerWork]], list[int]]


def plain(load: Load) -> Load:
    """The same model without prefix cache and drafts: one step for each token, as in the peers."""
    return replace(load, prefix_cache=False, draft="off", draft_model=None)


def label(dtype: str) -> str:
    """How tables call our engine in a data type; `auto` where only the engine knows it."""
    return f"gptcli {dtype}"


def open_ours(load: Load) -> tuple[Engine, Entrant]:
    """Our engine, and the same as an entrant. Raises what opening the model raises."""
    engine = open_engine(plain(load), SLOTS)
    dtype = engine.info.dtype
    return engine, Entrant(label(dtype), dtype, lambda work: written(engine, work))


def open_rivals(rivals: Sequence[Rival], say: Say) -> list[Entrant]:
    """The peers that can load their model; `say` is told of the others."""
    found = []
    for rival in rivals:
        name = rival.contender.label
        try:
            peer = open_peer(rival.contender, rival.setting)
        except FAILURES as error:
            say(left_out(name, error))
            continue
        found.append(
            Entrant(
                name,
                rival.contender.dtype,
                lambda work, peer=peer: [len(row) for row in peer.write(work)],  # type: ignore[misc]
            )
        )
    return found


def written(engine: Engine, work: Sequence[PeerWork]) -> list[int]:
    """Run the work in our engine; how many tokens it wrote to each prompt.

    Raises the error of a request that failed.
    """
    requests = (
        GenerateRequest(
            id=str(number),
            prompt=item.prompt,
            sampling=Sampling(
                greedy=True, max_new_tokens=item.new_tokens, min_new_tokens=item.new_tokens
            ),
        )
        for number, item in enumerate(work)
    )
    found = [0] * len(work)
    for event in engine.run(requests):
        if isinstance(event, Completion):
            if event.error:
                raise event.error
            found[int(event.id)] = len(event.tokens)
    return found


def seconds(entrant: Entrant, work: Sequence[PeerWork]) -> float:
    """Wall seconds of the work. Raises Unavailable where another number of tokens was written."""
    begin = time.perf_counter()
    found = entrant.write(work)
    taken = time.perf_counter() - begin
    asked = [item.new_tokens for item in work]
    if found != asked:
        why = f"it wrote {sum(found)} tokens instead of {sum(asked)}"
        raise Unavailable(entrant.label, why, "Measure without it")
    return taken
