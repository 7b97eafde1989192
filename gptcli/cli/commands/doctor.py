"""`gptcli doctor`: check this installation and suggest fixes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from gptcli.cli.commands.config import options, tables
from gptcli.cli.declaration import command
from gptcli.cli.output import sink
from gptcli.cli.session import Session
from gptcli.doctor.examination import examine
from gptcli.doctor.findings import Finding
from gptcli.errors import ExitCode
from gptcli.options import AsJson, Network, Talk
from gptcli.options.shared import ASKED
from gptcli.options.spec import Options, option
from gptcli.system.sanitizer import one_line

MARKS = {"ok": "  ", "note": "- ", "problem": "! "}


@dataclass(frozen=True, kw_only=True)
class Examination(Options):
    """How much is examined."""

    panel = "General"

    quick: bool = option(False, "--quick", "Measure nothing.", instead=ASKED)


@command(configured=False)
def doctor(
    *,
    extent: Examination,
    network: Network,
    shape: AsJson,
    talk: Talk,
) -> int:
    """Check this installation and suggest fixes.

    Versions, machine, speed, models on the disk, the Hub, settings, terminal. The exit code is 1
    where there is a problem. With --quiet only problems are printed.
    """
    with Session.of(talk).waiting("looking around", shown=not shape.json):
        found = list(
            examine(talk.config, options(), tables(), quick=extent.quick, offline=network.offline)
        )
    problems = [finding for finding in found if finding.level == "problem"]
    if shape.json:
        sink.write_json({"findings": [item.to_dict() for item in found], "problems": len(problems)})
    else:
        sink.write(_report(problems if talk.quiet else found, problems))
    return ExitCode.BUG if problems else ExitCode.OK


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
