"""The processes beside the first, where torchrun starts several: they compute what it tells them.

Rank 0 runs the recipe and decides everything; the others hold the same model, open the data that it
prepared, and take part in each step, validation and save. They write nothing. All see one file
system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptcli.errors import UsageError
from gptcli.training.durability.folder import RunFolder
from gptcli.training.durability.run_file import RunFile
from gptcli.training.material import gather
from gptcli.training.options import TrainOptions

if TYPE_CHECKING:
    from gptcli.training.compute.ranks import Ranks
    from gptcli.training.compute.session import ComputeSession

END = "end"


def is_follower() -> bool:
    """Whether this process is one of those, as torchrun says."""
    return os.environ.get("RANK", "0") != "0"


@contextmanager
def leading(options: TrainOptions) -> Iterator[Ranks]:
    """Meet the others inside the block, as rank 0; they end after it. Raises UsageError."""
    sharded = options.following.shard
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        if sharded:
            why = "it splits a model over processes, and this is the only one"
            raise UsageError("--shard", why, "Start them with torchrun --nproc-per-node N.")
        from gptcli.training.compute.ranks import Ranks

        yield Ranks()
        return
    from gptcli.training.compute.ranks import join, leave

    if sharded and options.optimization.optimizer == "muon":
        raise UsageError("--shard", "Muon needs whole matrices", "Use --optimizer adamw.")
    ranks = join(sharded)
    try:
        yield ranks
    finally:
        with suppress(RuntimeError):  # they may be gone
            ranks.told((END,))
        leave()


def begin(ranks: Ranks, run: RunFile, checkpoint: Path | None, checkpointing: bool) -> None:
    """Let the others open what rank 0 opens."""
    if ranks.count > 1:
        ranks.told(("begin", run, checkpoint, checkpointing))


def lead(ranks: Ranks, session: ComputeSession) -> None:
    """Let the others compute what rank 0 computes from here on."""
    if ranks.count > 1:
        session.stepper.lead = lambda *call: ranks.told(call)


def follow(options: TrainOptions) -> None:
    """Compute with rank 0 until it ends."""
    from gptcli.training.compute.ranks import join, leave

    ranks = join(options.following.shard)
    try:
        call = ranks.told()
        if call[0] != END:
            _take_part(options, ranks, *call[1:])
    finally:
        leave()


def _take_part(
    options: TrainOptions,
    ranks: Ranks,
    run: RunFile,
    checkpoint: Path | None,
    checkpointing: bool,
) -> None:
    from gptcli.training.compute.session import ComputeSession, chosen
    from gptcli.training.compute.step import ShortOfMemory, StepDropped

    path = Path(os.path.expanduser(options.following.output or ""))  # noqa: PTH111
    material = gather(options, RunFolder(path, path.name, None, run), lambda text: nullcontext())
    starting, corpus = material.starting, material.corpus
    device = chosen(options.model)
    session = ComputeSession(
        starting.config,
        run.settings,
        starting.weights,
        device,
        run.machine.micro_tokens,
        ranks,
        checkpointing,
    )
    if checkpoint is not None:
        session.load(checkpoint)
    work: dict[str, Callable[..., Any]] = {
        "step": lambda *call: session.stepper.step(corpus.train, *call),
        "loss": lambda *call: session.stepper.loss(corpus.valid or corpus.train, *call),
        "files": session.files,
        "is_finite": session.is_finite,
    }
    while (call := ranks.told())[0] != END:
        with suppress(StepDropped, ShortOfMemory):  # rank 0 has it, too, and decides
            work[call[0]](*call[1:])
