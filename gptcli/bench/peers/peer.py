"""What a peer is: something else that continues prompts, with what it is told to run on.

A peer is a few lines over a library, written as its own documentation would have it, and imports
that library only when it is opened. It gives back the tokens that it wrote, so that they can be
counted and compared, instead of being taken on trust. Which peers there are stands in
`gptcli.bench.peers.roster`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar, Protocol


@dataclass(frozen=True)
class PeerWork:
    """One prompt, and how many tokens to write after it: neither fewer nor more."""

    prompt: str
    new_tokens: int


@dataclass(frozen=True, kw_only=True)
class PeerSetting:
    """What a peer runs, and on what."""

    folder: Path  # what `Peer.prepare` made, or the checkpoint where it makes nothing
    dtype: str
    device: str  # cpu or cuda
    threads: int
    slots: int  # sequences at a time


class Peer(Protocol):
    """Something else that continues prompts."""

    modules: ClassVar[tuple[str, ...]]  # what must be installed
    dtypes: ClassVar[tuple[str, ...]]  # the first is the default
    devices: ClassVar[tuple[str, ...]]
    # A Python script that writes one token: argv is folder, prompt, dtype, device, threads.
    cold: ClassVar[str]

    def __init__(self, setting: PeerSetting) -> None:
        """Load the model."""
        ...

    @staticmethod
    def prepare(checkpoint: Path, folder: Path, dtype: str) -> None:
        """Write the checkpoint into an empty folder in the peer's own format, if it has one."""
        ...

    def write(self, work: Sequence[PeerWork]) -> list[list[int]]:
        """Continue every prompt greedily, without ending early: the new tokens of each, in order.

        What a static batch computes for shorter rows beyond what they asked for is cut off.
        """
        ...


def static_batches(work: Sequence[PeerWork], slots: int) -> Iterator[list[PeerWork]]:
    """The work in the order of arrival, `slots` rows at a time."""
    rows = iter(work)
    while batch := list(islice(rows, slots)):
        yield batch


def cut(rows: Sequence[Sequence[int]], work: Sequence[PeerWork]) -> list[list[int]]:
    """Of each row no more than was asked for."""
    return [list(row[: item.new_tokens]) for row, item in zip(rows, work, strict=True)]
