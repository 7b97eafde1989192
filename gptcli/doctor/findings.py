"""A finding: one line, with its fix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Area = Literal["versions", "machine", "speed", "models", "hub", "settings", "terminal"]
Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`what` was looked at and `value` was found; `fix` says what to do unless all is well.

    A `note` is worth knowing but costs nothing that works; a `problem` is something that fails.
    """

    area: Area
    what: str
    value: str
    level: Level = "ok"
    fix: str = ""

    def to_dict(self) -> dict[str, object]:
        """The shape of `gptcli doctor --json`."""
        return {
            "area": self.area,
            "what": self.what,
            "value": self.value,
            "level": self.level,
            "fix": self.fix or None,
        }


Findings = Iterator[Finding]
