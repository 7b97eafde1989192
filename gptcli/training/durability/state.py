"""Where a run stands: state.json of a checkpoint, strict and with a checksum of its own.

Order and dropout depend on the seed and the number of an epoch or a step, so no state of a random
generator is kept.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from typing import Any

from gptcli.system.strict_json import parse_object

FORMAT = 1
MAX_STATE_BYTES = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")

Knot = tuple[int, float]
"""(step, share): where the schedule stands at a step; see `gptcli.training.pace`."""


@dataclass(frozen=True, kw_only=True)
class BestLoss:
    """The checkpoint whose validation loss is the least so far."""

    step: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """A run after a step, before the validation that may follow it."""

    step: int = 0  # that are done
    epoch: int = 0  # from 0
    piece: int = 0  # of the epoch's order, that comes next
    tokens: int = 0  # input tokens that were read
    seconds: float = 0.0  # of all sessions
    best: BestLoss | None = None
    waited: int = 0  # validations since the best
    start_loss: float | None = None  # of validation, before step 1
    first_loss: float | None = None  # of step 1
    unusable: int = 0  # steps in a row whose loss or gradient was no finite number
    exploded: int = 0  # steps in a row whose loss was far above that of guessing
    knots: tuple[Knot, ...] = ()
    log_bytes: int = 0  # of log.jsonl

    def but(self, **changes: Any) -> TrainingState:
        """The same with some changes."""
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class KeptState:
    """What state.json holds: the run's id, where it stands, and the SHA-256 of each other file."""

    run: str
    state: TrainingState
    files: Mapping[str, str]


def encoded(kept: KeptState) -> bytes:
    """The bytes of state.json."""
    body = {
        "format": FORMAT,
        "run": kept.run,
        "state": asdict(kept.state),
        "files": dict(sorted(kept.files.items())),
    }
    return (_text({**body, "sha256": _digest(body)}) + "\n").encode("ascii")


def decoded(data: bytes) -> KeptState:
    """What the bytes of state.json say. Raises ValueError with the rule that is broken."""
    found = dict(parse_object(data))
    if found.pop("sha256", None) != _digest(found):
        raise ValueError("its checksum is not that of its contents")
    if found.get("format") != FORMAT or found.keys() != {"format", "run", "state", "files"}:
        raise ValueError(f"it is not of format {FORMAT}")
    run, state, files = found["run"], found["state"], found["files"]
    if not isinstance(run, str) or not isinstance(state, dict) or not isinstance(files, dict):
        raise ValueError("run, state or files has a wrong type")
    for name, digest in files.items():
        if not _FILE_NAME.fullmatch(name) or not _SHA256.fullmatch(str(digest)):
            raise ValueError("files does not name files with their SHA-256")
    return KeptState(run=run, state=_state(state), files=files)


def _state(found: dict[str, Any]) -> TrainingState:
    known = {item.name: item for item in fields(TrainingState)}
    if strange := sorted(known.keys() ^ found.keys()):
        raise ValueError(f"{'lacks' if strange[0] in known else 'has'} {strange[0]:.40}")
    whole = [name for name, item in known.items() if item.type == "int"]
    if not all(_counts(found[name]) for name in whole):
        raise ValueError("a count is not a whole number from 0")
    if not _is_number(found["seconds"]):
        raise ValueError("seconds is no number")
    for name in ("start_loss", "first_loss"):
        if found[name] is not None and not _is_number(found[name]):
            raise ValueError(f"{name} is no number")
    return TrainingState(**{**found, "best": _best(found["best"]), "knots": _knots(found["knots"])})


def _best(found: Any) -> BestLoss | None:
    if found is None:
        return None
    if not isinstance(found, dict) or found.keys() != {"step", "loss"}:
        raise ValueError("best is not a step and its loss")
    if not _counts(found["step"]) or not _is_number(found["loss"]):
        raise ValueError("best is not a step and its loss")
    return BestLoss(**found)


def _knots(found: Any) -> tuple[Knot, ...]:
    if not isinstance(found, list):
        raise ValueError("knots is not a list")
    for knot in found:
        if not isinstance(knot, list) or len(knot) != 2:
            raise ValueError("a knot is not a step and a share")
        if not _counts(knot[0]) or not _is_number(knot[1]):
            raise ValueError("a knot is not a step and a share")
    return tuple((step, float(share)) for step, share in found)


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def _text(value: object) -> str:
    return json.dumps(value, allow_nan=False, sort_keys=True, indent=1)


def _digest(body: Mapping[str, object]) -> str:
    return sha256(_text(body).encode("ascii")).hexdigest()
