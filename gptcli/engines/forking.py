"""Models in a process that was forked: torch on one thread, because the others are not copied.

Whoever waits for a thread that a fork left behind waits for ever, and torch's OpenMP does. So torch
computes on the thread that there is in a child of a process that has used it.
"""

from __future__ import annotations

import os
import sys

from gptcli.errors import Unavailable
from gptcli.protocol import ModelInfo

_watching = False
_child = False  # whether this process is a fork of one that used torch


def watch() -> None:
    """From now on, let torch use one thread in a forked child."""
    global _watching
    if not _watching and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_use_one_thread)
        _watching = True


def in_child() -> bool:
    """Whether more of torch's threads than one would hang."""
    return _child


def check(info: ModelInfo) -> None:
    """Raises Unavailable for a model of the parent that a forked child cannot use."""
    if info.device != "cpu":
        why = f"a process that was forked cannot use the parent's model on {info.device}"
        hint = 'Load it in this process, or start processes by "spawn".'
        raise Unavailable(info.name, why, hint)


def _use_one_thread() -> None:
    global _child
    _child = True
    sys.modules["torch"].set_num_threads(1)
