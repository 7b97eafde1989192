"""How far a batch is: counts, speed, and what is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter

from gptcli.batch.run.work import Done
from gptcli.checkpoints.tokenization.text.unknown import UnknownCharacters
from gptcli.system.units import clock


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """A batch that has come to its end: counts of rows and tokens, and the time in seconds.

    `rows` is all rows of the output: `kept` were there, `written` by this run. `failed` of them are
    errors. Tokens and seconds are those of this run, without the loading of the model.
    """

    output: str | None  # the file; None where the rows were sent
    rows: int
    kept: int
    written: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    seed: int  # the same seed gives the same texts
    filtered: int = 0  # rows that a filter ended or dropped
    line: str  # the counts in one line, for people
    estimated: bool = False  # whether a server did not count all tokens

    def to_dict(self) -> dict[str, object]:
        """The summary as JSON, with the speed in rows and tokens a second."""
        seconds = max(self.seconds, 1e-9)
        shown: dict[str, object] = {
            "rows": self.rows,
            "kept": self.kept,
            "written": self.written,
            "failed": self.failed,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.written / seconds, 3),
            "tokens_per_second": round(self.completion_tokens / seconds, 3),
            "output": self.output,
            "seed": self.seed,
        }
        if self.filtered:
            shown["filtered"] = self.filtered
        return {**shown, "estimated": True} if self.estimated else shown


@dataclass
class Tally:
    """Counts of a run; `total` is None where nobody knows how many rows there are."""

    total: int | None = None
    kept: int = 0  # rows that were there already
    rows: int = 0  # written by this run
    failed: int = 0
    filtered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False  # whether a server did not count all tokens
    unknown: UnknownCharacters = field(default_factory=UnknownCharacters)  # of the prompts
    started: float = field(default_factory=perf_counter)

    def add(self, done: Done) -> None:
        """Count a row that was written."""
        self.rows += 1
        self.failed += done.failed
        self.filtered += done.filtered
        self.prompt_tokens += done.prompt_tokens
        self.completion_tokens += done.completion_tokens
        self.unknown.add(done.unknown)
        usage = done.record.get("usage")
        self.estimated |= isinstance(usage, dict) and "estimated" in usage

    @property
    def seconds(self) -> float:
        """Since the start."""
        return perf_counter() - self.started

    @property
    def speed(self) -> float:
        """Rows per second."""
        return self.rows / max(self.seconds, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds until all is done, if that can be told."""
        if self.total is None or not self.rows:
            return None
        return max(self.total - self.kept - self.rows, 0) / self.speed

    def line(self) -> str:
        """How far it is, in one line."""
        done = self.kept + self.rows
        share = f" of {self.total}" if self.total is not None else ""
        tokens = self.completion_tokens / max(self.seconds, 1e-9)
        about = "about " * self.estimated
        speeds = f"{self.speed:.1f} rows/s, {about}{tokens:.0f} tokens/s"
        parts = [
            f"{done}{share} rows",
            speeds if self.rows else "none left to compute" if done == self.total else "",
            f"{self.failed} failed" if self.failed else "",
            f"{self.filtered} filtered" if self.filtered else "",
            f"{clock(self.left)} left" if self.left else "",
        ]
        return ", ".join(filter(None, parts))

    def result(self, output: str | None, seed: int) -> BatchResult:
        """The same at the end of a run."""
        return BatchResult(
            output=output,
            rows=self.kept + self.rows,
            kept=self.kept,
            written=self.rows,
            failed=self.failed,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            seconds=self.seconds,
            seed=seed,
            estimated=self.estimated,
            filtered=self.filtered,
            line=self.line(),
        )
