"""`gptcli models pull`: a model of the Hub made complete in the cache, as the Hub has it now.

Other commands use a cached model without asking the Hub. This one asks, so it follows a branch
that moved and continues a download that was cut off. It prints the folder on standard output and a
report on stderr. Not here: the download itself is in `gptcli.checkpoints.hub`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gptcli.checkpoints.names import ALIASES, BUNDLED, check_hub_id, check_revision
from gptcli.checkpoints.resolve import MAIN, is_offline
from gptcli.cli.completion import candidates
from gptcli.cli.declaration import command
from gptcli.cli.output.sink import write, write_json
from gptcli.cli.session import Session
from gptcli.errors import Unavailable, UsageError
from gptcli.options import AsJson, HubSource, Load, Talk
from gptcli.system.units import counted, transfer_size

COMMIT_DIGITS = 12  # of a commit, as a person reads it
PATH_BEGINNINGS = (".", "~", "/")


@command(naming=("name",))
def pull(
    name: Annotated[
        str,
        typer.Argument(
            help="Hub id or alias of the model.",
            show_default=False,
            autocompletion=candidates.models,
        ),
    ],
    *,
    shape: AsJson,
    source: HubSource,
    talk: Talk,
) -> None:
    """Download a model, or what is new of it, and check its files.

    Only what a model needs is fetched; a download that was cut off goes on. Prints the folder.
    """
    session = Session.of(talk)
    repo_id = _repo_id(name)
    revision = MAIN if source.revision is None else check_revision(source.revision)
    if is_offline(Load(offline=source.offline)):
        why = "offline, and a pull asks the Hub"
        raise Unavailable(
            repo_id, why, "Leave out --offline, or unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE"
        )
    if name not in ALIASES and Path(name).is_dir():
        session.note(f"-m {name} means the folder of that name here, not the Hub's model")
    with session.waiting(f"asking the Hub for {repo_id}") as progress:
        from gptcli.checkpoints.hub import download

        found = download(repo_id, revision, progress)
    if shape.json:
        write_json(found.to_dict())
    else:
        write(f"{found.folder}\n")
    at = f"{repo_id} at {found.revision[:COMMIT_DIGITS]}"
    count = counted(len(found.files), "file")
    session.note(
        f"fetched {at}: {count}, {transfer_size(found.fetched)} over the network"
        if found.fetched
        else f"already here: {at}, {count}"
    )


def _repo_id(name: str) -> str:
    """The Hub id that a name means. Raises UsageError for what is not a Hub model."""
    if name in ALIASES:
        return ALIASES[name]
    if name == BUNDLED:
        raise UsageError(name, "it is part of gptcli: there is nothing to pull", "Use it with -m")
    hint = "Give a Hub id such as openai-community/gpt2, or an alias such as gpt2"
    if name.startswith(PATH_BEGINNINGS) or name.count("/") > 1:
        raise UsageError(name[:100], "a folder is not on the Hub", hint)
    try:
        return check_hub_id(name)
    except UsageError as error:
        near = error.hint if error.hint.startswith("Did you mean") else hint
        raise UsageError("NAME", error.why, near) from None
