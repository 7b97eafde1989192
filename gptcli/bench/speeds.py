"""How fast loaded engines are: decoding, prompts, first tokens, many rows.

Speeds count useful tokens, those that were asked for. The limit of one row's decoding is what the
memory can deliver: every token reads the weights once. Not here: start-up times are in
`gptcli.bench.processes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from gptcli.batch.input.row import Row, digest
from gptcli.batch.run import work as batch
from gptcli.batch.run.width import width
from gptcli.bench import workloads
from gptcli.bench.entrants import Entrant, label, open_ours, seconds
from gptcli.bench.figures import EngineRuns, Figure
from gptcli.bench.peers.peer import PeerWork
from gptcli.bench.rounds import EngineTurn, Say, figure, in_turn
from gptcli.bench.workloads import SLOTS
from gptcli.errors import Unavailable, UsageError
from gptcli.options import Load, Sampling
from gptcli.protocol import Engine

PREFILL_TOKENS = 128, 512
LONGEST_ROW_TOKENS = 640  # of --only batch
# q8_0 has a 16-bit scale for each 32 weights.
WEIGHT_BYTES = {
    "float32": 4.0,
    "f32": 4.0,
    "float16": 2.0,
    "bfloat16": 2.0,
    "f16": 2.0,
    "int16": 2.0,
    "int8": 1.0,
    "q8_0": 34 / 32,
}


def decoding(
    entrants: Sequence[Entrant], runs: int, limit: Callable[[Entrant], float | None], say: Say
) -> Iterator[Figure]:
    """Tokens per second of one row and of 16 rows; `limit` is that of one row."""
    for name, work in workloads.decoding().items():
        found = _in_turn(entrants, partial(_decoded, work), runs, say)
        if len(work) == 1:
            pairs = zip(found, entrants, strict=True)
            found = tuple(replace(one, limit=limit(entrant)) for one, entrant in pairs)
        yield figure(f"decode, {name}", "tokens/s", found)


def mixed(entrants: Sequence[Entrant], runs: int, say: Say) -> Iterator[Figure]:
    """Tokens per second of rows whose prompts and texts are of mixed lengths."""
    work = workloads.mixed(workloads.MIXED_ROWS)
    found = _in_turn(entrants, partial(_decoded, work), runs, say)
    yield figure(f"decode, {len(work)} mixed rows", "tokens/s", found)


def limit(entrant: Entrant, weights: int, gigabytes: float) -> float | None:
    """Upper bound of tokens a second of one row: each reads `weights` weights at `gigabytes` GB/s.

    None for a data type of unknown size.
    """
    size = WEIGHT_BYTES.get(entrant.dtype)
    return gigabytes * 1e9 / (weights * size) if size else None


def prompts(engine: Engine, entrants: Sequence[Entrant], runs: int, say: Say) -> Iterator[Figure]:
    """Tokens of a prompt per second, and seconds to the first token after a short one.

    Lengths that the model's context does not hold are left out.
    """
    for entrant in entrants:  # engines may still be packing weights while they write the first
        entrant.write([PeerWork(workloads.SENTENCE, workloads.NEW_TOKENS)] * 2)
    for length in PREFILL_TOKENS:
        if length >= engine.info.context:
            say(f"prefill of {length} tokens is left out: the context is {engine.info.context}")
            continue

        def prefilled(entrant: Entrant, run: int, length: int = length) -> float:
            prompt = workloads.prompt(engine.count, length, run)
            return engine.count(prompt) / seconds(entrant, [PeerWork(prompt, 1)])

        found = _in_turn(entrants, prefilled, runs, say)
        yield figure(f"prefill, {length} tokens", "tokens/s", found)
    short = engine.count(workloads.SENTENCE)

    def first(entrant: Entrant, run: int) -> float:
        return seconds(entrant, [PeerWork(workloads.prompt(engine.count, short, run), 1)])

    found = _in_turn(entrants, first, runs, say)
    yield figure("first token, warm", "s", found, more_is_better=False)


def many_rows(
    load: Load, rivals: Sequence[Entrant], rows: int, runs: int, say: Say
) -> Iterator[Figure]:
    """Rows of mixed lengths as `gptcli batch` runs them; so many that nothing has to warm up.

    Raises UsageError for a model whose context is shorter than the longest row.
    """
    work = workloads.mixed(rows, prompts=23)
    name = label(load.dtype)

    def value(entrant: Entrant, run: int) -> float:
        if entrant.label == name:  # a new one each time, opened before the clock starts
            engine, entrant = open_ours(load)
            if engine.info.context < LONGEST_ROW_TOKENS:
                why = f"it needs a context of {LONGEST_ROW_TOKENS}"
                raise UsageError("--only batch", why, "Try -m gpt2.")
            entrant = replace(entrant, write=partial(_batched, engine))
        return _decoded(work, entrant, run)

    ours = Entrant(name, load.dtype, lambda work: [])
    found = _in_turn([ours, *rivals], value, runs, say, warm=0)
    yield figure(f"batch of {rows} mixed rows", "tokens/s", found)


def _in_turn(
    entrants: Sequence[Entrant],
    value: Callable[[Entrant, int], float],
    runs: int,
    say: Say,
    warm: int = 1,
) -> tuple[EngineRuns, ...]:
    """`value(entrant, run)` of each in turn."""
    [found] = in_turn([_turn(entrant, value) for entrant in entrants], runs, say, warm)
    return found


def _turn(entrant: Entrant, value: Callable[[Entrant, int], float]) -> EngineTurn:
    return EngineTurn(entrant.label, lambda run: (value(entrant, run),))


def _decoded(work: Sequence[PeerWork], entrant: Entrant, run: int) -> float:
    return sum(item.new_tokens for item in work) / seconds(entrant, work)


def _batched(engine: Engine, work: Sequence[PeerWork]) -> list[int]:
    """How many tokens `gptcli batch` writes to each row."""
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
    found = [0] * len(work)
    for done in batch.answered(engine, job, iter(rows), width(SLOTS, SLOTS)):
        if done.failed:
            why = f"a row failed: {done.record['error']}"
            raise Unavailable("benchmark", why, "Run it by hand")
        found[done.row.number] = done.completion_tokens
    return found
