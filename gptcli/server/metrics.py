"""What is counted while the server runs, and its text for Prometheus (format 0.0.4).

Durations of jobs come from `gptcli.server.engine_thread`; gauges are read when the text is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gptcli.server.engine_thread import ClientJob

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
Labels = tuple[tuple[str, str], ...]


@dataclass
class Histogram:
    """How often a value was at most each bound."""

    help: str
    bounds: tuple[float, ...] = SECONDS
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        place = next((at for at, most in enumerate(self.bounds) if value <= most), -1)
        self.counts[place] += 1
        self.sum += value

    def lines(self, name: str) -> Iterator[str]:
        """The samples, cumulative as the format has them."""
        total = 0
        for most, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{most}"}} {total}'
        yield f"{name}_sum {self.sum:.9g}"
        yield f"{name}_count {total}"


@dataclass
class Counter:
    """Numbers that only grow, by their labels."""

    help: str
    values: dict[Labels, int] = field(default_factory=dict)

    def add(self, amount: int = 1, **labels: str) -> None:
        """Count."""
        key = tuple(labels.items())
        self.values[key] = self.values.get(key, 0) + amount

    def lines(self, name: str) -> Iterator[str]:
        """The samples."""
        for labels, value in self.values.items():
            yield sample(name, labels, value)


class Metrics:
    """All that is counted."""

    def __init__(self) -> None:
        self.answers = Counter("Answers by route, method and status; 499: the client went away.")
        self.jobs = Counter("Requests for the model that ended, by how.")
        self.tokens = Counter("Tokens of prompts (and of them, cached ones), and written tokens.")
        for outcome in ("done", "cancelled", "failed"):
            self.jobs.add(0, outcome=outcome)
        for kind in ("prompt", "cached", "completion"):
            self.tokens.add(0, kind=kind)
        self.queue = Histogram("Seconds until the engine began a request.")
        self.first = Histogram("Seconds until the first tokens or scores were there.")
        self.each = Histogram("Seconds for each written token after the first.", TOKEN_SECONDS)
        self.whole = Histogram("Seconds from a request to its end.")

    def observe(self, job: ClientJob) -> None:
        """Count a job that ended."""
        outcome = "failed" if job.failed else "cancelled" if job.cancelled else "done"
        self.jobs.add(outcome=outcome)
        self.tokens.add(job.prompt_tokens, kind="prompt")
        self.tokens.add(job.cached_tokens, kind="cached")
        self.tokens.add(job.completion_tokens, kind="completion")
        if job.started is not None:
            self.queue.observe(job.started - job.submitted)
        if job.first is not None:
            self.first.observe(job.first - job.submitted)
        if job.ended is None or outcome != "done":
            return
        self.whole.observe(job.ended - job.submitted)
        if job.first is not None and job.completion_tokens > 1:
            self.each.observe((job.ended - job.first) / (job.completion_tokens - 1))

    def text(self, gauges: Mapping[str, tuple[str, float]], info: Mapping[str, str]) -> str:
        """The text. gauges: (help, value) by name; info: labels of what runs."""
        counters = {"http_answers": self.answers, "requests": self.jobs, "tokens": self.tokens}
        histograms = {
            "queue_seconds": self.queue,
            "time_to_first_token_seconds": self.first,
            "time_per_output_token_seconds": self.each,
            "request_seconds": self.whole,
        }
        lines = _head("gptcli_info", "What runs.", "gauge")
        lines.append(sample("gptcli_info", tuple(info.items()), 1))
        for name, (help, value) in gauges.items():
            lines += [*_head(f"gptcli_{name}", help, "gauge"), f"gptcli_{name} {value:.9g}"]
        for name, counter in counters.items():
            lines += _head(f"gptcli_{name}_total", counter.help, "counter")
            lines += counter.lines(f"gptcli_{name}_total")
        for name, histogram in histograms.items():
            lines += _head(f"gptcli_{name}", histogram.help, "histogram")
            lines += histogram.lines(f"gptcli_{name}")
        return "\n".join(lines) + "\n"


def sample(name: str, labels: Labels, value: float) -> str:
    """One line."""
    inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"{name}{{{inner}}} {value}" if inner else f"{name} {value}"


def _head(name: str, help: str, kind: str) -> list[str]:
    return [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
