"""How fast is it here, and against what: pairs of runs on one machine, medians and their spread.

Machines are noisy and shared, so a figure is never timed alone: each run of ours is followed by
one of the peer's, and what counts is the median of the pairs' ratios. Useful tokens are counted,
those that were asked for. Only speed and memory are measured; that the results are right is what
the tests are for.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

from gptcli.batch import work as batch
from gptcli.batch.row import Row, digest
from gptcli.batch.width import width
from gptcli.engines import Engine, open_engine
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load, Sampling
from gptcli.peers import PEERS, Peer, Work
from gptcli.results import Completion, Request
from gptcli.specs import Options, option
from gptcli.tasks.answers import Answer, Question
from gptcli.tasks.catalog import find
from gptcli.tasks.prompts import worded
from gptcli.tasks.solver import solve

SLOTS = 16
LINES = 200
LONGEST = 640  # tokens of a row of --only batch, at most
REHEARSAL = "from gptcli.bench import Load, rehearse; rehearse({load!r})"
SENTENCE = "It was a dark night and the old king sat by the fire with his three sons . "


@dataclass(frozen=True, kw_only=True)
class Bench(Options):
    """What is measured, and how often."""

    panel = "Benchmark"

    against: Literal["transformers"] | None = option(
        None, "--against", "Run this beside gptcli, in turn, and show ratios."
    )
    only: Literal["start", "decode", "tasks", "batch"] | None = option(
        None,
        "--only",
        "Measure only start-up, decoding, a task over many lines, or many rows (which takes long,"
        " and is left out otherwise).",
    )
    rows: int = option(500, "--rows", "Rows of --only batch.", low=1, high=10**6)
    runs: int = option(5, "--runs", "Pairs of runs for each figure.", low=1, high=100)
    json: bool = option(False, "--json", "Print every run as JSON lines.")


@dataclass(frozen=True)
class Figure:
    """One measurement: ours and the peer's, run by run."""

    name: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """Our median."""
        return statistics.median(self.ours)

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs, pair by pair."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=False)]

    def to_dict(self) -> dict[str, object]:
        """For `--json`."""
        shown: dict[str, object] = {"name": self.name, "unit": self.unit, "ours": list(self.ours)}
        if self.theirs:
            ratio = statistics.median(self.ratios)
            shown |= {"theirs": list(self.theirs), "ratio": ratio, "ratios": self.ratios}
        return shown


def workloads(rounds: int = 64) -> dict[str, list[Work]]:
    """The decode workloads: one row, 16 equal rows, and rows of mixed prompt and output lengths."""
    same = Work(SENTENCE, 64)
    # Lengths without a pattern, the same on every machine.
    mixed = [
        Work(SENTENCE * (1 + number * 7 % 13), 8 + number * number * 37 % 121)
        for number in range(rounds)
    ]
    return {"1 row": [same], "16 rows": [same] * SLOTS, "64 mixed rows": mixed}


def measure(load: Load, bench: Bench) -> Iterator[Figure]:
    """Every figure in turn.

    First whole processes, wall seconds and peak memory, then decoding and a task in this process;
    each after a run to warm up. `load.model` is a folder. Raises what opening the model raises.
    """
    if bench.only in (None, "start"):
        yield from _cold(load, bench.against, bench.runs)
    if bench.only in (None, "decode"):
        yield from _decoding(load, bench.against, bench.runs)
    if bench.only in (None, "tasks"):
        yield from _labelling(load, bench.runs)
    if bench.only == "batch":
        yield from _batch(load, bench)


def _decoding(load: Load, against: str | None, runs: int) -> Iterator[Figure]:
    """Tokens per second; without the prefix cache, since the prompts are much alike."""
    engine = open_engine(replace(load, prefix_cache=False), SLOTS)
    peer = PEERS[against](Path(str(load.model))) if against else None
    for name, work in workloads().items():
        ours, theirs = [], []
        for run in range(runs + 1):
            speed = _speed(work, lambda work: _write(engine, work))
            other = _speed(work, lambda work: _write_peer(peer, work)) if peer else 0.0
            if run:  # the first one warms up
                ours.append(speed)
                theirs.append(other)
        yield Figure(f"decode, {name}", "tokens/s", tuple(ours), tuple(theirs) if peer else ())


def _batch(load: Load, bench: Bench) -> Iterator[Figure]:
    """Rows of mixed lengths as `gptcli batch` runs them; so many that nothing has to warm up."""
    work = [
        Work(SENTENCE * (1 + number * 7 % 23), 8 + number * number * 37 % 121)
        for number in range(bench.rows)
    ]
    peer = PEERS[bench.against](Path(str(load.model))) if bench.against else None
    ours, theirs = [], []
    for _ in range(bench.runs):
        engine = open_engine(replace(load, prefix_cache=False), SLOTS)
        if engine.info.context < LONGEST:
            raise UsageError("--only batch", f"it needs a context of {LONGEST}", "Try -m gpt2.")
        ours.append(_speed(work, lambda work, engine=engine: _write_rows(engine, work)))  # type: ignore[misc]
        if peer:
            theirs.append(_speed(work, lambda work: _write_peer(peer, work)))
    yield Figure(f"batch of {bench.rows} mixed rows", "tokens/s", tuple(ours), tuple(theirs))


