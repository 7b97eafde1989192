"""Small runs of training in this process, and in forked ones that can be killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gptcli.training.data.options import TrainingData
from gptcli.training.events import TrainingEvent
from gptcli.training.options import (
    Optimization,
    TrainedModel,
    TrainingProgress,
    TrainOptions,
)
from gptcli.training.recipe import TrainingFrame, train

# What changes a disk.
CALLS = ("open", "write", "ftruncate", "mkdir", "rename", "replace", "link", "unlink", "rmdir")
DIED = 86
SHAPE = {"layers": 1, "width": 16, "heads": 2, "context": 32, "vocab_size": 300}
_OF_GROUPS = {
    TrainingData: ("documents", "valid_share", "valid"),
    TrainedModel: (
        *SHAPE,
        "scratch",
        "from_",
        "dropout",
        "lora",
        "threads",
        "freeze",
        "precision",
        "device",
        "compile",
    ),
    Optimization: (
        *("steps", "epochs", "minutes", "batch_tokens", "learning_rate", "schedule", "clip"),
        *("seed", "micro_tokens", "warmup", "optimizer", "weight_decay"),
    ),
}


def write_story(path: Path, sentences: int = 24) -> Path:
    """A text of paragraphs, no two of them the same."""
    who = ("king", "fox", "old woman", "miller", "youngest son")
    did = ("went into the forest", "found a golden bird", "asked for bread", "slept under a tree")
    text = [
        f"On day {number} the {who[number % len(who)]} {did[number % len(did)]}, and when the"
        f" {who[(number * 3 + 1) % len(who)]} heard of it, they were {number % 7} in the house."
        for number in range(sentences)
    ]
    path.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    return path


def asked(data: Path, output: Path, **changes: Any) -> TrainOptions:
    """Options of a run of a few steps; changes by name."""
    values: dict[str, Any] = {
        "scratch": "tiny",
        "steps": 9,
        "batch_tokens": 64,
        "documents": "blank",
        "valid_share": 0.2,
        "eval_every": 3,
        "precision": "float32",
        **SHAPE,
        **changes,
    }
    if "from_" in changes:
        values = {name: value for name, value in values.items() if name not in (*SHAPE, "scratch")}
    groups = {
        kind: kind(**{name: values.pop(name) for name in names if name in values})
        for kind, names in _OF_GROUPS.items()
    }
    return TrainOptions(
        data=(str(data),),
        reading=groups[TrainingData],
        model=groups[TrainedModel],
        optimization=groups[Optimization],
        following=TrainingProgress(output=str(output), **values),
    )


def ran(options: TrainOptions, **frame: Any) -> list[TrainingEvent]:
    """All events of a run."""
    return list(train(options, TrainingFrame(**frame)))


def forked(action: Callable[[], object]) -> int:
    """Do something in a forked process; gives its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
    return child


def ended(child: int) -> int:
    """How a process ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Moments:
    """Calls that change a disk, counted; at the n-th moment the process dies without a word: before
    one, or half-way through a write.
    """

    def __init__(self, moment: int | None) -> None:
        self.moment, self.count = moment, 0
        self._write = os.write

    def install(self) -> None:
        """Let all calls of this process count."""
        for name in CALLS:
            setattr(os, name, self._counted(getattr(os, name)))

    def _reached(self) -> bool:
        self.count += 1
        return self.count == self.moment

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*args: Any, **named: Any) -> Any:
            if call is os_open and not args[1] & (os.O_CREAT | os.O_TRUNC):
                return call(*args, **named)
            if self._reached():
                os._exit(DIED)
            if call is self._write and self._reached():
                self._write(args[0], args[1][: len(args[1]) // 2])
                os._exit(DIED)
            return call(*args, **named)

        return instead


os_open = os.open


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """What of a run must not depend on how often it was killed: the model, the last checkpoint."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix == ".safetensors":
            yield str(path.relative_to(folder)), path.read_bytes()
