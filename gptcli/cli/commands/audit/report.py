"""One report in every shape that is asked for: a table, JSON, rows, a chart.

All outputs are opened before anything is computed, and each file appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gptcli.audit.options import Report, ReportFormat
from gptcli.cli.output.outlets import opened_files
from gptcli.cli.output.records import document, written
from gptcli.cli.output.sink import Sink
from gptcli.cli.session import Session
from gptcli.errors import GptcliError, UsageError
from gptcli.inspection.plots import Bars
from gptcli.inspection.png import image
from gptcli.inspection.svg import drawn

Row = Mapping[str, object]
MAX_ERRORS = 5  # that are said one by one


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a measure found. `details` are the rows of its pairs or prompts, which are `named`."""

    record: Row
    rows: Sequence[Row]
    text: str
    chart: Bars
    named: str
    details: Sequence[Row]


class ReportOutlets:
    """The open outputs of one command."""

    def __init__(self, report: Report, main: Sink, charts: Mapping[ReportFormat, Sink]) -> None:
        self._report, self._main, self._charts = report, main, charts

    def write(self, found: Findings) -> None:
        """Write the findings in all shapes asked for."""
        self._put(self._report.shape, self._main, found)
        for shape, out in self._charts.items():
            self._put(shape, out, found)

    def _put(self, shape: ReportFormat, out: Sink, found: Findings) -> None:
        rows = found.details if self._report.details else found.rows
        match shape:
            case "svg":
                out.write(drawn(found.chart))
            case "png":
                out.write_bytes(image(found.chart))
            case "json":
                more = {found.named: list(found.details)} if self._report.details else {}
                out.write(document({"record": found.record, "rows": list(found.rows), **more}))
            case "text":
                out.write(found.text)
            case _:
                keys = list(dict.fromkeys(key for row in rows for key in row))
                for piece in written(rows, shape, keys):
                    out.write(piece)


@contextmanager
def opened(report: Report) -> Iterator[ReportOutlets]:
    """Open what a report asks for. Raises CannotCreate, and UsageError for a file named twice or
    by a suffix that stands for no format, for details where there are no rows, and for a picture on
    a terminal."""
    shape = report.shape
    if report.details and shape in ("text", "svg", "png"):
        why = f"a report as {shape} has no row for each pair or prompt"
        raise UsageError("--details", why, "Write JSON or CSV: --json, or -o FILE.csv.")
    wanted: dict[ReportFormat, str | None] = {"svg": report.svg, "png": report.png}
    unshown = shape if shape == "png" else None
    with opened_files(report.output, report.force, wanted, unshown) as (main, charts):
        yield ReportOutlets(report, main, charts)


def say_errors(session: Session, errors: Sequence[tuple[str, GptcliError]]) -> None:
    """Say what could not be measured, with its place; of many the first ones and their number."""
    for place, error in errors[:MAX_ERRORS]:
        session.error(f"{place}: {error}")
    if len(errors) > MAX_ERRORS:
        session.error(f"and {len(errors) - MAX_ERRORS} more; --json --details has all")