def _write_rows(engine: Engine, work: Sequence[Work]) -> None:
    rows = (
        Row(
            number,
            digest(item.prompt.encode()),
            str(number),
            item.prompt,
            {"max_new_tokens": item.new_tokens, "min_new_tokens": item.new_tokens},
        )
        for number, item in enumerate(work)
    )
    job = batch.Work(load=Load(), sampling=Sampling(greedy=True, seed=0))
    for done in batch.answered(engine, job, iter(rows), width(SLOTS, SLOTS)):
        if done.failed:
            raise Unavailable(
                "benchmark", f"a row failed: {done.record['error']}", "Run it by hand"
            )


def labelled(engine: Engine, texts: Sequence[str]) -> list[str]:
    """The label of each text, by the task `classify` as it comes."""
    task = find("classify")
    questions = (Question(str(number), text) for number, text in enumerate(texts))
    wording = worded(task, {option.name: option.default for option in task.options})
    found = solve(engine, wording, questions, Sampling(), batch_size=SLOTS)
    return [answer.text for answer in found if isinstance(answer, Answer)]


def _labelling(load: Load, runs: int) -> Iterator[Figure]:
    """A task over many lines, with its examples run once and with them run for every line."""
    words = SENTENCE.split()
    # Lines that begin differently: what they share is the task's examples alone.
    texts = [" ".join(Random(n).sample(words, 4 + n * 7 % 13)) for n in range(LINES)]
    speeds: dict[bool, list[float]] = {True: [], False: []}
    engines = {reuse: open_engine(replace(load, prefix_cache=reuse), SLOTS) for reuse in speeds}
    for run in range(runs + 1):
        for reuse, engine in engines.items():
            begin = time.perf_counter()
            labelled(engine, texts)
            if run:
                speeds[reuse].append(LINES / (time.perf_counter() - begin))
    once, each = tuple(speeds[True]), tuple(speeds[False])
    yield Figure(f"classify {LINES} lines", "lines/s", once)
    yield Figure("the same, --no-prefix-cache", "lines/s", each)
    gains = tuple(one / other for one, other in zip(once, each, strict=True))
    yield Figure("gain of the prefix cache", "times", gains)


def _speed(work: Sequence[Work], write: Callable[[Sequence[Work]], None]) -> float:
    """Useful tokens per second."""
    begin = time.perf_counter()
    write(work)
    return sum(item.new_tokens for item in work) / (time.perf_counter() - begin)


def _write(engine: Engine, work: Sequence[Work]) -> None:
    requests = (
        Request(
            id=str(number),
            prompt=item.prompt,
            sampling=Sampling(
                greedy=True, max_new_tokens=item.new_tokens, min_new_tokens=item.new_tokens
            ),
        )
        for number, item in enumerate(work)
    )
    for event in engine.run(requests):
        if isinstance(event, Completion) and event.error:
            raise event.error


def rehearse(load: Load) -> None:
    """Run the mixed rows once: a process whose memory is measured from outside."""
    _write(open_engine(load, SLOTS), workloads()["64 mixed rows"])


def _write_peer(peer: Peer, work: Sequence[Work]) -> None:
    """In static batches, in the order of arrival."""
    for begin in range(0, len(work), SLOTS):
        peer.write(work[begin : begin + SLOTS])


def _cold(load: Load, against: str | None, runs: int) -> Iterator[Figure]:
    """Whole processes that write one token: wall time and peak resident memory."""
    ours = [sys.executable, "-m", "gptcli", "generate", "--offline", "--greedy"]
    ours += ["--max-new-tokens", "1", "--device", load.device, "--dtype", load.dtype]
    ours += ["--threads", str(load.threads)] if load.threads else []
    ours += ["--model", str(load.model), SENTENCE]
    theirs = (
        [sys.executable, "-c", PEERS[against].cold, str(load.model), SENTENCE] if against else None
    )
    times: list[list[float]] = [[], []]
    memory: list[list[float]] = [[], []]
    for run in range(runs + 1):
        for who, command in enumerate(filter(None, [ours, theirs])):
            seconds, megabytes = _process(command)
            if run:
                times[who].append(seconds)
                memory[who].append(megabytes)
    yield Figure("cold process to 1 token", "s", tuple(times[0]), tuple(times[1]))
    yield Figure("peak memory of that process", "MB", tuple(memory[0]), tuple(memory[1]))
    _, peak = _process([sys.executable, "-c", REHEARSAL.format(load=load)])
    yield Figure(f"peak memory, 64 mixed rows in {SLOTS} slots", "MB", (peak,))


def _process(command: Sequence[str]) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes of a process that must succeed.

    The peak is at least what this process holds when it forks: to be called while it is small.
    """
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().split("\n")[-1]
            raise Unavailable("benchmark", f"a measured process failed ({last})", "Run it by hand")
    scale = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return seconds, usage.ru_maxrss / scale
