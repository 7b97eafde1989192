"""Models in a process that was forked: one thread, because the others are not copied.

Whoever waits for a thread that a fork left behind waits for ever, and torch's OpenMP does. So a
child of a process that has used torch computes on the thread that it has.
"""

from __future__ import annotations

import os

from gptcli.errors import Unavailable
from gptcli.protocol import ModelInfo

_watching = False
_child = False  # whether this process is a fork of one that used torch


def watch() -> None:
    """From now on, let a forked child use one thread; torch has to be imported."""
    global _watching
    if not _watching and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_use_one_thread)
        _watching = True


def in_child() -> bool:
    """Whether more threads than one would hang."""
    return _child


def check(info: ModelInfo) -> None:
    """Raises Unavailable for a model of the parent that a forked child cannot use."""
    if info.device != "cpu":
        why = f"a process that was forked cannot use the parent's model on {info.device}"
        hint = 'Load it in this process, or start processes by "spawn".'
        raise Unavailable(info.name, why, hint)


def _use_one_thread() -> None:
    global _child
    import torch

    torch.set_num_threads(1)
    _child = True
