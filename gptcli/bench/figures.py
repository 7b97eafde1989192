"""What was measured: figures, each with the runs of every engine.

Machines are noisy, so a figure keeps every run, and what counts is the median of the ratios of runs
that were made one after the other.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class EngineRuns:
    """The values of one engine, run by run; none where it cannot do this.

    `limit` is the most that the memory's bandwidth allows, where that is known.
    """

    engine: str
    values: tuple[float, ...] = ()
    limit: float | None = None

    @property
    def median(self) -> float:
        """The median of the runs, of which there must be some."""
        return statistics.median(self.values)

    @property
    def share(self) -> float | None:
        """The median as a fraction of the limit."""
        return self.median / self.limit if self.limit and self.values else None

    def to_dict(self) -> dict[str, object]:
        """For `--json`."""
        shown: dict[str, object] = {"engine": self.engine, "runs": list(self.values)}
        if self.values:
            shown["median"] = self.median
        if self.share is not None:
            shown |= {"limit": self.limit, "share": self.share}
        return shown


@dataclass(frozen=True)
class Figure:
    """One measurement: ours, and run for run that of each peer."""

    name: str
    unit: str
    ours: EngineRuns
    theirs: tuple[EngineRuns, ...] = ()
    more_is_better: bool = True

    @property
    def title(self) -> str:
        """Name and unit, and which way is better where it is not plain."""
        named = f"{self.name}, {self.unit}" if self.unit else self.name
        return named if self.more_is_better else f"{named} (less is better)"

    def ratios(self, peer: EngineRuns) -> list[float]:
        """Ours over the peer's, pair by pair; nothing where one of them has no runs."""
        pairs = zip(self.ours.values, peer.values, strict=False)
        return [ours / theirs for ours, theirs in pairs]

    def to_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "name": self.name,
            "unit": self.unit,
            "better": "more" if self.more_is_better else "less",
            "ours": self.ours.to_dict(),
            "theirs": [self._against(peer) for peer in self.theirs],
        }

    def _against(self, peer: EngineRuns) -> dict[str, object]:
        shown, ratios = peer.to_dict(), self.ratios(peer)
        if ratios:
            shown |= {"ratio": statistics.median(ratios), "ratios": ratios}
        return shown
