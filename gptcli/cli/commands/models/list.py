"""`gptcli models list`: a line for every model on the machine.

On a terminal it has a heading and fits the width; on a pipe it has neither, and `-` stands for what
is not known: every line has the same columns.
"""

from __future__ import annotations

import shutil

from gptcli.checkpoints.hf_cache import cache_folder
from gptcli.cli.output.sink import opened, write_json
from gptcli.cli.output.table import table
from gptcli.cli.session import Session
from gptcli.models.entries import ListedModel, inventory
from gptcli.options import AsJson, Output, Talk
from gptcli.system.text.characters import cut, width
from gptcli.system.units import counted, model_size

HEADING = ("model", "size", "revision", "used", "architecture", "context", "kind", "state")
RIGHT_ALIGNED = {1, 5}  # columns
NAME, STATE = 0, 7
MIN_WIDTHS = {STATE: 10, NAME: 16}  # characters; columns are cut in this order
COMMIT_DIGITS = 7


def list_models(*, shape: AsJson, talk: Talk) -> None:
    """List the models on this machine: in the Hugging Face cache, in the package, as int8 weights.

    The default command. A fault of a model stands at the end of its line.
    """
    found = inventory()
    if shape.json:
        write_json([entry.to_dict() for entry in found.entries])
    else:
        rows = [_row(entry) for entry in found.entries]
        with opened(Output()) as out:
            out.write(table(_fitted([HEADING, *rows]) if out.terminal else rows, RIGHT_ALIGNED))
    size = sum({str(entry.path): entry.size for entry in found.entries}.values())
    in_all = f"{model_size(size)} in all; the cache is {cache_folder()}{_unseen(found.others)}"
    Session.of(talk).note(in_all)


def _row(entry: ListedModel) -> tuple[str, ...]:
    return (
        entry.name,
        model_size(entry.size),
        (entry.revision or "-")[:COMMIT_DIGITS],
        f"{entry.used.astimezone():%Y-%m-%d}" if entry.used else "-",
        entry.architecture or "-",
        str(entry.context or "-"),
        entry.kind,
        f"{entry.state}: {entry.fault}" if entry.fault else entry.state,
    )


def _fitted(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rows whose last and first columns are cut so that lines fit the terminal, if that helps."""
    room = shutil.get_terminal_size().columns
    for place, shortest in MIN_WIDTHS.items():
        widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
        over = sum(widths) + 2 * (len(widths) - 1) - room
        if over > 0:
            length = max(widths[place] - over, shortest)
            rows = [(*row[:place], cut(row[place], length), *row[place + 1 :]) for row in rows]
    return rows


def _unseen(others: dict[str, int]) -> str:
    """What else is in the cache, as the end of a sentence."""
    named = [counted(count, kind) for kind, count in others.items()]
    return f", with {' and '.join(named)} that are not shown" if named else ""
