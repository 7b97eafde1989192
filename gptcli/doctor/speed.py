"""A short speed test: memory bandwidth and the bundled model, within five seconds together.

It finds a machine that is ten times too slow. Not here: figures to compare are in `gptcli.bench`.
"""

from __future__ import annotations

from time import monotonic

from gptcli.checkpoints.names import BUNDLED
from gptcli.doctor.findings import Finding, Findings
from gptcli.options import Load, Sampling
from gptcli.protocol import Chunk, GenerateRequest

TEST_SECONDS = 2.0
SLOW_TOKENS_PER_SECOND = 100  # of the bundled model; one core of a laptop writes several hundred
GPT2_BYTES = 124e6 * 2  # in 16 bits


def speed() -> Findings:
    """Measure, where nothing is wrong with the engines; see `gptcli.doctor.hardware`."""
    from gptcli.engines import open_engine
    from gptcli.engines.bandwidth import bandwidth, machine

    load = Load(model=BUNDLED, device="cpu", offline=True)
    rate = bandwidth(machine(load), megabytes=256, times=3)
    limit = f"{rate:.0f} GB/s, at most {rate * 1e9 / GPT2_BYTES:.0f} tokens/s of gpt2 in 16 bits"
    yield Finding(area="speed", what="memory", value=limit)
    engine = open_engine(load)
    begin, tokens = monotonic(), 0
    while monotonic() - begin < TEST_SECONDS:
        sampling = Sampling(greedy=True, max_new_tokens=64, min_new_tokens=64)
        events = engine.run([GenerateRequest(id="0", prompt="Once upon a time", sampling=sampling)])
        tokens += sum(isinstance(event, Chunk) for event in events)
    found = tokens / (monotonic() - begin)
    value = f"{found:.0f} tokens/s"
    if found < SLOW_TOKENS_PER_SECOND:
        fix = "See what else runs; try --threads 1. gptcli bench measures in full."
        yield Finding(area="speed", what=BUNDLED, value=value, level="note", fix=fix)
    else:
        yield Finding(area="speed", what=BUNDLED, value=value)
