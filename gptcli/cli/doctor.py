"""`gptcli doctor`: what is the matter here, and what mends it."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer

from gptcli.cli import sink
from gptcli.cli.config import options, tables
from gptcli.cli.listing import AsJson
from gptcli.cli.root import Unconfigured
from gptcli.cli.session import Session
from gptcli.doctor.examination import examine
from gptcli.doctor.findings import Finding
from gptcli.errors import ExitCode
from gptcli.options import Network, Talk
from gptcli.sanitizer import one_line

MARKS = {"ok": "  ", "note": "- ", "problem": "! "}


def doctor(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Measure nothing.")] = False,
    network: Network,
    json: AsJson = False,
    talk: Talk,
) -> int:
    """Look for what is wrong, and say what mends it.

    Versions, machine, speed, models on the disk, the Hub, settings, terminal. The exit code is 1
    where there is a problem. With --quiet only problems are printed.
    """
    with Session.of(talk).waiting("looking around", shown=not json):
        found = list(
            examine(talk.config, options(), tables(), quick=quick, offline=network.offline)
        )
    problems = [finding for finding in found if finding.level == "problem"]
    if json:
        sink.write_json({"findings": [item.to_dict() for item in found], "problems": len(problems)})
    else:
        sink.write(_report(problems if talk.quiet else found, problems))
    return ExitCode.BUG if problems else ExitCode.OK


doctor.command = Unconfigured  # type: ignore[attr-defined]


def _report(shown: list[Finding], problems: list[Finding]) -> str:
    lines = []
    for area, findings in groupby(shown, key=lambda finding: finding.area):
        lines.append(area)
        for finding in findings:
            lines.append(one_line(f"{MARKS[finding.level]}{finding.what}: {finding.value}"))
            if finding.fix and finding.level != "ok":
                lines.append(one_line(f"    {finding.fix}"))
        lines.append("")
    count = len(problems)
    end = "nothing is wrong" if not count else f"{count} problem{'s' * (count > 1)}, marked !"
    return "\n".join([*lines, end, ""])
