"""Memory of a run: what fits is chosen before, and where it was not enough the step is cut."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import environment
from support.training_runs import asked, ran

from gptcli.checkpoints.architecture import GPT2Config
from gptcli.errors import UsageError
from gptcli.training.events import Ended, Planned
from gptcli.training.fitting import bytes_needed, fit
from gptcli.training.settings import LoraSettings, TrainingSettings

GIB = 2**30
SETTINGS = TrainingSettings(batch_tokens=8192)

SHORT = """
import json, resource
import numpy as np, torch
from gptcli.checkpoints.architecture import GPT2Config
from gptcli.training.compute.building import build
from gptcli.training.compute.step import ShortOfMemory, Stepper
from gptcli.training.data.pieces import PieceTable
from gptcli.training.settings import TrainingSettings

torch.set_num_threads(1)
config = GPT2Config(vocab_size=300, n_positions=256, n_embd=128, n_layer=4, n_head=4)
count, length = 32, 256
ids = np.random.default_rng(0).integers(0, 300, count * length + 1).astype(np.uint16)
starts = np.arange(count, dtype=np.int64) * length
table = PieceTable(ids, starts, np.full(count, length, dtype=np.int32))
settings = TrainingSettings(batch_tokens=count * length)


def stepped(bytes_left):
    stepper = Stepper(build(config, settings, None), settings, torch.device("cpu"), count * length)
    said = []
    stepper.say = said.append
    stepper.step(table, np.arange(2), 1)
    if bytes_left is not None:
        pages = int(open("/proc/self/statm").read().split()[0])
        now = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + bytes_left, resource.RLIM_INFINITY))
    result = stepper.step(table, np.arange(count), 2)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return result.loss, said, stepper


whole, told, one = stepped(None)
cut, said, other = stepped(40 << 20)
with torch.no_grad():
    off = max(
        float((a - b).abs().max())
        for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True)
    )
print(json.dumps({"losses": [whole, cut], "told": told, "said": said, "off": off}))
"""


def printed(program: str) -> str:
    """What a program prints in a process of its own."""
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, check=True, capture_output=True, env=environment()
    ).stdout.decode()


def test_a_step_that_the_memory_does_not_hold_is_cut_and_computes_the_same() -> None:
    done = json.loads(printed(SHORT))
    assert done["told"] == []
    assert done["said"][0] == "memory is short: 4096 tokens are computed at a time now"
    assert abs(done["losses"][0] - done["losses"][1]) < 1e-6
    assert done["off"] < 1e-7


def test_micro_batches_are_halved_until_they_fit_and_not_below_a_context() -> None:
    config = GPT2Config()
    roomy = fit(config, SETTINGS, 1024, 8192, 64 * GIB)
    assert (roomy.micro_tokens, roomy.checkpointing, roomy.fits) == (8192, False, True)
    tight = fit(config, SETTINGS, 1024, 8192, 5 * GIB)
    assert tight.fits
    assert 1024 <= tight.micro_tokens < 8192
    short = fit(config, SETTINGS, 1024, 8192, GIB)
    assert (short.micro_tokens, short.checkpointing, short.fits) == (1024, True, False)
    assert "--lora" in short.warning


def test_adapters_and_frozen_layers_need_less_memory() -> None:
    config = GPT2Config()
    full = fit(config, SETTINGS, 1024, 1024, 64 * GIB).needed
    lora = fit(config, replace(SETTINGS, lora=LoraSettings()), 1024, 1024, 64 * GIB).needed
    frozen = fit(config, replace(SETTINGS, frozen=6), 1024, 1024, 64 * GIB).needed
    assert lora < frozen < full
    assert full - lora > 3 * 4 * 100_000_000  # gradients and two moments, in float32


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_estimate_is_near_what_a_step_takes() -> None:
    small = GPT2Config(vocab_size=1000, n_positions=512, n_embd=384, n_layer=6, n_head=6)
    estimate = bytes_needed(small, SETTINGS, 4096, False)
    measured = int(printed(MEASURED))
    assert 0.5 * measured < estimate < 2 * measured


MEASURED = """
import numpy as np, torch
from gptcli.checkpoints.architecture import GPT2Config
from gptcli.training.compute.building import build
from gptcli.training.compute.step import Stepper
from gptcli.training.data.pieces import PieceTable
from gptcli.training.settings import TrainingSettings

torch.set_num_threads(1)


def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


before = peak()
config = GPT2Config(vocab_size=1000, n_positions=512, n_embd=384, n_layer=6, n_head=6)
settings = TrainingSettings(batch_tokens=4096)
stepper = Stepper(build(config, settings, None), settings, torch.device("cpu"), 4096)
ids = np.random.default_rng(0).integers(0, 1000, 4097).astype(np.uint16)
starts = np.arange(8, dtype=np.int64) * 512
stepper.step(PieceTable(ids, starts, np.full(8, 512, dtype=np.int32)), np.arange(8), 1)
print(peak() - before)
"""


def test_a_rehearsal_tells_the_plan_and_leaves_no_run(tmp_path: Path, story: Path) -> None:
    events = ran(asked(story, tmp_path / "run", steps=50, dry_run=True))
    plan = next(event for event in events if isinstance(event, Planned))
    assert (plan.step, plan.steps) == (3, 50)
    assert plan.tokens_per_second > 0
    assert plan.seconds_left > 0
    assert plan.epochs > 0
    assert plan.peak > 10**7
    assert isinstance(events[-1], Ended)
    assert events[-1].ending == "planned"
    assert not (tmp_path / "run" / "run.json").exists()
    assert not (tmp_path / "run" / "log.jsonl").exists()
    again = ran(asked(story, tmp_path / "run", steps=4, seed=3))
    assert isinstance(again[-1], Ended)
    assert again[-1].ending == "steps"
    assert any(isinstance(event, Planned) for event in again)


def test_all_matrices_with_adapters_need_more_than_one() -> None:
    config = GPT2Config()
    one, every = (
        fit(config, replace(SETTINGS, lora=LoraSettings(targets=(name,))), 1024, 1024, GIB).needed
        for name in ("c_attn", "all")
    )
    assert every > one


def test_a_rehearsal_takes_nothing_of_a_run_that_is_there(tmp_path: Path, story: Path) -> None:
    with pytest.raises(UsageError, match="a rehearsal leaves the run"):
        ran(asked(story, tmp_path / "run", dry_run=True, force=True))


def test_a_rehearsal_opens_no_tracker(tmp_path: Path) -> None:
    from gptcli.training.events import Began
    from gptcli.training.options import TrainingProgress
    from gptcli.training.report.trackers import Trackers

    said: list[str] = []
    tracked = Trackers(TrainingProgress(tensorboard=True, dry_run=True), said.append)
    tracked.see(
        Began(
            step=0,
            steps=1,
            folder=tmp_path,
            parameters=1,
            trained=1,
            tokens=1,
            documents=1,
        )
    )
    assert list(tmp_path.iterdir()) == said == []
