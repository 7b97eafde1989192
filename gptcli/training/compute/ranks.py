"""Processes that train one model together, as torchrun starts them; by default this one alone.

Each computes a share of a step's pieces. Gradients are added up, not averaged: the loss of a step
is already divided by the targets of all ranks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

PATIENCE = timedelta(days=7)  # of the others, while rank 0 reads data or saves
BUCKET = 2**23  # numbers that are added up over the ranks at a time

Round = tuple[NDArray[np.int64], bool]
"""Pieces to compute, and whether they count: ranks have the same number of rounds."""


@dataclass(frozen=True)
class Ranks:
    """This process is `number` (from 0) of `count`; `sharded`: each holds a part of the weights."""

    number: int = 0
    count: int = 1
    sharded: bool = False

    def share(
        self, lengths: NDArray[np.int32], pieces: NDArray[np.int64]
    ) -> list[NDArray[np.int64]]:
        """The pieces of a step for each rank: about as many tokens for each."""
        if self.count == 1:
            return [pieces]
        ordered = pieces[np.argsort(-lengths[pieces], kind="stable")]
        turns = np.arange(len(ordered)) % (2 * self.count)
        owner = np.where(turns < self.count, turns, 2 * self.count - 1 - turns)  # 0 1 2 2 1 0 0 ...
        return [ordered[owner == rank] for rank in range(self.count)]

    def rounds(self, parts: Sequence[Sequence[NDArray[np.int64]]]) -> Iterator[Round]:
        """The micro-batches of this rank, of those of all ranks; with others that do not count
        where another rank has more, because all take part in what is added up.
        """
        own = parts[self.number]
        filler = next((part[0][:1] for part in parts if part), None)
        for place in range(max(map(len, parts))):
            if place < len(own):
                yield own[place], True
            elif filler is not None:
                yield filler, False

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Add up tensors over the ranks, in place."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def total(self, value: float) -> float:
        """The sum of a number over the ranks."""
        if self.count == 1:
            return value
        summed = torch.tensor([value], dtype=torch.float64, device=_device())
        dist.all_reduce(summed)
        return float(summed)

    def greatest(self, value: int) -> int:
        """The greatest of a number over the ranks."""
        if self.count == 1:
            return value
        held = torch.tensor([value], device=_device())
        dist.all_reduce(held, dist.ReduceOp.MAX)
        return int(held)

    def told(self, what: Any = None) -> Any:
        """What rank 0 gives, on every rank; rank 0 passes it."""
        box = [what]
        dist.broadcast_object_list(box, src=0, device=_device())
        return box[0]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, where each rank holds a part: every rank must ask for it."""
    full: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor."""
    own: Callable[[], Tensor] | None = getattr(tensor, "to_local", None)
    return tensor if own is None else own()


def split_as(tensor: Tensor, other: Tensor) -> Tensor:
    """This rank's part of a whole tensor, where `other` is one that is split over the ranks."""
    if not hasattr(other, "placements"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = other
    return distribute_tensor(
        tensor.to(other.device), sharded.device_mesh, sharded.placements, src_data_rank=None
    )


def shard(model: nn.Module, layers: Iterable[nn.Module]) -> None:
    """Split a model's parameters over the ranks, layer by layer (FSDP2); gradients are added up."""
    from torch.distributed.fsdp import FSDPModule, fully_shard

    for layer in layers:
        fully_shard(layer)
    fully_shard(model)
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    filled = 0
    for tensor in tensors:
        if bucket and filled + tensor.numel() > BUCKET:
            yield bucket
            bucket, filled = [], 0
        bucket.append(tensor)
        filled += tensor.numel()
    if bucket:
        yield bucket


def started_as() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun says; (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def join(sharded: bool = False) -> Ranks:
    """Meet the other processes: over NCCL on GPUs, over gloo on CPUs. Alone at once."""
    number, count = started_as()
    if count == 1:
        return Ranks()
    if not dist.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    return Ranks(number, count, sharded)


def leave() -> None:
    """Part from the others."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
