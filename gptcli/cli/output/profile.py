"""The profile of a start: what `--profile-startup` shows.

The clock begins with the process where the system says when that was (Linux does, to 10 ms), else
with gptcli's first line. Stages of the main thread add up to the total; stages of other threads are
listed below it. Not here: stages are recorded by `gptcli.system.stages`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from gptcli.cli.output import records, table
from gptcli.system import stages
from gptcli.system.stages import Stage
from gptcli.system.units import milliseconds, share

RIGHT = {1, 2}
STARTTIME = 22  # the field of /proc/self/stat, as proc(5) counts them


def as_table() -> str:
    """Milliseconds and share of every stage, in aligned columns, one line each."""
    main, beside = _stages()
    total = _total(main)
    width = max(len(name) for name in (*(stage.name for stage in (*main, *beside)), _goal())) + 2
    lines = [_row(stage.name, stage.end - stage.begin, total, width) for stage in main]
    lines.append(_row(_goal(), total, total, width))
    if beside:
        lines.append("in threads meanwhile")
    lines += [
        f"{_row(stage.name, stage.end - stage.begin, total, width)}"
        f"  from {_since(main, stage.begin)} to {_since(main, stage.end)}"
        for stage in beside
    ]
    heading = table.line(("start-up", "ms", "share"), (width, 7, 7), RIGHT, gap="")
    return "\n".join([heading, *lines])


def as_json() -> str:
    """The same in one line of JSON: every stage with its begin and end in ms, and the total."""
    main, beside = _stages()
    shown = [
        {
            "stage": stage.name,
            "begin": _since(main, stage.begin),
            "end": _since(main, stage.end),
            "overlapped": stage.beside,
        }
        for stage in (*main, *beside)
    ]
    return records.quoted({"startup": shown, _goal().replace(" ", "_"): milliseconds(_total(main))})


def _stages() -> tuple[list[Stage], list[Stage]]:
    """The main line from the process's begin, and what ran beside it, each in order."""
    stages.mark("end without a token")
    recorded = stages.recorded()
    main = [stage for stage in recorded if not stage.beside]
    interpreter = Stage("interpreter", min(_process_began(), stages.BORN), stages.BORN)
    return [interpreter, *main], sorted(stage for stage in recorded if stage.beside)


def _process_began() -> float:
    """When this process was started, on the clock of `time.perf_counter`."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        started = int(fields[STARTTIME - 3]) / os.sysconf("SC_CLK_TCK")  # the name had 2 fields
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return stages.BORN
    return time.perf_counter() - age


def _goal() -> str:
    return "to the first token" if stages.reached_first_token() else "total"


def _total(main: Sequence[Stage]) -> float:
    return main[-1].end - main[0].begin


def _since(main: Sequence[Stage], time: float) -> int:
    """Milliseconds from the process's begin."""
    return milliseconds(time - main[0].begin)


def _row(name: str, seconds: float, total: float, width: int) -> str:
    cells = (name, str(milliseconds(seconds)), share(seconds / total))
    return table.line(cells, (width, 7, 6), RIGHT, gap="")
