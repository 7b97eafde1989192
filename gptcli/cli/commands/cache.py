"""`gptcli cache`: list and remove int8 weights kept on disk.

Removed weights are made again when a command needs them.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gptcli.checkpoints import int8_store
from gptcli.checkpoints.int8_store import StoredWeights
from gptcli.checkpoints.names import ALIASES
from gptcli.cli.command_groups import Listing, group
from gptcli.cli.output.sink import write, write_json
from gptcli.cli.output.table import table
from gptcli.cli.root import register
from gptcli.cli.session import Session
from gptcli.errors import UsageError, WriteFailed
from gptcli.options import Agreement, AsJson, Talk
from gptcli.system.os_errors import reason
from gptcli.system.units import counted, model_size

HOW_TO_LIST = "gptcli cache shows them all."

cache = group("Show and remove the int8 weights kept on disk.", Listing)


def list_weights(*, shape: AsJson, talk: Talk) -> None:
    """List kept weights: model, data type, size, last use. The default command."""
    found = int8_store.entries()
    if shape.json:
        write_json([entry.to_dict() for entry in found])
        return
    rows = [(_name(entry), entry.dtype, model_size(entry.size), _used(entry)) for entry in found]
    write(table(rows, right={2}))
    total = model_size(sum(entry.size for entry in found)) if found else "nothing"
    Session.of(talk).note(f"{total} in {int8_store.folder()}")


def clear(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Only those of this model.", show_default=False, autocompletion=lambda: _models()
        ),
    ] = None,
    *,
    agreement: Agreement,
    talk: Talk,
) -> None:
    """Remove all kept weights, or those of one model."""
    session = Session.of(talk)
    found = [entry for entry in int8_store.entries() if name is None or _meant(entry, name)]
    if not found:
        if name is not None:
            raise UsageError(name, "no weights of such a model are kept", HOW_TO_LIST)
        return
    size = model_size(sum(entry.size for entry in found))
    count = counted(len(found), "file")
    if not agreement.yes and not session.agreed(f"Remove {count}, {size}?", "gptcli cache clear"):
        return
    for entry in found:
        try:
            int8_store.remove(entry)
        except OSError as error:
            hint = "Check the permissions of its folder."
            raise WriteFailed(str(entry.path), reason(error), hint) from None
    session.note(f"removed {count}, {size}")


for _command_name, _command in {"list": list_weights, "clear": clear}.items():
    register(cache, _command_name, _command)


def _models() -> list[str]:
    """Models of which weights are kept, for completion."""
    return sorted({entry.model for entry in int8_store.entries() if entry.model})


def _meant(entry: StoredWeights, name: str) -> bool:
    """Whether a name, an alias, or the last part of either is that of an entry's model."""
    return name in (_name(entry), entry.model.rpartition("/")[2]) or (
        ALIASES.get(name, name) == entry.model
    )


def _name(entry: StoredWeights) -> str:
    return entry.model or "(unreadable)"


def _used(entry: StoredWeights) -> str:
    return f"{entry.used.astimezone():%Y-%m-%d %H:%M}"
